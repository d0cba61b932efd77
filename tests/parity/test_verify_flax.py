"""`verify` with Flax: a text that is right, and planted mistakes with the operation to blame.

The text is that of a person who follows the layout of the backend, not the backend's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import parity
import pytest

from resnet_spec.verify.run import Verification, sources_of
from resnet_spec.verify.session import Session

PROGRAMS = Path(__file__).parent.parent / "programs"
TEXT = (PROGRAMS / "small_flax.txt").read_text(encoding="utf-8")
SPEC = (PROGRAMS / "small_flax.yaml").read_text(encoding="utf-8")
EXACT = f"{SPEC}numerics: exact\n"

pytestmark = [pytest.mark.flax, pytest.mark.torch]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session(["torch", "flax"], "tensorflow") as found:
        yield found


def verified(session: Session, folder: Path, text: str, spec: str = SPEC) -> Verification:
    network = parity.network_of_text(spec)
    sources = {**sources_of(network, ["torch"]), "flax": text}
    found = Verification(network, session, folder / "one", sources=sources)
    list(found.run())
    return found


def test_both_compute_the_same(session: Session, tmp_path: Path) -> None:
    found = verified(session, tmp_path, TEXT)
    assert found.found == []
    rows = {row.measurement: row for row in found.rows}
    for name in ("evaluation", "evaluation, numpy", "training", "gradients", "AdamW evaluation"):
        assert rows[name].difference < 1e-12, name
    assert "Flax keeps the variance: over N values, not N - 1" in rows["statistics"].note
    assert rows["initial values, flax"].compared == 52


def exact_text() -> str:
    """The text with the backend's own batch norm."""
    from resnet_spec.backends import flax
    from resnet_spec.codegen.definitions import definitions

    norm = definitions(flax.__file__)["BatchNorm"]
    shared = "batch_norm = partial(BatchNorm, momentum=0.9, use_fast_variance=False)"
    usual = "batch_norm = partial(nnx.BatchNorm, momentum=0.9)"
    assert usual in TEXT
    return TEXT.replace(usual, f"{norm}\n\n\n{shared}")


def test_with_the_unbiased_variance_nothing_is_carried_over(
    session: Session, tmp_path: Path
) -> None:
    found = verified(session, tmp_path, exact_text(), EXACT)
    assert found.found == []
    rows = {row.measurement: row for row in found.rows}
    for name in ("statistics", "SGD evaluation", "AdamW evaluation"):
        assert rows[name].difference < 1e-12 and not rows[name].note, name


def test_a_biased_variance_is_found_where_it_is_to_be_exact(
    session: Session, tmp_path: Path
) -> None:
    found = verified(session, tmp_path, TEXT, EXACT)
    assert "training updates 'bn1.running_var' differently" in found.found[0].message


# What is replaced, by what, and a part of what is told.
MISTAKES = {
    "far padding": ("strides=2, padding=3", "strides=2", "'conv1': from equal inputs"),
    "zeros for -inf": (
        "nnx.max_pool, window_shape",
        "lambda x, window_shape, strides, padding: nnx.max_pool(\n"
        "                jnp.pad(x - 1, ((0, 0), *padding, (0, 0))), window_shape, strides"
        "\n            ) + 1, window_shape",
        "'maxpool': from equal inputs",
    ),
    "momentum": ("momentum=0.9", "momentum=0.99", "updates 'bn1.running_mean' differently"),
    "a stopped gradient": (
        "return self.act2(x)", "return jax.lax.stop_gradient(self.act2(x))",
        "the gradients of 'layer2.1.bn2.bias' differ",
    ),
    "another fan": ('"fan_out"', '"fan_in"', "is not initialised as the spec says"),
    "another name": ("self.fc", "self.dense", "'dense.bias' is not what the spec says"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found(name: str, session: Session, tmp_path: Path) -> None:
    right, wrong, told = MISTAKES[name]
    assert right in TEXT
    found = verified(session, tmp_path, TEXT.replace(right, wrong)).found
    assert any(told in each.message for each in found), [each.message for each in found]
