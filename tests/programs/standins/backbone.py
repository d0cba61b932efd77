"""What a text says of itself as a backbone: `feature_info`, and the map of each name in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from standins.expected import Expected
from standins.graph import Graph
from standins.run import Run, Value

KEYS = ["module", "num_chs", "reduction"]


def check_feature_info(
    run: Run, info: Any, map_of: Callable[[str], Value | None], of_class: bool = False
) -> None:
    """`map_of` gives the value of a module; None where it has none of its own.

    `of_class`: it is told of a class, so without maps whose channels follow from an argument.
    """
    left_out = {
        f"the stage {stage.name} is missing"
        for stage in run.expected.network.stages
        if of_class and stage.output.open
    }
    for text in {*_wrong(run.expected, info, map_of)} - left_out:
        run.note(f"feature_info: {text}")


def _wrong(expected: Expected, info: Any, map_of: Callable[[str], Value | None]) -> Iterator[str]:
    strides = [each["reduction"] for each in info]
    if strides != sorted(strides):
        yield f"strides of {strides}, and not the finest first"
    told = set()
    for each in info:
        name = each["module"]
        if [*each] != KEYS:
            yield f"{name} has the keys {[*each]}"
        value = map_of(name)
        if value is None:
            yield f"there is no {name}"
            continue
        told.add(value.seen())
        if name in expected.features and value.seen() != expected.features[name][0]:
            yield f"{name} is another map than that of the stage"
        if value.channels != each["num_chs"]:
            yield f"{name} has {value.channels} channels, and not {each['num_chs']}"
        if not _has_stride(value, each["reduction"], expected.input.dimensions):
            yield f"{name} is {value.dimensions}, and not one in {each['reduction']}"
    for name in _maps(expected):
        if expected.features[name][0] not in told:
            yield f"the stage {name} is missing"


def _maps(expected: Expected) -> Iterator[str]:
    """The stages with blocks whose output is a map of which no pixel sees the whole image."""
    for stage in expected.network.stages:
        if not stage.feature or not stage.steps or not stage.output.is_map:
            continue
        is_one_pixel = stage.output.elements == stage.output.channels
        if not is_one_pixel and _stride(expected.graph, expected.features[stage.name][0]):
            yield stage.name


def _has_stride(value: Value, stride: int, images: Sequence[int]) -> bool:
    """Whether a map is one in `stride`, by its size or by the windows on the way to it.

    Of several strides that give its size, the size tells of the smallest alone.
    """
    sizes = [*zip(images[1:], value.dimensions[1:], strict=True)]
    smallest = stride == 1 or any(-(-image // (stride - 1)) != rows for image, rows in sizes)
    by_size = all(-(-image // stride) == rows for image, rows in sizes) and smallest
    return by_size or stride == _stride(value.run.graph, value.number)


def _stride(graph: Graph, number: int) -> int:
    """The product of the steps of all windows, along the path where it is the largest.

    0 is for what sees the whole image.
    """
    known = {0: 1}
    for each in graph.reached([number])[1:]:
        row = graph.rows[each]
        own = dict(row.attributes)
        rows, _ = own["window"].stride if "window" in own else own.get("stride", (1, 1))
        pooled = row.kind in ("global_avg_pool", "global_max_pool")
        known[each] = 0 if pooled else rows * max(known[before] for before in row.inputs)
    return known[number]
