"""The tests of pictures find what is planted, by moving boxes or by telling wrong numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import picture
import pytest
import recount
from parity import network_of

from resnet_spec.drawing import (
    Drawing,
    columns,
    figure,
    inset,
    labels,
    ordering,
    render,
    routing,
    strip,
    symbols,
    tower,
    variants,
    words,
)
from resnet_spec.drawing.figure import Inset

NAMES = ("resnest50d", "res2net50_26w_4s", "dpn68", "skresnet50d", "densenet121")


def found() -> str:
    faults = []
    for name in NAMES:
        network = network_of(name)
        text = render(Drawing(network).page())
        read = picture.read(text)
        faults += picture.faults(text, read) + recount.wrong_numbers(network, read)
    return "\n".join(faults)


def test_nothing_is_found_where_nothing_is_planted() -> None:
    assert found() == ""


@pytest.mark.parametrize(
    ("module", "name", "value", "expected"),
    [
        (columns, "PAD", -4.0, "over the edge of its"),
        (columns, "SLACK", 0.7, "over the edge of its"),
        (ordering, "BETWEEN_BOXES", -60.0, "box on box"),
        (ordering, "BESIDE_LINE", -30.0, "line through a box"),
        (routing, "GAP", -9.5, "box on box"),
        (inset, "_TOP", 30.0, "text on text"),
        (strip, "_AXIS", 82.0, "line through a text"),
    ],
)
def test_marks_in_the_wrong_place(
    module: Any, name: str, value: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(getattr(module, name), float)
    monkeypatch.setattr(tower, "is_clear", lambda graph: True)  # which would mend it
    monkeypatch.setattr(module, name, value)
    assert expected in found()


def test_columns_in_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tower, "is_clear", lambda graph: True)
    monkeypatch.setattr(ordering._Search, "price", lambda self, order: 0.0)
    assert "line through" in found() or "line on line" in found()


def changed(function: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        return change(function(*arguments, **named))

    return wrapper


@pytest.mark.parametrize(
    ("module", "name", "change", "expected"),
    [
        (symbols, "_product", lambda text: "3" + text.lstrip("0123456789"), "is drawn, but not"),
        (symbols, "number", lambda number: number + 1, "is drawn, but not there"),
        (labels, "_notes", lambda notes: [], "is there, but not drawn"),
        (labels, "_window", lambda text: "5×5", "conv 5"),
        (labels, "bracket", lambda lines: lines[1:], "stem: "),
        (strip, "count", lambda text: text.replace("M", "k"), "are drawn as"),
        (figure, "_parameters", lambda number: number - 1, "do not add up"),
    ],
)
def test_wrong_numbers(
    module: Any,
    name: str,
    change: Callable[[Any], Any],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    function = changed(getattr(module, name), change)
    for each in (module, strip, words):  # which import it by its name
        if hasattr(each, name):
            monkeypatch.setattr(each, name, function)
    assert expected in found()


def test_blocks_that_are_taken_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that name different blocks at the same place, of which one lacks a pooling."""

    def merged(insets: Sequence[Inset], nested: Mapping[int, Inset]) -> dict[Inset, Inset]:
        return variants.merged(insets, dict.fromkeys(nested, insets[0]))

    monkeypatch.setattr(figure, "merged", merged)
    assert "is there, but not drawn" in found()


def test_a_block_that_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = figure._Collector.runs
    monkeypatch.setattr(figure._Collector, "runs", changed(runs, lambda r: list(r)[:-1]))
    assert "are not" in found()


def test_a_line_that_ends_nowhere() -> None:
    text = render(Drawing(network_of("resnest50d")).page())
    panel = text.index("<g><title>Block A,")
    tip = text.index('class="rs-tip"', panel)
    start = text.rindex('<path d="M', 0, tip) + 10
    moved = f"{text[:start]}3 3{text[text.index('L', start) :]}"
    assert "a line ends nowhere: 3.0 3.0" in picture.faults(moved)
