"""What is proven to be the same is the same: networks with random changes, run in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_pairs import network_of_small
from parity import images, weights_of

from resnet_spec.compare import Effect, compare
from resnet_spec.compare.canonical import meaning
from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Network
from resnet_spec.ir.evaluate import outputs
from resnet_spec.language.renames import renamed

# Changes that can be made one beside the other; some change nothing, some what is computed.
CHANGES = (
    ("kernel: 3, stride: stride}", "kernel: 3, stride: stride, padding: same}"),
    ("{norm: bn1}\n      ", "{norm: bn1, eps: 1.0e-4}\n      "),
    ("{norm: bn2, ", "{norm: bn2, momentum: 0.3, "),
    ("{norm: bn2, ", "{norm: bn2, init: zeros, "),
    ("{act: act2}", "{gelu: act2}"),
    ("{act: act2}", "{identity: nothing}\n      - {act: act2}"),
    ("{act: act2}", "{act: act2}\n      - {drop_path: drop, rate: 0.1}"),
    ("[residual, shortcut]", "[shortcut, residual]"),
    ("{conv: conv2", "{conv: second"),
    ("{conv: conv2", "{conv: conv2, eps: 0.5"),
    ("{conv: conv2", "{conv: conv2, standardize: true"),
    ("{conv: conv2", "{conv: conv2, dilation: 2, padding: 2"),
    ("name: layer1", "name: stage1"),
    ("name: layer2", "name: outer.inner"),
    ("{global_avg_pool: avgpool}", "{max_pool: pool, kernel: 1}\n  - {global_avg_pool: avgpool}"),
    ("{global_avg_pool: avgpool}", "{subsample: sub, stride: 2}\n  - {global_avg_pool: avgpool}"),
    ("{linear: fc", "{rescale: twice, factor: 2}\n  - {linear: fc"),
    ("{linear: fc", "{dropout: dropout, rate: 0.5}\n  - {linear: fc"),
)

IMAGES = images(1, 3, 32, 32)


def variant(chosen: list[int]) -> Network | None:
    """SMALL with some of the changes; None where they do not go together."""
    try:
        return network_of_small(*(CHANGES[number] for number in chosen))
    except (AssertionError, SpecError):
        return None


@settings(max_examples=60)
@given(*[st.lists(st.integers(0, len(CHANGES) - 1), max_size=4, unique=True)] * 2)
def test_what_is_proven_is_so(first: list[int], second: list[int]) -> None:
    old, new = variant(first), variant(second)
    if old is None or new is None:
        return
    found = compare(old, new)
    if found.function == "differs":
        assert found.effect is not Effect.SAME
        return
    weights = weights_of(old)
    carried = {
        renamed(name, found.tensors.renames if found.function != "same" else {}): value
        for name, value in weights.items()
    }
    before, after = outputs(old, weights, IMAGES), outputs(new, carried, IMAGES)
    assert np.allclose(before.logits, after.logits, rtol=0, atol=1e-9)
    pairs = zip(before.stages.values(), after.stages.values(), strict=True)
    assert all(np.allclose(a, b, rtol=0, atol=1e-9) for a, b in pairs)


def test_each_change_is_found_or_proven_harmless() -> None:
    """Alone, a change is proven the same exactly where running it shows no difference."""
    old = network_of_small()
    weights = weights_of(old)
    for number, change in enumerate(CHANGES):
        new = variant([number])
        assert new is not None
        found = compare(old, new)
        carried = {renamed(n, found.tensors.renames): v for n, v in weights.items()}
        before = outputs(old, weights, IMAGES).logits
        after = outputs(new, carried, IMAGES).logits
        same = np.allclose(before, after, rtol=0, atol=1e-9)
        assert same == (found.function != "differs"), change


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_padding_by_size_is_a_number_only_where_it_is_always_the_same(
    kernel: int, stride: int
) -> None:
    text = f"kernel: {kernel}, stride: {stride}"
    edit = (
        "{conv: conv1, filters: 16, kernel: 3}",
        f"{{conv: conv1, filters: 16, {text}, padding: %s}}",
    )
    by_size = network_of_small((edit[0], edit[1] % "same"))
    by_number = network_of_small((edit[0], edit[1] % ((kernel - 1) // 2)))
    meanings = [
        meaning(next(operation for name, operation in each.operations() if name == "conv1"))
        for each in (by_size, by_number)
    ]
    assert (meanings[0] == meanings[1]) == (stride == 1 and kernel % 2 == 1)
