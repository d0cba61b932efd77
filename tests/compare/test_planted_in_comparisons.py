"""Mistakes planted in the comparison, each of which the known pairs find."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import cast

import pytest
from known_pairs import CASES, Case
from test_known_pairs import check_class

from resnet_spec.compare import align, canonical, changes, comparison, renaming, tensors
from resnet_spec.ir import Operation

Patch = pytest.MonkeyPatch


def ignoring(*names: str) -> Callable[[Patch], None]:
    """Attributes that count for nothing in the proof."""
    real = canonical.meaning

    def mistaken(operation: Operation) -> Hashable:
        name, told = cast(tuple[str, tuple[tuple[str, object], ...]], real(operation))
        return name, tuple(each for each in told if each[0] not in names)

    return lambda patch: patch.setattr(canonical, "meaning", mistaken)


def without_renames(patch: Patch) -> None:
    patch.setattr(tensors, "rules", lambda wanted, others: None)


def without_names(patch: Patch) -> None:
    real = canonical.sameness
    patch.setattr(comparison, "sameness", lambda old, new, renaming: real(old, new, None))


def unproven_rules(patch: Patch) -> None:
    patch.setattr(renaming, "_leads", lambda found, wanted, rest: True)


def any_order(patch: Patch) -> None:
    for module in (canonical, changes):
        patch.setattr(module, "COMMUTATIVE", frozenset({"add", "multiply", "concat"}))


def nothing_neutral(patch: Patch) -> None:
    patch.setattr(canonical, "_NEUTRAL", frozenset())


def kinds_mixed_up(patch: Patch) -> None:
    patch.setattr(align, "_can_be_one", lambda old, new: True)


def maps_forgotten(patch: Patch) -> None:
    patch.setattr(canonical.Sameness, "whole", property(lambda self: self.logits))
    patch.setattr(changes, "_feature_maps", lambda network: "")


def any_share(patch: Patch) -> None:
    patch.setattr(comparison, "ENOUGH", 0.0)


# What is planted, and some of the pairs that find it.
MISTAKES: dict[str, tuple[Callable[[Patch], None], set[str]]] = {
    "epsilon counts for nothing": (ignoring("eps"), {"epsilon"}),
    "stride counts for nothing": (ignoring("stride"), {"v1 and v1.5", "stride"}),
    "dilation and padding count for nothing": (
        ignoring("dilation", "padding", "stride"),
        {"dilated"},
    ),
    "a renamed tensor is taken for a new one": (
        without_renames,
        {"renamed stages", "a renamed layer in every block", "50 and 50-D"},
    ),
    "whose weights they are counts for nothing": (
        without_names,
        {"names of two layers of one shape exchanged"},
    ),
    "rules are told untried": (unproven_rules, {"names of two layers exchanged"}),
    "the order of a concatenation counts for nothing": (
        any_order,
        {"inputs of a concatenation exchanged"},
    ),
    "dropout counts in evaluation": (nothing_neutral, {"dropout in front of the classifier"}),
    "a norm is taken for a convolution": (kinds_mixed_up, {"50 and 50-D"}),
    "feature maps count for nothing": (maps_forgotten, {"no feature map"}),
    "any share of the weights is enough": (any_share, {"50 and wide 50"}),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_it_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, expected = MISTAKES[name]
    plant(monkeypatch)
    cases = [case for case in CASES if case.name in expected]
    assert len(cases) == len(expected)
    assert {case.name for case in cases if _fails(case)} == expected


def _fails(case: Case) -> bool:
    try:
        check_class(case)
    except AssertionError:
        return True
    return False
