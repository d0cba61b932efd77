"""Every network is drawn well: nothing overlaps, and each number on the page is the network's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import picture
import pytest
import recount

from resnet_spec.drawing import Drawing, render, tower
from resnet_spec.ir import Network
from resnet_spec.language.library import Library, builtin_specs
from resnet_spec.language.load import load
from resnet_spec.lower import lower

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SMALL = sorted((ROOT / "tests" / "specs").rglob("*.yaml"))  # of every block and primitive
TALLEST = 2600


@functools.cache
def networks() -> dict[str, Network]:
    """All of them, by name; what they have in common is lowered once."""
    library = Library()
    paths = [*builtin_specs().values(), *EXAMPLES, *SMALL]
    return {network.name: network for network in (lower(load(str(p), library)) for p in paths)}


def unreachable(graph: object) -> None:
    raise AssertionError("a block is stacked")


@functools.cache
def page(name: str) -> picture.Page:
    return picture.read(render(Drawing(networks()[name]).page()))


def test_every_network_is_drawn_well(
    record_property: Callable[[str, object], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In columns, as people draw them: none of these needs the layout that always works."""
    monkeypatch.setattr(tower, "stack", unreachable)
    wrong: dict[str, list[str]] = {}
    heights, abridged = {}, set()
    for name, network in networks().items():
        drawing = Drawing(network)
        text = render(drawing.page())
        read = picture.read(text)
        found = picture.faults(text, read)
        found += recount.wrong_numbers(network, read)
        found += picture.faults(render(drawing.compact()))
        if found:
            wrong[name] = found
        heights[name] = read.height
        if recount.Recount(read).abridged:
            abridged.add(name)
    record_property("heights", heights)
    assert wrong == {}
    assert max(heights.values()) < TALLEST, max(heights, key=lambda name: heights[name])
    # What is not drawn in full is not counted, so it must be rare.
    assert abridged == {"res2net50_14w_8s", "res2net50_26w_6s", "res2net50_26w_8s"}


def test_each_block_alone() -> None:
    """In a picture for each block, of the networks that have the most blocks."""
    drawings = [Drawing(network) for network in networks().values()]
    largest = sorted(drawings, key=lambda d: len(d.figure.insets))[-6:]
    for drawing in largest:
        for block in drawing.blocks:
            text = render(drawing.block(block))
            assert picture.faults(text) == []
            letters = {panel.words[0].text for panel in picture.read(text).panels}
            insets = [each for each in drawing.figure.insets if each.block == block]
            assert letters == {inset.label for inset in insets}


@pytest.mark.parametrize(
    ("shallow", "deep"), [("resnet50", "resnet152"), ("resnet20", "resnet1202")]
)
def test_depth_takes_no_room(shallow: str, deep: str) -> None:
    assert page(shallow).height == page(deep).height
    one, other = (Drawing(networks()[name]).compact() for name in (shallow, deep))
    assert one.height == other.height


def test_where_the_split_attention_of_resnest_is() -> None:
    """The 3x3 convolution of the other blocks is a box that names it, and it has its own panel."""
    found = page("resnest50d")
    titles = [panel.title for panel in found.panels]
    assert titles == [
        "Block A, resnest, every block but a stage's first",
        "Block A′, resnest, first of every stage",
        "Block B, split attention, inside A, A′",
    ]
    for letter in ("A", "A′"):
        words = [word.text for word in recount.panel_of(found, letter).words]
        place = words.index("split attention")
        assert words[place - 1] == "B"
    inner = recount.panel_of(found, "B")
    assert [style for style, _ in inner.operations].count("gate") == 1
    assert "softmax over 2" in [word.text for word in inner.words]


def test_more_than_ten_sections_wrap() -> None:
    table = recount.columns(page("gallery"))
    assert len(table) == 11
    heads = [word for word in page("gallery").words if word.text == "output" and word.box[0] < 25]
    assert len(heads) == 2
    assert [column.name for column in table] == [
        section.label for section in Drawing(networks()["gallery"]).figure.sections
    ]
