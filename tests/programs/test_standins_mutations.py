"""Mistakes in an emitted text are noticed when it runs on stand-ins: planted ones, and any edit."""

from __future__ import annotations

import ast
import builtins
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import texts
from mutations import Mutant, Source
from planted import PLANTED
from standins import differences, helpers
from standins.run import Value

# Small networks that together have every primitive and most blocks.
NETWORKS = (
    *("resnet18", "resnet20_gn", "densenet121", "vgg11", "dpn68", "highway18"),
    *("tests/specs/primitives", "tests/specs/more_primitives", "tests/specs/gates_and_pools"),
    *("tests/specs/same_padding", "tests/specs/inits", "tests/specs/ceil_pool"),
    *("tests/specs/res2net", "tests/specs/resnest", "tests/specs/selective", "tests/specs/cbam"),
    *("tests/specs/fixup", "tests/specs/flat", "tests/specs/blur", "tests/specs/se"),
    *("tests/specs/stochastic_depth", "tests/specs/preact", "examples/own_attention"),
)
HOOK = "__seen__"


def is_noticed(name: str, backend: str, text: str) -> bool:
    """Whether a text differs from the network, or from it with other classes and channels."""
    network, _ = texts.case(name, backend)
    return bool(differences(text, network, backend)) or bool(
        differences(text, texts.wider(name), backend, given=True)
    )


# --- edits that change nothing -------------------------------------------------------------------


def excuse(source: Source, mutant: Mutant, name: str, backend: str) -> str | None:
    """Why an edit that nobody notices makes no other network, None where it may make one."""
    if not mutant.is_change:
        return "the text is the same"
    if backend == "torch" and _only_in_place(mutant):
        return "in place or not, the values are the same; only memory is spent"
    default = source.without_default(mutant.number)
    if default is not None and not is_noticed(name, backend, default):
        return "a default that every call passes over"
    dropped = mutant.kind == "statement dropped"
    if dropped and not is_noticed(name, backend, source.raising(mutant.number)):
        return "a statement that never runs"
    for before, after in source.observed(mutant.number, HOOK):
        if _seen(before, name, backend) == _seen(after, name, backend):
            return "the expression has the same values wherever it is evaluated"
    line = source.text.splitlines()[mutant.line - 1].strip()
    said = mutant.before if mutant.kind == "keyword dropped" else line
    return _same_in_itself(mutant, backend, line) or _known(said, backend)


def _same_in_itself(mutant: Mutant, backend: str, line: str) -> str | None:
    """Why an edit of this kind makes no difference wherever it stands."""
    if mutant.kind == "statements" and {".append(", "inplace=True"} <= _parts(mutant.before):
        return "what a list holds is changed in place, too, before it or after"
    if mutant.kind == "statements" and _are_independent(mutant.before):
        return "neither of the two statements has to do with the other"
    if backend == "keras" and mutant.before.strip("'\"") in AUXILIARY:
        return "what is added to the name of a layer for one that helps it is free"
    if mutant.kind == "operands" and " | " in mutant.before:
        return "a union of classes is the same in another order"
    if _is_axes(mutant, line):
        return "axes are the same in another order"
    if backend == "flax" and mutant.before.replace("padding=1, ", "") == mutant.after:
        return "a window of three that moves by one is padded by one by the size, too"
    return None


SAME_MULTIPLE = "the number of channels is rounded to the same multiple"
FEW_CHANNELS = "the kernel is 3 for any reach that so few channels have"
EMPTY_LOOP = "a loop from 1 to 0 is as empty as one from 1 to 1"
NO_BLUR = "whatever is not above 1 blurs nothing"
REPLACED = "the value is replaced before it is read"
OWN_DEFAULT = "the framework has the same default"
EQUAL_FANS = "every parameter has the same distribution: fans or gains are equal"
NO_INDEX = "what is not in the tuple has no index, which is the same error with less to say"
PADS_ALIKE = "a convolution pads itself or a layer before it does, which is the same"

# Where a line like this is edited, and nobody notices, there is no difference: why. Of a keyword
# that is dropped the whole call is looked at.
KNOWN = {
    "torch": (
        ("nn.init.", EQUAL_FANS),
        ("parameters(recurse=False)", "what is within a module is set anew right after it"),
        (".numel()) ** 0.5", "every filter is as large"),
        ("ceil_mode=True, count_include_pad=False", "nothing is padded, so nothing of it counts"),
        ("Pool2d(2, stride=2", OWN_DEFAULT),
        ("reach = math.floor(", FEW_CHANNELS),
        ("= EfficientChannelAttention(", FEW_CHANNELS),
        ("reduction: int = 16", SAME_MULTIPLE),
        ("SqueezeExcitation(", SAME_MULTIPLE),
        ("PeakGate(", SAME_MULTIPLE),
        ("base_width", SAME_MULTIPLE),
        ("SelectiveKernel(", SAME_MULTIPLE),
        ("self.stride > 1", "every row and column is what a stride of 1 takes"),
        ("piece: Tensor = parts[0]", REPLACED),
        ("stride: int = 1", NO_BLUR),
        ("ConvStack(", EMPTY_LOOP),
    ),
    "keras": (
        ("layer.name}_", "what a name begins with begins it with more behind it, too"),
        ("same = ", PADS_ALIKE),
        ('"same" if same else "valid"', PADS_ALIKE),
        ("if padding > 0 and not same:", PADS_ALIKE),
        ("padding: int = 0", "any number that is not above 0 pads nothing"),
        ("VarianceScaling(2.0, 'fan_in', ", EQUAL_FANS),
        ("Pooling2D(1, ", "the mean of one value is its maximum"),
        ("AveragePooling2D(2, strides=stride", OWN_DEFAULT),
        ("epsilon=0.001", OWN_DEFAULT),
        ("reach = math.floor(", FEW_CHANNELS),
        ("reduction: int = 16", SAME_MULTIPLE),
        ("squeeze_excitation(", SAME_MULTIPLE),
        ("peak_gate(", SAME_MULTIPLE),
        ("base_width", SAME_MULTIPLE),
        ("selective_kernel(", SAME_MULTIPLE),
        ("if stride > 1", "every row and column is what a stride of 1 takes"),
        ("in_channels = x.shape[-1]", "a norm leaves the number of channels"),
        ("piece = parts[0]", REPLACED),
        ("stride: int = 1", NO_BLUR),
        ("conv_stack(x, ", EMPTY_LOOP),
    ),
    "flax": (
        ("variance_scaling(2.0, 'fan_in', ", EQUAL_FANS),
        ("if name not in self.order:", NO_INDEX),
        ('raise ValueError(f"there is no layer', NO_INDEX),
        ("nnx.All(nnx.Param, nnx.Not(", "all conditions are the same in another order"),
        ("reach = math.floor(", FEW_CHANNELS),
        ("reduction: int = 16", SAME_MULTIPLE),
        ("round_limit=0", "no number is below zero times another"),
        ("= EfficientChannelAttention(", FEW_CHANNELS),
        ("stride: int = 1", NO_BLUR),
        ("ConvStack(", EMPTY_LOOP),
    ),
}


def _known(line: str, backend: str) -> str | None:
    return next((reason for part, reason in KNOWN[backend] if part in line), None)


def _only_in_place(mutant: Mutant) -> bool:
    """Whether `inplace=True` was dropped or turned off, and nothing else."""
    if mutant.kind == "bool":
        return mutant.before == "True" and "inplace=False" in mutant.text
    return re.sub("(, )?inplace=True", "", mutant.before) == mutant.after


def _is_axes(mutant: Mutant, line: str) -> bool:
    turned = {("(2, 3)", "(3, 2)"), ("(1, 2)", "(2, 1)")}
    named = mutant.before == "(2, 3)" or f"axis={mutant.before}" in line
    return mutant.kind == "elements" and named and (mutant.before, mutant.after) in turned


def _seen(text: str, name: str, backend: str) -> list[Any]:
    """What the hook in a text was given, run by run."""
    found: list[Any] = []

    def hook(function: Any, *values: Any, **options: Any) -> Any:
        found.append([_plain(each) for each in (*values, *sorted(options.items()))])
        return values[0] if function is None else function(*values, **options)

    with _builtin(HOOK, hook):
        is_noticed(name, backend, text)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Value):
        return ("value", value.number)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _parts(text: str) -> set[str]:
    return {part for part in (".append(", "inplace=True") if part in text}


AUXILIARY = ("_pad", "_in", "_out", "_blur")


def _are_independent(text: str) -> bool:
    """Whether no statement of two writes what the other reads or writes."""
    one, other = (_accesses(statement) for statement in ast.parse(text).body)
    return not (one[1] & (other[0] | other[1]) or other[1] & one[0])


def _accesses(statement: ast.stmt) -> tuple[set[str], set[str]]:
    """What a statement reads, and what it may write: names and attributes of names."""
    reads: set[str] = set()
    writes: set[str] = set()
    nodes = [*ast.walk(statement)]
    within = {ast.unparse(n.target) for n in nodes if isinstance(n, ast.comprehension)}
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute):
            target = writes if isinstance(node.ctx, ast.Store) else reads
            target.add(ast.unparse(node))
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            writes.add(ast.unparse(node.value))
        elif isinstance(node, ast.Call):
            writes |= _changed_by(node)
    return reads - within - {"self"}, writes - within


def _changed_by(call: ast.Call) -> set[str]:
    """What a call may change: the object of a method, what is filled or changed in place."""
    name = ast.unparse(call.func)
    if name.startswith("nn.init.") or any(each.arg == "inplace" for each in call.keywords):
        return {ast.unparse(call.args[0])}
    if name.endswith((".append", ".requires_grad_", ".eval", ".train", ".add_module")):
        return {name.rpartition(".")[0]}
    return {"self"} if name.startswith("super()") else set()


@contextmanager
def _builtin(name: str, value: Any) -> Iterator[None]:
    setattr(builtins, name, value)
    try:
        yield
    finally:
        delattr(builtins, name)


# --- planted mistakes ----------------------------------------------------------------------------


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_found(mistake: str) -> None:
    planted = PLANTED[mistake]
    network, source = texts.case(planted.network, planted.backend)
    found = differences(planted.text(source), network, planted.backend)
    assert planted.finds in "\n".join(found)


# --- any edit ------------------------------------------------------------------------------------


def survivors(name: str, backend: str, number: int, seed: int = 0) -> tuple[int, list[str]]:
    """How many edits were tried, and those that make another network that nobody notices."""
    _, text = texts.case(name, backend)
    source = Source(text, helpers.known(backend))
    chosen = random.Random(f"{seed} {name} {backend}").sample(range(source.count), number)
    found = []
    for each in chosen:
        mutant = source.mutant(each)
        noticed = is_noticed(name, backend, mutant.text)
        if not noticed and excuse(source, mutant, name, backend) is None:
            found.append(str(mutant))
    return len(chosen), found


@pytest.mark.parametrize("backend", texts.BACKENDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_edits_of_a_text_are_noticed(name: str, backend: str) -> None:
    assert survivors(name, backend, 7)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("backend", texts.BACKENDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_edit_of_a_text_is_noticed(name: str, backend: str) -> None:
    _, text = texts.case(name, backend)
    count = Source(text, helpers.known(backend)).count
    assert survivors(name, backend, count)[1] == []
