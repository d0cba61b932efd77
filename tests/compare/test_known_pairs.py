"""Pairs whose class is known; what is said to load is loaded into the compiled PyTorch model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import parity
import pytest
from known_pairs import CASES, Case

from resnet_spec.backends.torch.variables import COUNTERS
from resnet_spec.compare import RULES, Comparison, Effect, compare
from resnet_spec.compare.tensors import shapes
from resnet_spec.ir import Network
from resnet_spec.language.library import builtin_specs
from resnet_spec.language.renames import renamed

IDS = [case.name for case in CASES]
# A quarter of the channels, so that PyTorch is done in a second.
NARROW = tuple(f"stages.layer{n + 1}.filters={16 * 2**n}" for n in range(4))


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_class(case: Case) -> None:
    check_class(case)


def check_class(case: Case) -> None:
    """Raises `AssertionError` where the class, a rule or a rename is another than is known."""
    found = compare(*case.networks())
    told = {each.rule for each in found.changes if RULES[each.rule].effect is not Effect.PART}
    assert (found.effect.value, found.function) == (case.effect, case.function)
    assert sorted(told - {"weights-few"}) == sorted(case.rules)
    assert found.tensors.renames == case.renames


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_every_tensor_is_told_once(case: Case) -> None:
    old, new = case.networks()
    tensors = compare(old, new).tensors
    ours = [*tensors.fitting, *tensors.lost, *(pair[0] for pair in tensors.renamed)]
    theirs = [*tensors.fitting, *tensors.new, *(pair[1] for pair in tensors.renamed)]
    assert sorted([*ours, *(each.old_name for each in tensors.reshaped)]) == sorted(shapes(old))
    assert sorted([*theirs, *(each.new_name for each in tensors.reshaped)]) == sorted(shapes(new))


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_other_way_round(case: Case) -> None:
    """What is new one way is gone the other way, and what is proven is proven both ways."""
    old, new = case.networks()
    there, back = compare(old, new), compare(new, old)
    assert (there.effect, there.function) == (back.effect, back.function)
    assert sorted(there.tensors.fitting) == sorted(back.tensors.fitting)
    assert sorted(there.tensors.new) == sorted(back.tensors.lost)
    assert sorted((b, a) for a, b in there.tensors.renamed) == sorted(back.tensors.renamed)


# --- in PyTorch ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def precise() -> Iterator[None]:
    with parity.float64():
        yield


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_loading(case: Case, precise: None) -> None:
    """Random weights of the old model load into the new one as reported, and no others do."""
    old, new = case.networks(*NARROW)
    found = compare(old, new)
    assert found.effect.value == case.effect
    check_loading(old, new, found)


def check_loading(old: Network, new: Network, found: Comparison) -> None:
    """Raises `AssertionError` where PyTorch shows that a comparison is wrong."""
    ours, theirs = parity.build(old, "torch"), parity.build(new, "torch")
    parity.randomize(ours)
    parity.randomize(theirs, seed=1)
    state, wanted = ours.state_dict(), theirs.state_dict()
    counters = tuple(COUNTERS.values())
    as_it_is = _fitting(state, wanted)
    fitting = sorted(name for name in as_it_is if not name.endswith(counters))
    assert sorted(found.tensors.fitting) == fitting or found.tensors.renames
    if found.effect in (Effect.SAME, Effect.LOADS):
        theirs.load_state_dict(state, strict=True)
        same = _computes_the_same(ours, theirs, old, new)
        assert same == (found.function == "same")
        assert same or found.effect is Effect.LOADS
    elif not found.tensors.renames:
        assert len(as_it_is) < max(len(state), len(wanted))
        _load_in_part(theirs, state, found)
    if found.tensors.renames:
        state = {renamed(name, found.tensors.renames): value for name, value in state.items()}
        _load_in_part(theirs, state, found)
        same = _computes_the_same(ours, theirs, old, new)
        assert same == (found.function == "same-after-renames")


def _fitting(state: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in state.items()
        if name in wanted and wanted[name].shape == value.shape
    }


def _load_in_part(model: Any, state: dict[str, Any], found: Comparison) -> None:
    """Exactly the tensors that are reported as missing do not load."""
    wanted = model.state_dict()
    loading = _fitting(state, wanted)
    result = model.load_state_dict(loading, strict=False)
    counters = tuple(COUNTERS.values())
    tensors = found.tensors
    missing = {*tensors.new, *(each.new_name for each in tensors.reshaped)}
    assert {n for n in result.missing_keys if not n.endswith(counters)} == missing
    left = {name for name in state if name not in loading and not name.endswith(counters)}
    assert len(left) == len(tensors.lost) + len(tensors.reshaped)
    assert not result.unexpected_keys
    _check_shares(state, wanted, loading, found)


def _check_shares(
    state: dict[str, Any], wanted: dict[str, Any], loading: dict[str, Any], found: Comparison
) -> None:
    counters = tuple(COUNTERS.values())

    def size(tensors: dict[str, Any]) -> int:
        return sum(v.numel() for name, v in tensors.items() if not name.endswith(counters))

    shares = size(loading) / size(state), size(loading) / size(wanted)
    assert all(map(math.isclose, shares, found.tensors.shares))
    if found.effect is not Effect.LOADS:  # where all loads, and some for other layers
        assert (max(shares) < 0.5) == (found.effect is Effect.BREAK)


def _computes_the_same(ours: Any, theirs: Any, old: Network, new: Network) -> bool:
    """Whether logits and feature maps, in their order, are the same for an image in evaluation."""
    if old.input.channels != new.input.channels:
        return False
    ours.eval()
    theirs.eval()
    batch = parity.images(2, old.input.channels, 64, 56)
    first, second = (list(parity.torch_outputs(m, batch).values()) for m in (ours, theirs))
    if [each.shape for each in first] != [each.shape for each in second]:
        return False
    return all(parity.difference(a, b) < 1e-9 for a, b in zip(first, second, strict=True))


# --- pairs of which nothing is known -------------------------------------------------------------

SPECS = sorted((Path(__file__).parents[1] / "specs").glob("*.yaml"))


@pytest.mark.parametrize("name", sorted(builtin_specs())[::9])
def test_a_network_is_what_it_is(name: str) -> None:
    found = compare(parity.network_of(name), parity.network_of(name))
    assert (found.effect, found.function, found.changes) == (Effect.SAME, "same", ())


@pytest.mark.torch
@pytest.mark.parametrize(
    "pair", [*pairwise(SPECS)], ids=lambda pair: f"{pair[0].stem}-{pair[1].stem}"
)
def test_loading_between_networks_that_differ_in_much(
    pair: tuple[Path, Path], precise: None
) -> None:
    old, new = (parity.network_of(path) for path in pair)
    check_loading(old, new, compare(old, new))
