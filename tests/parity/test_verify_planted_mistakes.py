"""`verify` finds each known way in which two frameworks come apart, and names where it is.

One mistake at a time is planted into what one runner runs. Counts and shapes, which is all that
most converters check, are the same for nearly every one of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import parity
import pytest

from resnet_spec.backends.keras import primitives as keras_backend
from resnet_spec.backends.torch import primitives as torch_backend
from resnet_spec.primitives.numpy_values import VALUES, Call
from resnet_spec.verify import compare
from resnet_spec.verify.measure import IN_ITSELF
from resnet_spec.verify.run import Verification, sources_of
from resnet_spec.verify.session import Session

pytestmark = [pytest.mark.torch, pytest.mark.keras]

SPEC = """\
spec_version: 1
name: small
description: A little of everything that two frameworks do in two ways
input: {channels: 3, height: 20, width: 23}
classes: 5
blocks:
  own:
    description: A residual of two branches
    args: {filters: int, stride: {default: 1, only: first}}
    layers:
      - {conv: conv1, filters: filters, kernel: 1}
      - {norm: bn1}
      - {act: act1}
      - {conv: conv2, filters: filters, kernel: 3, stride: stride, groups: 2, as: wide}
      - {avg_pool: smooth, kernel: 3, stride: 1, as: one}
      - {max_pool: largest, from: wide, kernel: 3, stride: 1, as: two}
      - {concat: [one, two], name: both}
      - {conv: conv3, filters: filters, kernel: 1}
      - {norm: bn3, as: residual}
      - {subsample: thin, from: x, stride: stride}
      - {conv: shortcut, filters: filters, kernel: 1, as: shortcut}
      - {add: [residual, shortcut]}
      - {act: act2}
stem:
  - {conv: conv1, filters: 8, kernel: 3, stride: 2}
  - {norm: bn1}
  - {act: act1}
stages:
  - {name: layer1, block: own, repeat: 2, filters: 8}
  - {name: layer2, block: own, filters: 12, stride: 2}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""


class Trap(NamedTuple):
    """A mistake: changes of one text, and what `verify` must name."""

    backend: str
    changes: tuple[tuple[str, str], ...]
    measurement: str  # the first that fails
    operation: str
    counted: bool = False  # whether counts of parameters and shapes of outputs tell it


def keras(*changes: tuple[str, str], finds: str, at: str, counted: bool = False) -> Trap:
    return Trap("keras", changes, finds, at, counted)


def torch(*changes: tuple[str, str], finds: str, at: str, counted: bool = False) -> Trap:
    return Trap("torch", changes, finds, at, counted)


# A norm whose running variance is over N - 1 values where the file says that it is over N.
OTHER_VARIANCE = """class Norm(layers.BatchNormalization):
    def call(self, inputs, training=None):
        before = ops.convert_to_tensor(self.moving_variance)
        outputs = super().call(inputs, training=training)
        if training:
            count = ops.cast(ops.size(inputs) / inputs.shape[-1], before.dtype)
            kept = self.momentum * before
            moved = ops.convert_to_tensor(self.moving_variance) - kept
            self.moving_variance.assign(kept + moved * count / (count - 1))
        return outputs


def conv2d("""

# The channels of a group are every second one, not one half.
OTHER_GROUPS = r"""\1    if groups > 1:
        x = ops.take(x, [*range(0, x.shape[-1], 2), *range(1, x.shape[-1], 2)], axis=-1)
\2"""

TRAPS = {
    "padding on the far side": keras(
        (r"same = .*", "same = True"), finds="evaluation", at="conv1"
    ),
    "zero for minus infinity": keras(
        (r'float\("-inf"\)', "0.0"), finds="evaluation", at="layer1.0.largest"
    ),
    "epsilon": keras((r"epsilon=1e-5", "epsilon=1e-3"), finds="evaluation", at="bn1"),
    "momentum of the old statistics": keras(
        (r"momentum=0.9", "momentum=0.1"), finds="statistics", at="bn1"
    ),
    "stride on another convolution": torch(
        (r"(conv1 = nn.Conv2d\(8, filters, 1), bias", r"\1, stride=stride, bias"),
        (r"filters, filters, 3, stride=stride", "filters, filters, 3"),
        finds="evaluation", at="layer2.conv1",
    ),
    "padding that is not counted": torch(
        (r"nn.AvgPool2d\(3,", "nn.AvgPool2d(3, count_include_pad=False,"),
        finds="evaluation", at="layer1.0.smooth",
    ),
    "mode of the fan": torch(
        (r'mode="fan_out"', 'mode="fan_in"'), finds="initial values, torch", at="conv1"
    ),
    "biased variance": keras(
        (r"def conv2d\(", OTHER_VARIANCE),
        (r"layers.BatchNormalization\(momentum", "Norm(momentum"),
        finds="statistics", at="bn1",
    ),
    "order of a concatenation": torch(
        (r"cat\(\[one, two\]", "cat([two, one]"), finds="evaluation", at="layer1.0.both"
    ),
    "layout of groups": keras(
        (r"(def conv2d(?:.*\n)*?.*even.*|\"\"\"Convolution.*\n)(    # With)", OTHER_GROUPS),
        finds="evaluation", at="layer1.0.conv2",
    ),
    "an activation that is another": torch(
        (r"self.act1\(wide\)", "nn.functional.leaky_relu(wide, 0.1)"),
        finds="evaluation", at="layer1.0.act1",
    ),
    "an activation left out": torch(
        (r"return self.act2\(x\)", "return x"), finds="evaluation", at="layer1.0.act2"
    ),
    "a gradient that is stopped": keras(
        (r"(    x = layers.Add)", r"    shortcut = ops.stop_gradient(shortcut)\n\1"),
        finds="gradients", at="layer2.shortcut",
    ),
    "a bias too many": keras(
        (r"use_bias=False", "use_bias=True"), finds="parameters", at="conv1", counted=True
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session(["torch", "keras"], "tensorflow") as session:
        yield session


# Others that fail in the same measurement, and are found the same way, run in each test.
COSTLY = {
    "an activation left out",
    "an activation that is another",
    "epsilon",
    "layout of groups",
    "momentum of the old statistics",
    "order of a concatenation",
    "padding that is not counted",
    "stride on another convolution",
    "zero for minus infinity",
}


@pytest.mark.parametrize("name", parity.costly(TRAPS, TRAPS.keys() - COSTLY))
def test_trap(name: str, session: Session, tmp_path: Path) -> None:
    trap = TRAPS[name]
    network = parity.network_of_text(SPEC)
    sources = sources_of(network)
    for pattern, replacement in trap.changes:
        text, count = re.subn(pattern, replacement, sources[trap.backend])
        assert count, f"nothing to change: {pattern}"
        sources[trap.backend] = text
    verification = Verification(network, session, tmp_path / "one", sources=sources)
    rows = list(verification.run())
    assert [row.measurement for row in rows if not row.passes] == [trap.measurement]
    (found,) = verification.found
    assert found.message.startswith(f"'{trap.operation}': "), found.message
    assert found.span is not None
    assert SPEC.splitlines()[found.span.line - 1].strip().startswith("- {")
    if trap.measurement == "evaluation":  # which of the two is right, the third reading knows
        (right,) = {"torch", "keras"} - {trap.backend}
        assert f"; numpy agrees with {right} (evaluation: " in found.message
    counted = not rows[0].passes or any(math.isinf(row.difference) for row in rows)
    assert counted == trap.counted


def test_nothing_planted(session: Session, tmp_path: Path) -> None:
    verification = Verification(parity.network_of_text(SPEC), session, tmp_path / "one")
    assert all(row.passes for row in verification.run())
    assert not verification.found


def test_counts_and_shapes_miss_most() -> None:
    assert sum(trap.counted for trap in TRAPS.values()) == 1
    assert len(TRAPS) + len(UPDATES) > 15


# --- mistakes that both backends share -----------------------------------------------------------


class Misread(NamedTuple):
    """What both files are made of: the spec with some changes; and what `verify` must name."""

    changes: tuple[tuple[str, str], ...]
    operation: str


def misread(*changes: tuple[str, str], at: str) -> Misread:
    return Misread(changes, at)


MISREAD = {
    "stride on another convolution": misread(
        ("{conv: conv1, filters: filters,", "{conv: conv1, filters: filters, stride: stride,"),
        ("kernel: 3, stride: stride, groups", "kernel: 3, groups"),
        at="layer2.conv1",
    ),
    "padding on the far side": misread(
        ("filters: 8, kernel: 3, stride: 2}", "filters: 8, kernel: 3, stride: 2, padding: same}"),
        at="conv1",
    ),
    "epsilon": misread(("stem:", "defaults: {batch_norm: {eps: 1e-3}}\nstem:"), at="bn1"),
    "order of a concatenation": misread(("[one, two]", "[two, one]"), at="layer1.0.both"),
    "padding that is not counted": misread(
        ("kernel: 3, stride: 1, as: one", "kernel: 3, stride: 1, padding: same, as: one"),
        at="layer1.0.smooth",
    ),
    "another input": misread(("largest, from: wide", "largest"), at="layer1.0.largest"),
    "a product for a sum": misread(
        ("{add: [residual, shortcut]}", "{multiply: [residual, shortcut], name: add}"),
        at="layer1.0.add",
    ),
    "a first activation left out": misread(("      - {act: act1}\n", ""), at="layer1.0.act1"),
    "a last activation left out": misread(("      - {act: act2}\n", ""), at="layer1.0.act2"),
}


def shared_mistake(
    session: Session, folder: Path, operation: str, sources: Mapping[str, str] | None = None
) -> str:
    """What is said of a mistake that both sources have; the operation is named with its place."""
    network = parity.network_of_text(SPEC)
    verification = Verification(network, session, folder, sources=sources)
    rows = list(verification.run())
    assert [row.measurement for row in rows if not row.passes] == ["evaluation, numpy"]
    (found,) = verification.found
    assert found.code == "RS803"
    assert found.message.startswith(f"'{operation}': torch and keras agree, but not with numpy: ")
    assert found.span is not None
    line = SPEC.splitlines()[found.span.line - 1]
    assert re.search(rf"[:{{ ]{operation.rpartition('.')[2]}\b", line), line
    return found.message


# Others of their kind run in each test, or the same mistake of what writes an operation.
MISREAD_ALIKE = {
    "a last activation left out",
    "a product for a sum",
    "epsilon",
    "order of a concatenation",
    "padding on the far side",
    "padding that is not counted",
}


@pytest.mark.parametrize("name", parity.costly(MISREAD, MISREAD.keys() - MISREAD_ALIKE))
def test_two_backends_that_misread_the_spec_alike(
    name: str, session: Session, tmp_path: Path
) -> None:
    text = SPEC
    for old, new in MISREAD[name].changes:
        assert text.count(old) == 1, f"nothing to change: {old}"
        text = text.replace(old, new)
    sources = sources_of(parity.network_of_text(text))
    message = shared_mistake(session, tmp_path / "one", MISREAD[name].operation, sources)
    unseen = "neither seems to run it, and of 'layer1.0.conv2' after it the outputs are"
    assert (unseen in message) == (name == "a first activation left out")


def turned_round(rule: Any) -> Callable[[Any], Any]:
    """A pattern with the inputs of its operation in the opposite order."""
    return lambda op: replace(op, inputs=op.inputs[::-1]).fill(rule)


def test_two_backends_that_write_an_operation_wrongly(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as planted:
        for rules in (torch_backend.CALLS, keras_backend.RULES):
            planted.setitem(rules, "concat", turned_round(rules["concat"]))
        sources = sources_of(parity.network_of_text(SPEC))
    shared_mistake(session, tmp_path / "one", "layer1.0.both", sources)


def test_two_backends_that_leave_an_operation_out(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as planted:
        identity = torch_backend.MODULES["identity"]
        planted.setitem(torch_backend.MODULES, "relu", identity)
        planted.setitem(keras_backend.RULES, "relu", "{x}")
        sources = sources_of(parity.network_of_text(SPEC))
    shared_mistake(session, tmp_path / "one", "act1", sources)


@pytest.mark.parametrize(
    ("primitive", "value", "operation"),
    [
        pytest.param("batch_norm", lambda call: call.scaled(call.x), "bn1", marks=pytest.mark.slow),
        pytest.param("avg_pool", lambda call: call.x, "layer1.0.smooth", marks=pytest.mark.slow),
        ("max_pool", lambda call: 0 * call.x, "layer1.0.largest"),
    ],
)
def test_a_definition_that_is_wrong(
    primitive: str,
    value: Callable[[Call], np.ndarray],
    operation: str,
    session: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(VALUES, primitive, value)
    shared_mistake(session, tmp_path / "one", operation)


def test_a_definition_of_another_shape(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VALUES, "max_pool", lambda call: call.x[:, :, 1:])
    verification = Verification(parity.network_of_text(SPEC), session, tmp_path / "one")
    assert [row.measurement for row in verification.run()] == ["parameters", "evaluation"]
    (found,) = verification.found
    assert found.code == "RS803" and found.span is not None
    assert "max_pool: largest" in SPEC.splitlines()[found.span.line - 1]
    assert found.message == (
        "'layer1.0.largest': by its definition its output is 8x9x12, not 8x10x12"
    )


# --- fewer bits ----------------------------------------------------------------------------------

# Gradients that pass through a type of fewer bits on their way back; outputs are as they were.
IN_TORCH = """
def narrow(x: Tensor) -> Tensor:
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient.to(torch.KIND).to(gradient.dtype))
    return x


class Own("""
IN_KERAS = """
import tensorflow as tf


@tf.custom_gradient
def narrow(x):
    return tf.identity(x), lambda gradient: tf.cast(tf.cast(gradient, tf.KIND), gradient.dtype)


def own("""


# Where the helper goes, and what is passed through it.
NARROW = {
    "torch": ("\n\nclass Own(", IN_TORCH, r"return (self.act2\(x\))", r"return narrow(\1)"),
    "keras": (
        "\n\ndef own(",
        IN_KERAS,
        r'return (layers.ReLU\(name=f"{name}_act2"\)\(x\))',
        r'return layers.Lambda(narrow, name=f"{name}_narrow")(\1)',
    ),
}


def narrowed(backend: str, kind: str) -> dict[str, str]:
    """The sources, of which one has gradients of fewer bits."""
    sources = sources_of(parity.network_of_text(SPEC))
    definition, helper, pattern, replacement = NARROW[backend]
    text = sources[backend].replace(definition, helper.replace("KIND", kind))
    sources[backend], count = re.subn(pattern, replacement, text)
    assert count == 1 and "def narrow" in text
    return sources


@pytest.mark.parametrize("kind", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("backend", [pytest.param("torch", marks=pytest.mark.slow), "keras"])
def test_fewer_bits(backend: str, kind: str, session: Session, tmp_path: Path) -> None:
    network, sources = parity.network_of_text(SPEC), narrowed(backend, kind)
    verification = Verification(network, session, tmp_path / "one", "float32", sources)
    failed = [row.measurement for row in verification.run() if not row.passes]
    assert failed == ["error of gradients"]
    (found,) = verification.found
    assert found.message.startswith(
        "'layer2.shortcut': one framework computes the gradients of 'layer2.shortcut.weight' less"
    )


@pytest.mark.parametrize(
    "name",
    parity.costly(["momentum of the old statistics", "biased variance", "epsilon"], {"epsilon"}),
)
def test_trap_in_single_precision(name: str, session: Session, tmp_path: Path) -> None:
    trap = TRAPS[name]
    network = parity.network_of_text(SPEC)
    sources = sources_of(network)
    for pattern, replacement in trap.changes:
        sources[trap.backend] = re.sub(pattern, replacement, sources[trap.backend])
    verification = Verification(network, session, tmp_path / "one", "float32", sources)
    failed = [row.measurement for row in verification.run() if not row.passes]
    assert failed == [{"statistics": "error of statistics"}.get(trap.measurement, trap.measurement)]
    (found,) = verification.found
    assert found.message.startswith(f"'{trap.operation}': ")


# --- updates of the weights ----------------------------------------------------------------------

# What Keras' own optimizers do, by the names of planted_worker.py, and what fails first.
UPDATES = {
    "decoupled decay": "SGD updates the weights differently",
    "rate within the momentum": "SGD updates the weights differently",
    "coupled decay": "AdamW updates the weights differently",
    "epsilon before the correction": "AdamW updates the weights differently",
}


# Each of the two optimizers once; the others take as long and prove little more.
DEAR = ("rate within the momentum", "epsilon before the correction", "decoupled decay")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in DEAR else ()) for name in UPDATES],
)
def test_update(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("PLANTED", name)
    modules = {"keras": "planted_worker"}
    with Session(["torch", "keras"], "tensorflow", modules) as session:
        verification = Verification(parity.network_of_text(SPEC), session, tmp_path / "one")
        failed = [row.measurement for row in verification.run() if not row.passes]
    assert failed == [f"{UPDATES[name].split()[0]} weights"]
    (found,) = verification.found
    assert found.message.startswith(UPDATES[name])


# --- what the network makes of rounding ----------------------------------------------------------


@pytest.fixture
def only_magnified(monkeypatch: pytest.MonkeyPatch) -> None:
    """No difference of training is usual; what rounding makes of the network is all that counts."""
    for kind in compare.MAGNIFIED:
        monkeypatch.setitem(compare.DOUBLE, kind, 0.0)


@pytest.mark.usefixtures("only_magnified")
def test_rounding_explains_what_is_apart(session: Session, tmp_path: Path) -> None:
    verification = Verification(parity.network_of_text(SPEC), session, tmp_path / "one")
    rows = [row for row in verification.run() if row.kind in compare.MAGNIFIED]
    assert len(rows) == 9
    for row in rows:
        assert row.passes, row
        assert 0 < row.tolerance < 1e-11
        assert IN_ITSELF in row.note


@pytest.mark.usefixtures("only_magnified")
@pytest.mark.parametrize(
    "name",
    parity.costly(
        ["momentum of the old statistics", "biased variance", "a gradient that is stopped"],
        {"biased variance"},
    ),
)
def test_rounding_explains_no_trap(name: str, session: Session, tmp_path: Path) -> None:
    test_trap(name, session, tmp_path)


@pytest.mark.usefixtures("only_magnified")
@pytest.mark.parametrize("backend", ["torch", pytest.param("keras", marks=pytest.mark.slow)])
def test_rounding_explains_no_fewer_bits(backend: str, session: Session, tmp_path: Path) -> None:
    """PyTorch's own values are as far apart then, but few of them are."""
    network, sources = parity.network_of_text(SPEC), narrowed(backend, "float32")
    verification = Verification(network, session, tmp_path / "one", sources=sources)
    assert [row.measurement for row in verification.run() if not row.passes] == ["gradients"]
