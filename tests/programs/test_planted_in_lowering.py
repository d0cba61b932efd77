"""Mistakes planted in the lowering, each found by wiring that was worked out by hand.

IR, replay, stand-ins and the value in numpy all stand on what the lowering reads, so that none of
them can tell a mistake in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from regression_cases import CASES, network_of, uses_of

from resnet_spec.language import name_resolution
from resnet_spec.language.syntax import Bound, Expression, Reference, Statement
from resnet_spec.lower import arguments, frame, walk

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]


def else_is_ignored(patch: Patch) -> None:
    original = walk.Walk.passing

    def changed(self: walk.Walk, statement: Statement, within: frame.Frame) -> frame.Value:
        return original(self, statement._replace(otherwise=None), within)

    patch.setattr(walk.Walk, "passing", changed)


def from_is_ignored(patch: Patch) -> None:
    original = walk.Walk.inputs

    def changed(self: walk.Walk, statement: Statement, within: frame.Frame) -> Any:
        one = statement._replace(inputs=()) if len(statement.inputs) == 1 else statement
        return original(self, one, within)

    patch.setattr(walk.Walk, "inputs", changed)


def defaults_before_calls(patch: Patch) -> None:
    original = arguments.Evaluator.argument_sources

    def changed(self: arguments.Evaluator, statement: Statement, block: Any, *rest: Any) -> Any:
        found = original(self, statement, block, *rest)
        return {**found, **self.defaults.get(block.name, {})}

    patch.setattr(arguments.Evaluator, "argument_sources", changed)


def a_turn_fewer(patch: Patch) -> None:
    original = name_resolution.repetitions

    def changed(expression: Expression, scope: Any, key: str, least: int = 1) -> int:
        count = original(expression, scope, key, least)
        return count - 1 if key == "count" and count > 1 else count

    patch.setattr("resnet_spec.lower.walk.repetitions", changed)


def a_name_keeps_its_first_value(patch: Patch) -> None:
    original = frame.Frame.bind

    def changed(self: frame.Frame, reference: Reference | None, number: int) -> Any:
        if reference and reference.index is None and reference.name in self.values:
            return None
        return original(self, reference, number)

    patch.setattr(frame.Frame, "bind", changed)


def even_channels(patch: Patch) -> None:
    original = walk.Walk.run_block

    def changed(self: walk.Walk, block: Any, choices: Any, scope: Any, source: Any) -> Any:
        scope["in_channels"] = Bound(source.channels // 2 * 2, source.open)
        return original(self, block, choices, scope, source)

    patch.setattr(walk.Walk, "run_block", changed)


def the_first_let_is_one(patch: Patch) -> None:
    original = walk.Walk.evaluate_lets

    def changed(self: walk.Walk, lets: Mapping[str, Expression], scope: dict[str, Bound]) -> None:
        for position, (name, expression) in enumerate(lets.items()):
            original(self, {name: expression}, scope)
            if position == 0:
                scope[name] = Bound(1)

    patch.setattr(walk.Walk, "evaluate_lets", changed)


def a_last_layer_left_out_gives_the_input(patch: Patch) -> None:
    original = walk.Walk.last

    def changed(self: walk.Walk, within: frame.Frame, block: Any) -> frame.Value:
        found = original(self, within, block)
        left_out = not getattr(within.events[-1], "ran", True)
        return found._replace(number=0) if left_out else found

    patch.setattr(walk.Walk, "last", changed)


PLANTS: dict[Plant, str] = {
    else_is_ignored: "branches that are summed in a chain",
    from_is_ignored: "a counter is called like a value and like a list",
    defaults_before_calls: "a call is before 'defaults', and these are before the argument",
    a_turn_fewer: "an element of a list is the next input, in a loop",
    a_name_keeps_its_first_value: "an element of a list is the next input, in a loop",
    even_channels: "a block sees the channels of its own input",
    the_first_let_is_one: "a let stands on those before it",
    a_last_layer_left_out_gives_the_input: "the last layer is left out",
}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_wiring_by_hand_finds(plant: Plant, monkeypatch: Patch) -> None:
    case = CASES[PLANTS[plant]]
    assert uses_of(network_of(case)) == case.right
    plant(monkeypatch)
    assert uses_of(network_of(case)) != case.right
