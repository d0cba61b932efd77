"""Mistakes planted in specialisation, each found by the replay, or by the stand-ins behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import parity
import pytest
import regression_cases
from regression_cases import CASES
from standins import differences

from resnet_spec import cli, expressions
from resnet_spec.diagnostics import SpecError
from resnet_spec.expressions import Const, Expr, simplify
from resnet_spec.ir import Network
from resnet_spec.specialize import (
    calls,
    network,
    numbers,
    reserved_names,
    routines,
    specialize,
    variables,
)
from resnet_spec.specialize.drafts import Draft, Symbol
from resnet_spec.specialize.program import FeatureLine

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]
Original = Callable[..., Any]


def around(patch: Patch, owner: Any, name: str, change: Callable[..., Any]) -> None:
    """Let `change` make of the result of a function what it would be with a mistake."""
    original = getattr(owner, name)

    def changed(*arguments: Any, **keywords: Any) -> Any:
        return change(original(*arguments, **keywords), *arguments)

    patch.setattr(owner, name, changed)


def raised(value: Expr | None) -> Expr | None:
    return value if value is None else value + 1


def wrong_input(patch: Patch) -> None:
    def change(found: Any, self: Any, *_: Any) -> Any:
        return found if "classes" in self.numbers.names else self.input  # within blocks

    around(patch, routines.Builder, "slot", change)


def wrong_channels(patch: Patch) -> None:
    around(patch, numbers.Numbers, "best", lambda found, *_: raised(found))


def wrong_element(patch: Patch) -> None:
    around(patch, numbers.Numbers, "index", lambda found, *_: Const(0))


def truth_for_a_number(patch: Patch) -> None:
    patch.setattr(simplify, "_as_number", lambda given: given)


def swapped_branch(patch: Patch) -> None:
    def change(found: Expr | None, *_: Any) -> Expr | None:
        return found if found is None else expressions.unary("not", found)

    around(patch, routines.Builder, "condition", change)


def dropped_condition(patch: Patch) -> None:
    around(patch, routines.Builder, "condition", lambda found, *_: None)


def escaped_counter(patch: Patch) -> None:
    # Whatever expression comes first is taken, a counter of another loop in it or not.
    patch.setattr(numbers.Numbers, "fits", lambda *_: True)


def shadowed_name(patch: Patch) -> None:
    patch.setattr(routines.Builder, "counter", lambda self, wanted: wanted)


def one_turn_more(patch: Patch) -> None:
    around(patch, routines.Builder, "count", lambda found, *_: raised(found))


def carried_from_elsewhere(patch: Patch) -> None:
    def begin(self: routines.Builder, carried: Any) -> None:
        self.carriers[carried] = symbol = Symbol(self.input.channels, "carried")
        self.assign(self.input, symbol, group="carried")

    patch.setattr(routines.Builder, "begin_carrying", begin)


def turn_that_changes_nothing(patch: Patch) -> None:
    original = routines.Builder.assign

    def assign(self: Any, source: Any, target: Any, kind: str = "assign", group: str = "") -> None:
        original(self, target.follows if kind == "again" else source, target, kind, group)

    patch.setattr(routines.Builder, "assign", assign)


def other_name(patch: Patch) -> None:
    around(patch, routines.Builder, "path", lambda found, *_: (f"{found[0]}_", *found[1:]))


def default_for_what_is_given(patch: Patch) -> None:
    patch.setattr(numbers.Numbers, "fits", lambda *_: True)
    original = numbers.Numbers.attribute

    def attribute(self: Any, attribute: Any, source: Any, values: Any) -> Any:
        return original(self, attribute, None if attribute.name == "stride" else source, values)

    patch.setattr(numbers.Numbers, "attribute", attribute)


def uneven_blocks_as_a_run(patch: Patch) -> None:
    def longest(self: Any, found: Any, start: int, count: Expr) -> tuple[int, tuple[Expr, ...]]:
        return len(found), found[start].arguments

    patch.setattr(calls.Calls, "longest", longest)


def variable_still_needed(patch: Patch) -> None:
    patch.setattr(variables, "_clash", lambda *_: False)


def changed_in_place(patch: Patch) -> None:
    def every(drafts: list[Draft]) -> set[int]:
        return {id(draft) for draft in drafts if draft.group == "activation"}

    patch.setattr(variables, "_changeable", every)


def dropped_line(patch: Patch) -> None:
    around(patch, network, "drop_unused", lambda found, *_: found[1:])


def feature_of_another_stage(patch: Patch) -> None:
    def feature(name: str, value: Any) -> Draft:
        return Draft("feature", (value,), None, lambda i, _: FeatureLine(f"{name}_", i[0]))

    patch.setattr(network, "_feature", feature)


def one_new_name_for_two(patch: Patch) -> None:
    patch.setattr(
        reserved_names, "_spelling", lambda names, taken: {n: "v" for n in names if n in taken}
    )


def name_that_hides(patch: Patch) -> None:
    patch.setattr(reserved_names, "_spelling", lambda names, taken: {})


# mistake: a network that shows it, and what finds it
REPLAY: dict[Plant, str] = {
    wrong_input: "an element of a list is the next input",
    wrong_channels: "a block without weights between two convolutions",
    wrong_element: "an element of the turn before, but for the first turn",
    swapped_branch: "branches that are summed in a chain",
    truth_for_a_number: "a truth in a sum is a number",
    dropped_condition: "a layer without a name that runs in some uses",
    escaped_counter: "channels that grow from turn to turn",
    shadowed_name: "a counter is called like the input",
    one_turn_more: "a loop with no turn in some uses",
    carried_from_elsewhere: "a loop with no turn in some uses",
    turn_that_changes_nothing: "two values that change places",
    other_name: "names of any form",
    default_for_what_is_given: "resnet18",
    uneven_blocks_as_a_run: "densenet121",
    variable_still_needed: "a list and a value, added and multiplied",
    changed_in_place: "a sum of one is no new value",
    dropped_line: "resnet18",
    feature_of_another_stage: "resnet18",
}
STAND_INS: dict[Plant, str] = {
    one_new_name_for_two: "names that Python, PyTorch and Keras use themselves",
    name_that_hides: "names that Python, PyTorch and Keras use themselves",
}


def network_of(name: str) -> Network:
    return regression_cases.network_of(CASES[name]) if name in CASES else parity.network_of(name)


@pytest.mark.parametrize("plant", REPLAY, ids=lambda plant: plant.__name__)
def test_the_replay_finds(plant: Plant, monkeypatch: Patch) -> None:
    found = network_of(REPLAY[plant])
    specialize(found)
    with monkeypatch.context() as patch:
        plant(patch)
        with pytest.raises(SpecError) as error:
            specialize(found)
    told = error.value.diagnostics
    assert {each.code for each in told} == {"RS504"}
    assert all(each.span is not None for each in told)  # of the statement, or of the block


@pytest.mark.parametrize("plant", STAND_INS, ids=lambda plant: plant.__name__)
@pytest.mark.parametrize("backend", ["torch", "keras", "flax"])
def test_the_stand_ins_find(plant: Plant, backend: str, monkeypatch: Patch) -> None:
    found = network_of(STAND_INS[plant])
    assert differences(parity.source_of(found, backend), found, backend) == []
    with monkeypatch.context() as patch:
        plant(patch)
        try:
            text = parity.source_of(found, backend)
        except SyntaxError:
            return  # the backend itself finds what Python could not compile
    assert differences(text, found, backend) != []


@pytest.mark.parametrize("verb", ["check", "compile"])
def test_nothing_is_written_that_is_not_proven(
    verb: str, tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    dropped_line(monkeypatch)
    assert cli.main([verb, "resnet18"]) == 2
    told = "".join(capsys.readouterr())
    assert "specs/resnet18.yaml:16:6: error RS504: internal error: " in told  # the statement
    assert "ResNet18: bn1 is made for 64 channels, and gets 3" in told  # the routine
    assert list(tmp_path.iterdir()) == []
