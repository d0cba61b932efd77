"""A wrong number in a block is told where the value was given that it follows from."""

from __future__ import annotations

import pytest

from resnet_spec.diagnostics import Diagnostic, SpecError
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

HEAD = """spec_version: 1
name: net
description: a net
input: {channels: 32, height: 32, width: 32}
"""
BLOCKS = """blocks:
  grouped:
    description: A convolution whose groups and window are given from outside
    args: {filters: int, groups: 1, kernel: 3, dilation: 1, padding: 1, half: 0.5}
    let: {width: int(filters * half), rest: filters - width}
    layers:
      - {conv: conv, filters: filters, kernel: kernel, groups: groups, dilation: dilation}
      - {norm: bn}
      - {max_pool: pool, kernel: kernel, padding: padding, stride: 1}
      - {conv: narrow, filters: width, kernel: 1}
      - {split: parts, parts: groups, as: part}
      - {dropout: drop, from: part.0, rate: half}
      - {conv: other, filters: rest // 2 if rest > 1 else rest / 2, kernel: 1}
  around:
    description: Two blocks, the second of which is given a constant
    args: {filters: int, groups: 1}
    slots: {inner: none, middle: none}
    layers:
      - {block: grouped, name: first, filters: filters, groups: groups}
      - {slot: inner, name: inner}
      - {block: holder, name: second, inner: middle}
  holder:
    description: A slot
    slots: {inner: none}
    layers: [{slot: inner, name: inner}]
  halved:
    description: A block that gives a constant beside what it is given
    args: {filters: int}
    layers:
      - {block: grouped, name: half, filters: filters, groups: 2}
  given:
    description: A slot that is filled with an argument of the block
    args: {filters: int, times: 1}
    layers:
      - {block: holder, name: held, inner: {efficient: {reduction: 4 * times}}}
  efficient:
    description: A division
    args: {reduction: int}
    let: {filters: in_channels // reduction}
    layers: [{conv: conv, filters: filters, kernel: 1}]
  wrong:
    description: A block with a mistake of its own
    args: {filters: int}
    layers: [{conv: conv, filters: filters, kernel: 0}]
"""


def told(spec: str) -> tuple[list[Diagnostic], tuple[int, int] | None]:
    """What is told of a spec, and the place of the mark `§` in it."""
    text = HEAD + BLOCKS + spec
    before, mark, _ = text.partition("§")
    place = (before.count("\n") + 1, len(before) - before.rfind("\n")) if mark else None
    loaded = load("net.yaml", Library(), text=text.replace("§", "").encode())
    with pytest.raises(SpecError) as caught:
        lower(loaded)
    return list(caught.value.diagnostics), place


def stage(given: str, defaults: str = "{}") -> str:
    return f"defaults: {defaults}\nstages:\n  - {{name: layer1, {given}}}\n"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (stage("block: basic, filters: §0"), "'filters' must be at least 1, but is 0"),
        (
            stage("block: basic, repeat: 2, filters: 32, stride: §0"),
            "'stride' must be at least 1, but is 0",
        ),
        (
            stage("block: basic, repeat: 2, filters: [32, §0]"),
            "'filters' must be at least 1, but is 0",
        ),
        (
            stage("block: bottleneck, filters: 32, expansion: §0"),
            "'filters' must be at least 1, but is 0, given 'expansion: 0'",
        ),
        (
            stage("block: bottleneck, filters: 32, base_width: §1"),
            "'filters' must be at least 1, but is 0, given 'filters: 32', 'base_width: 1'",
        ),
        (
            stage("block: grouped, filters: 32, groups: §3"),
            "conv: 32 input channels are not divisible by 3 groups, given 'groups: 3'",
        ),
        (
            stage("block: around, filters: 32, groups: §3"),
            "conv: 32 input channels are not divisible by 3 groups, given 'groups: 3'",
        ),
        (
            stage("block: around, filters: 32", "{around: {groups: §3}}"),
            "conv: 32 input channels are not divisible by 3 groups, given 'groups: 3'",
        ),
        (
            stage("block: around, filters: 32, inner: {grouped: {filters: §0}}"),
            "'filters' must be at least 1, but is 0",
        ),
        (
            stage("block: around, filters: 32, middle: {grouped: {filters: §0}}"),
            "'filters' must be at least 1, but is 0",
        ),
        (
            stage("block: around, filters: 32, inner: {holder: {inner: {grouped: {filters: §0}}}}"),
            "'filters' must be at least 1, but is 0",
        ),
        (
            stage("block: around, filters: 32", "{around: {middle: {grouped: {filters: §0}}}}"),
            "'filters' must be at least 1, but is 0",
        ),
        (
            stage("block: grouped, filters: 32, act: silu, norm: {group_norm: {groups: §5}}"),
            "bn: 32 channels can't be divided into 5 equal groups, given 'groups: 5'",
        ),
        (
            stage("block: grouped, filters: 32", "{norm: {group_norm: {groups: §5}}}"),
            "bn: 32 channels can't be divided into 5 equal groups, given 'groups: 5'",
        ),
        (
            stage("block: grouped, filters: 32", "{norm: group_norm, group_norm: {groups: §5}}"),
            "bn: 32 channels can't be divided into 5 equal groups, given 'groups: 5'",
        ),
        (
            stage("block: grouped, filters: 32, kernel: §99"),
            "pool: the 99x99 window does not fit into the 32x32 map padded by 1, "
            "given 'kernel: 99'",
        ),
        (
            stage("block: grouped, filters: 32, padding: §2"),
            "pool: padding 2 is more than half of the kernel 3, given 'padding: 2'",
        ),
        (
            stage("block: grouped, filters: 32, half: §1"),
            "'rate' must be at most 0.999, but is 1.0, given 'half: 1'",
        ),
        (
            stage("block: cbam, reduction: §0"),
            "'max(in_channels // reduction, 1)': division by zero: 32 // 0, given 'reduction: 0'",
        ),
        (
            stage("block: halved, filters: §33"),
            "conv: 33 filters are not divisible by 2 groups, given 'filters: 33'",
        ),
        (
            stage("block: given, filters: 32, times: §0"),
            "'in_channels // reduction': division by zero: 32 // 0, given 'times: 0'",
        ),
        (
            stage("block: res2net, filters: 64, scale: §0"),
            "'count' must be at least 0, but is -1, given 'scale: 0'",
        ),
    ],
)
def test_where_the_value_was_given(spec: str, message: str) -> None:
    found, place = told(spec)
    (wrong,) = (each for each in found if each.message == message)
    assert wrong.span is not None
    assert (wrong.span.line, wrong.span.column) == place
    # The chain ends in the block, at what is wrong there.
    inner = wrong.uses[-1].span
    assert (inner.path, inner.line) != (wrong.span.path, wrong.span.line)
    assert len({each.span for each in found}) == 1


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        (stage("block: wrong, filters: 32"), "layers: [{conv: conv, filters: filters, kernel: 0"),
        (stage("block: grouped, filters: 2"), "filters: rest // 2 if rest > 1"),
    ],
)
def test_a_mistake_of_the_block_is_told_there(spec: str, part: str) -> None:
    (wrong,), _ = told(spec)
    lines = (HEAD + BLOCKS).splitlines()
    assert wrong.span is not None
    assert part in lines[wrong.span.line - 1]
