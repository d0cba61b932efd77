"""How a file and a network fit together, as text and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from resnet_spec.diagnostics import quoted
from resnet_spec.weights import convert
from resnet_spec.weights.adapt import Plan, Step
from resnet_spec.weights.checkpoint import FLOATS, Checkpoint, Layout, shape_text
from resnet_spec.weights.match import Match, Pair, near

MAX_ROWS = 2_000  # of a list; no network that anybody reads has more


def kind(file: Checkpoint) -> str:
    """What a file is, in a line."""
    types = sorted({tensor.dtype for tensor in file.tensors})
    return f"{file.shown}: {file.format}, {len(file.tensors):,} tensors, {', '.join(types)}"


def head(found: Match) -> str:
    """What the file is, and whose names it has."""
    file = found.checkpoint
    lines = [
        kind(file),
        f"names: {found.naming.label}",
        *(f"note: {note}" for note in file.notes),
    ]
    return "\n".join(lines)


def lists(found: Match, all_names: bool = False) -> str:
    """The names on both sides, the kinds without any left out, and the totals."""
    layout = found.checkpoint.layout
    close = near(found)
    lines: list[str] = []
    if all_names:
        lines += _list(
            "matched", [(p.entry.name, p.entry.shape(layout), "") for p in found.fitting]
        )
    missing = [(e.name, e.shape(layout), _meant(close, e.name)) for e in found.missing]
    extra = [
        (each.tensor.name, each.tensor.shape, _meant(close, each.tensor.name))
        for each in found.extra
    ]
    lines += [*_list("missing", missing), *_list("extra", extra)]
    typed = [pair for pair in found.wrong if pair.tensor.dtype not in FLOATS]
    shaped = [pair for pair in found.wrong if pair.tensor.dtype in FLOATS]
    for title, pairs in (("wrong shape", shaped), ("wrong type", typed)):
        rows = [(each.entry.name, each.tensor.shape, _expected(each, layout)) for each in pairs]
        lines += _list(title, rows)
    totals = f"{len(found.fitting):,} matched, {len(found.missing):,} missing, "
    totals += f"{len(found.extra):,} extra, {len(shaped):,} of another shape"
    totals += f", {len(typed):,} of another type" if typed else ""
    return "\n".join([*lines, totals])


def _list(title: str, rows: Sequence[tuple[str, tuple[int, ...], str]]) -> Iterator[str]:
    if rows:
        yield f"{title}:"
        names = [_plain(name) for name, _, _ in rows[:MAX_ROWS]]
        width = max(map(len, names))
        for name, (_, shape, more) in zip(names, rows, strict=False):
            yield f"  {name:<{width}}  {shape_text(shape)}{more}"
        if len(rows) > MAX_ROWS:
            yield f"  … and {len(rows) - MAX_ROWS:,} more"


def _plain(name: str) -> str:
    """A name of the file as a terminal can take it: on one line, no control characters, cut."""
    return quoted(name, 120)[1:-1]


def _meant(close: Mapping[str, str], name: str) -> str:
    return f"  did you mean {quoted(close[name], 120)}?" if name in close else ""


def _expected(pair: Pair, layout: Layout) -> str:
    wanted = pair.entry.shape(layout)
    expected = shape_text(wanted) if pair.tensor.dtype in FLOATS else f"one of {', '.join(FLOATS)}"
    return f" {pair.tensor.dtype}, expected {expected}"


def doubts(found: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each tensor with values that no trained network has."""
    return [f"{what}: {name}" for what, names in found.items() for name in names]


def as_json(found: Match, doubts: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """The same for programs; shapes are in the file's order of axes."""
    layout = found.checkpoint.layout
    close = near(found)
    return {
        "format_version": 1,
        "file": found.checkpoint.shown,
        "format": found.checkpoint.format,
        "layout": layout,
        "notes": list(found.checkpoint.notes),
        "network": found.network.name,
        "names": found.naming.label,
        "fits": found.fits,
        "matched": [
            {"name": p.entry.name, "tensor": p.tensor.name, **_size(p.tensor.shape, p.tensor.dtype)}
            for p in found.fitting
        ],
        "missing": [
            {"name": e.name, "shape": list(e.shape(layout)), "nearest": close.get(e.name)}
            for e in found.missing
        ],
        "extra": [
            {
                "name": each.tensor.name,
                **_size(each.tensor.shape, each.tensor.dtype),
                "nearest": close.get(each.tensor.name),
            }
            for each in found.extra
        ],
        "wrong_shape": [
            {
                "name": p.entry.name,
                "tensor": p.tensor.name,
                **_size(p.tensor.shape, p.tensor.dtype),
                "expected": list(p.entry.shape(layout)),
            }
            for p in found.wrong
        ],
        **{what.replace(" ", "_"): names for what, names in (doubts or convert.doubts(())).items()},
    }


def _size(shape: tuple[int, ...], dtype: str) -> dict[str, Any]:
    return {"shape": list(shape), "dtype": dtype}


def changes(found: Match, plan: Plan, rule: Any) -> list[str]:
    """A line for everything that is not taken as it is."""
    layout = found.checkpoint.layout
    lines = [step.text(layout, rule) for step in plan.steps if step.how != "taken"]
    return lines + [
        f"dropped  {_plain(tensor.name)} {shape_text(tensor.shape)}" for tensor in plan.dropped
    ]


def steps_json(found: Match, steps: Sequence[Step]) -> list[dict[str, Any]]:
    """What was done with each tensor that was not taken as it is."""
    return [
        {"name": step.entry.name, "how": step.how, "shape": list(step.entry.parameter.shape)}
        for step in steps
        if step.how != "taken"
    ]
