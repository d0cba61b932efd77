"""Operators that move numbers: reshapes, transpositions, slices, concatenations, padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.frontend import folding, layers, views
from resnet_spec.importing.frontend.call import Call
from resnet_spec.importing.frontend.views import CHANNELS, Factor, View
from resnet_spec.primitives import Shape

_MOST_RUNS = 16  # of channels that are put into another order

# --- views ---------------------------------------------------------------------------------------


def reshape(call: Call) -> View:
    view = call.view()
    return views.reshaped(view, folding.target(call.constant(1), view.dims, call.attributes))


def flatten(call: Call) -> View:
    return views.reshaped(call.view(), layers.flat_size(call, call.view()))


def squeeze(call: Call) -> View:
    view = call.view()
    axes = folding.axes_of([None, call.optional(1)], call.attributes)
    dims = view.dims
    if axes:
        gone = {each % len(dims) for each in axes}
    else:
        gone = {k for k, size in enumerate(dims) if size == 1 and k > 0}
    if any(dims[each] != 1 for each in gone):
        raise Unsupported(f"it squeezes the axes {sorted(gone)} of {dims}")
    left = [axis for k, axis in enumerate(view.axes) if k not in gone]
    return View(view.value, tuple(left))


def unsqueeze(call: Call) -> View:
    view = call.view()
    axes = folding.axes_of([None, call.optional(1)], call.attributes)
    rank = len(view.axes) + len(axes)
    places = {each % rank for each in axes}
    rest = iter(view.axes)
    return View(view.value, tuple(() if k in places else next(rest) for k in range(rank)))


def transpose(call: Call) -> View:
    view = call.view()
    order = call.attributes.get("perm", range(len(view.axes))[::-1])
    if sorted(order) != list(range(len(view.axes))):
        raise Unsupported(f"it turns the axes to {list(order)}")
    return view.transposed([int(each) for each in order])


def expand(call: Call) -> View:
    view, asked = call.view(), [int(each) for each in np.reshape(call.constant(1), -1)]
    dims = view.dims
    if len(asked) > len(dims) or any(
        size not in (1, have) for size, have in zip(asked[::-1], dims[::-1], strict=False)
    ):
        return _repeated(call, view, asked)
    return view


def _repeated(call: Call, view: View, asked: list[int]) -> View:
    """A map of one place as large as another, whose product alone is understood: see `patterns`."""
    shape = call.shape(view)
    sizes = asked[-2:]
    point = call.builder.layout(view) == "NCHW" and shape.dimensions[1:] == (1, 1)
    if not point or len(asked) != 4 or asked[1] not in (1, shape.channels) or min(sizes) < 1:
        raise Unsupported(f"it repeats {view.dims} to {asked}")
    full = Shape(shape.channels, sizes[0], sizes[1])
    return call.builder.plain(call.add("repeat", [view.value], {}, shape=full))


# --- channels ------------------------------------------------------------------------------------


def role(call: Call, view: View, axis: int) -> str | None:
    """Which of its own axes a view has there: `C`, `H`, `W` or `N`."""
    layout = call.builder.layout(view)
    return layout[axis] if layout else None


def concat(call: Call) -> View:
    node, builder = call.node, call.builder
    given = [builder.settled(node, call.view(place)) for place in range(len(call))]
    axis = int(call.attributes["axis"]) % len(given[0].axes)
    roles = {role(call, each, axis) for each in given}
    values = [each.value for each in given]
    if roles == {"C"}:
        return builder.like(given[0], call.add("concat", values))
    if roles == {"H"} and builder.layout(given[0]) == "NCHW":
        return call.new("stack_rows", values)
    if roles == {None} and all(not each.axes[axis] for each in given):
        return _stacked(call, given, axis)
    raise Unsupported(f"a concatenation along the axis {axis}")


def _stacked(call: Call, given: Sequence[View], axis: int) -> View:
    """Maps along a new axis: their channels one after the other, seen as two axes."""
    value = call.add("concat", [each.value for each in given])
    shape, part = call.builder.shape(value), call.builder.shape(given[0].value)
    outer = Factor(f"{CHANNELS}a", len(given))
    inner = Factor(f"{CHANNELS}b", part.channels)
    axes: list[views.Axis] = []
    for place, each in enumerate(given[0].axes):
        if place == axis:
            axes.append((outer,))
        elif each == (Factor(CHANNELS, part.channels),):
            axes.append((inner,))
        else:
            axes.append(each)
    if part.channels * len(given) != shape.channels or (inner,) not in axes:
        raise Unsupported("values stacked along a new axis")
    return View(value, tuple(axes))


def split(call: Call) -> list[View]:
    view = call.builder.settled(call.node, call.view())
    axis = int(call.attributes.get("axis", 0)) % len(view.axes)
    size, number = view.dims[axis], len(call.node.outputs)
    sizes = call.attributes.get("split")
    if sizes is None and call.has(1):
        sizes = np.reshape(call.constant(1), -1)
    if sizes is None:
        step = -(-size // number)
        sizes = [min(step, size - step * k) for k in range(number)]
    return _parts(call, view, axis, [int(each) for each in sizes])


def split_to_sequence(call: Call) -> list[View]:
    view = call.builder.settled(call.node, call.view())
    axis = int(call.attributes.get("axis", 0)) % len(view.axes)
    stated = call.optional(1, np.int64(1))
    if np.ndim(stated) == 0:
        size, step = view.dims[axis], int(stated)
        sizes = [min(step, size - k) for k in range(0, size, step)]
    else:
        sizes = [int(each) for each in stated]
    return _parts(call, view, axis, sizes)


def sequence_at(call: Call) -> View:
    parts = call.known.lists.get(call.node.inputs[0])
    place = int(np.reshape(call.constant(1), -1)[0])
    if parts is None or not -len(parts) <= place < len(parts):
        raise Unsupported("an element of a list that is not known")
    return parts[place]


def _parts(call: Call, view: View, axis: int, sizes: list[int]) -> list[View]:
    """Parts along an axis of channels, of all of them or of their outer part."""
    total, builder = view.dims[axis], call.builder
    if sum(sizes) != total or min(sizes) < 1:
        raise Unsupported(f"parts of {sizes} of {total}")
    inner = _channels_within(call, view, axis)
    if len(set(sizes)) == 1 and len(sizes) > 1:
        values = builder.split(call.node, view.value, len(sizes))
        return [_part(call, view, axis, each, sizes[0]) for each in values]
    found, start = [], 0
    for size in sizes:
        found.append(_taken(call, view, axis, (start, start + size), inner))
        start += size
    return found


def _channels_within(call: Call, view: View, axis: int) -> int:
    """How many channels one step along an axis is; raises where it is no axis of channels."""
    factors = view.axes[axis]
    if role(call, view, axis) == "C":
        return 1
    names = sorted(f.name for each in view.axes for f in each if f.axis == CHANNELS)
    if len(factors) == 1 and factors[0].name == names[:1][0] and factors[0].axis == CHANNELS:
        return call.shape(view).channels // factors[0].size
    raise Unsupported("a part of something else than channels")


def _taken(call: Call, view: View, axis: int, bounds: tuple[int, int], inner: int) -> View:
    start, stop = (each * inner for each in bounds)
    value = call.add("take", [view.value], {"start": start, "stop": stop})
    return _part(call, view, axis, value, bounds[1] - bounds[0])


def _part(call: Call, view: View, axis: int, value: int, size: int) -> View:
    """The view of a part along an axis of channels."""
    if role(call, view, axis) == "C":
        return call.builder.like(view, value)
    name = view.axes[axis][0].name
    whole = Factor(CHANNELS, call.builder.shape(value).channels)
    axes: list[views.Axis] = []
    for place, each in enumerate(view.axes):
        if place == axis:
            axes.append((Factor(name, size),) if size > 1 else ())
        elif size == 1 and any(f.axis == CHANNELS for f in each):
            axes.append((whole,))
        else:
            axes.append(each)
    return View(value, tuple(axes))


def gather(call: Call) -> View:
    """One element along an axis of channels, which goes; or channels in another order."""
    view, place = call.view(), call.constant(1)
    axis = int(call.attributes.get("axis", 0)) % len(view.axes)
    if np.ndim(place) == 1:
        return _in_order(call, view, axis, [_place(each, view.dims[axis]) for each in place])
    if np.ndim(place) != 0:
        raise Unsupported("it gathers several elements")
    at = _place(place, view.dims[axis])
    inner = _channels_within(call, view, axis)
    taken = _taken(call, view, axis, (at, at + 1), inner)
    return View(taken.value, tuple(a for k, a in enumerate(taken.axes) if k != axis))


def _place(at: Any, size: int) -> int:
    """An index of an axis, which may be counted from its end."""
    if not -size <= int(at) < size:
        raise Unsupported(f"index {int(at)} of an axis of {size}")
    return int(at) % size


def _in_order(call: Call, view: View, axis: int, order: Sequence[int]) -> View:
    """Channels in any order, some of them several times: runs of them beside one another."""
    if role(call, view, axis) != "C":
        raise Unsupported("an order of something else than channels")
    starts = [k for k, at in enumerate(order) if not k or at != order[k - 1] + 1]
    if not 0 < len(starts) <= _MOST_RUNS:
        raise Unsupported(f"an order of channels in {len(starts)} runs")
    stops = [*starts[1:], len(order)]
    runs = [(order[a], order[b - 1] + 1) for a, b in zip(starts, stops, strict=True)]
    found = [_taken(call, view, axis, run, 1).value for run in runs]
    return call.builder.like(view, found[0] if len(found) == 1 else call.add("concat", found))


def tile(call: Call) -> View:
    """A value beside itself, so many times along its channels."""
    view, counts = call.view(), [int(each) for each in call.constant(1)]
    rank = len(view.axes)
    along = [axis for axis, count in enumerate(counts) if count != 1]
    if len(counts) != rank or len(along) > 1 or min(counts) < 1:
        raise Unsupported(f"a repetition by {counts}")
    if not along:
        return view
    if role(call, view, along[0]) != "C" or counts[along[0]] > _MOST_RUNS:
        raise Unsupported(f"a repetition by {counts}")
    return call.builder.like(view, call.add("concat", [view.value] * counts[along[0]]))


# --- places --------------------------------------------------------------------------------------


def cut(call: Call) -> View:
    """A slice: some channels, or every n-th row and column."""
    view = call.builder.settled(call.node, call.view())
    inputs = [None, *(call.optional(place) for place in range(1, len(call)))]
    bounds = folding.slices(inputs, call.attributes, len(view.axes))
    steps: dict[str | None, int] = {}
    for axis, (start, stop, step) in bounds.items():
        size = view.dims[axis]
        first, last = (_clamped(each, size) for each in (start, stop))
        if step != 1 and role(call, view, axis) == "C":
            view = _in_order(call, view, axis, range(size)[start:stop:step])
            continue
        if step < 1 or first >= last:
            raise Unsupported(f"a slice from {start} to {stop} by {step}")
        if (first, last, step) == (0, size, 1):
            continue
        if step == 1:
            inner = _channels_within(call, view, axis)
            view = _taken(call, view, axis, (first, last), inner)
        elif (first, last) == (0, size):
            steps[role(call, view, axis)] = step
        else:
            raise Unsupported(f"a slice from {start} to {stop} by {step}")
    return _every_nth(call, view, steps) if steps else view


def _clamped(place: int, size: int) -> int:
    return max(0, place + size) if place < 0 else min(place, size)


def _every_nth(call: Call, view: View, steps: dict[str | None, int]) -> View:
    """Every n-th row and column; exporters may write one slice for each of the two."""
    if not set(steps) <= {"H", "W"}:
        raise Unsupported("every n-th of something else than rows and columns")
    value, shape = view.value, call.shape(view)
    before = call.builder.makers.get(value)
    if (
        before is not None
        and before.kind == "every_nth"
        and not set(steps) & set(before.attributes)
    ):
        steps.update({name: int(step) for name, step in before.attributes.items()})
        value, shape = before.inputs[0], call.builder.shape(before.inputs[0])
    if len(steps) == 2:
        if len(set(steps.values())) != 1:
            raise Unsupported("other steps along rows than along columns")
        made = call.add("subsample", [value], {"stride": next(iter(steps.values()))})
    else:
        height, width = shape.height or 1, shape.width or 1
        rows, columns = (-(-s // steps.get(n, 1)) for n, s in (("H", height), ("W", width)))
        sizes = Shape(shape.channels, rows, columns)
        stated = {str(name): step for name, step in steps.items()}
        made = call.add("every_nth", [value], stated, shape=sizes)
    return call.builder.like(view, made)


def pad(call: Call) -> View:
    view = call.view()
    sides = call.attributes.get("pads")
    amounts = [int(each) for each in (call.constant(1) if sides is None else sides)]
    rank = len(view.axes)
    axes = [int(each) % rank for each in call.optional(3, range(rank))]
    before = dict(zip(axes, amounts[: len(axes)], strict=True))
    after = dict(zip(axes, amounts[len(axes) :], strict=True))
    if not any(amounts):
        return view
    mode = call.text("mode", "constant")
    value = call.optional(2, call.attributes.get("value"))
    if mode == "constant" and value is not None and np.any(value):
        raise Unsupported("a padding with another number than zero")
    layout = call.builder.layout(view)
    if layout not in ("NCHW", "NHWC") or mode not in ("constant", "reflect"):
        raise Unsupported(f"a padding in the mode {mode}")
    by_role = {layout[k]: (before.get(k, 0), after.get(k, 0)) for k in range(rank)}
    return _padded(call, view, by_role, mode)


def _padded(call: Call, view: View, by_role: dict[str, tuple[int, int]], mode: str) -> View:
    rows, columns = by_role["H"], by_role["W"]
    if min(rows + columns + by_role["C"]) < 0 or by_role["N"] != (0, 0):
        raise Unsupported("a padding that takes away")
    shape, places = call.shape(view), any(rows + columns)
    if any(by_role["C"]):
        if places or mode != "constant":
            raise Unsupported("a padding of channels and places")
        first, last = by_role["C"]
        made = call.add("pad_channels", [view.value], {"before": first, "after": last})
        return call.builder.like(view, made)
    height, width = (shape.height or 1) + sum(rows), (shape.width or 1) + sum(columns)
    kind = "pad" if mode == "constant" else "reflect_pad"
    sides = {"sides": (rows[0], columns[0], rows[1], columns[1])}
    made = call.add(kind, [view.value], sides, shape=Shape(shape.channels, height, width))
    return call.builder.like(view, made)


RULES: dict[str, Callable[[Call], View | list[View]]] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Expand": expand,
    "Concat": concat,
    "Split": split,
    "SplitToSequence": split_to_sequence,
    "SequenceAt": sequence_at,
    "Gather": gather,
    "Tile": tile,
    "Slice": cut,
    "Pad": pad,
}
