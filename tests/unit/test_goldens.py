"""The text of some networks as a person would read it: every primitive, every block, both backends.

The five of the paper stand under generated/; these are the others that show what output there is.
"""

from __future__ import annotations

from pathlib import Path

import parity
import pytest

from resnet_spec.codegen.generate import generate
from resnet_spec.language.library import Library, builtin_blocks
from resnet_spec.language.load import load
from resnet_spec.lower.network import _Lowering
from resnet_spec.primitives import PRIMITIVES

GOLDENS = Path(__file__).parents[1] / "goldens"
BACKENDS = ("torch", "keras", "flax")
NETWORKS = (
    *("densenet121", "resnext50_32x4d", "skresnet50", "resnest50d", "dpn68", "res2net50_26w_4s"),
    *("preact_resnet164", "cbam_resnet18"),
    *(str(parity.SPECS / f"{name}.yaml") for name in ("primitives", "more_primitives")),
    *(str(parity.SPECS / f"{name}.yaml") for name in ("gates_and_pools", "fixup", "gallery")),
)


@pytest.mark.parametrize("name", NETWORKS, ids=lambda name: Path(name).stem)
def test_the_text_is_what_it_was(name: str, update_goldens: bool) -> None:
    for path, text in generate(parity.network_of(name), BACKENDS).items():
        # The header has the digests of the spec and of what is below it.
        body = text[text.index('"""') :]
        golden = GOLDENS / path
        if update_goldens:
            golden.parent.mkdir(parents=True, exist_ok=True)
            golden.write_text(body, encoding="utf-8")
        assert body == golden.read_text(encoding="utf-8"), "read what changed, then: make goldens"


def test_they_show_every_primitive_and_every_block() -> None:
    library, shown = Library(), set()
    for name in NETWORKS:
        lowering = _Lowering(load(name, library))
        shown |= {op.primitive.name for _, op in lowering.network().operations()}
        shown |= set(lowering.evaluator.used_blocks)
    assert {*PRIMITIVES, *builtin_blocks()} - shown == set()


def test_no_golden_is_left_over() -> None:
    kept = {path.stem for path in GOLDENS.rglob("*.py")}
    assert kept == {Path(name).stem for name in NETWORKS}
