"""A comparison as text, as Markdown for a comment, and for programs."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from resnet_spec.compare.changes import Change
from resnet_spec.compare.comparison import Comparison
from resnet_spec.compare.rules import RULES, Effect
from resnet_spec.diagnostics import escapes
from resnet_spec.ir.summary import Section

SHOWN = 12  # names of tensors, and of changes that are told
_PLACES = 3

_TO = " → "
CHANGE_HEADINGS = ("where", "what", "before", "after", "rule")
TOTAL_HEADINGS = ("", "before", "after", "difference")
SECTION_HEADINGS = (
    "stage",
    "output",
    "block",
    "parameters",
    "multiply-adds",
    "receptive field",
    "stride",
)

_SAYS = {
    Effect.SAME: "same function",
    Effect.LOADS: "checkpoints load",
    Effect.PART: "load in part",
    Effect.BREAK: "break",
}
_OF_FUNCTION = {
    "same": "in evaluation it is proven to compute the same",
    "same-after-renames": "renamed, it is proven to compute the same in evaluation",
    "differs": "it computes something else",
}
_EQUAL = "="
_NUMBERS = ("parameters", "statistics", "macs", "operations", "peak_activation")
_WORDS = {"macs": "multiply-adds", "peak_activation": "peak activation"}
_TENSOR_WORDS = {
    "tensors-renamed": "renamed",
    "tensors-reshaped": "of another shape",
    "tensors-new": "new",
    "tensors-lost": "no longer there",
}


def headline(found: Comparison) -> str:
    """What a change means, in one line."""
    tensors = found.tensors
    if found.effect is Effect.SAME:
        loading = "every tensor loads"
    elif tensors.load:
        loading = "every tensor loads"
        if tensors.renames:
            loading += ", some of them for another layer"
    elif tensors.shares == (1.0, 1.0):
        loading = "every tensor loads once it is renamed"
    else:
        old, new = (f"{_percent(share)} %" for share in tensors.shares)
        loading = f"{old} of the old weights load, {new} of the new ones are filled"
    return f"{_SAYS[found.effect]}: {loading}; {_of_function(found)}"


def _percent(share: float) -> str:
    """Whole per cent; neither all nor nothing is told where it is not so."""
    rounded = round(100 * share)
    if rounded == 100 and share < 1:
        return "99.9" if share > 0.999 else "99"
    return "0" if share == 0 else str(max(rounded, 1))


def _of_function(found: Comparison) -> str:
    if found.function != "differs" and found.effect is Effect.LOADS:
        return "its layers compute the same, and what goes in or comes out is something else"
    if any(each.rule == "not-proven" for each in found.changes):
        return "it is not proven to compute the same"
    if found.effect is Effect.SAME and found.changes:
        return f"{_OF_FUNCTION[found.function]}; what changed shows in training, if at all"
    return _OF_FUNCTION[found.function]


def title(found: Comparison) -> str:
    """Old and new; where both have one name, with the files that they come from."""
    old, new = found.old, found.new
    if old.name == new.name and old.path != new.path:
        return f"{old.path}{_TO}{new.path}"
    if old.name == new.name and new.overridden:
        return f"{old.name}{_TO}{new.name} with {', '.join(new.overridden)}"
    return f"{old.name}{_TO}{new.name}"


# --- changes and tensors -------------------------------------------------------------------------


def architecture(found: Comparison) -> list[Change]:
    """What changed beside tensors, the gravest first."""
    told = [each for each in found.changes if RULES[each.rule].effect.rank < Effect.PART.rank]
    return sorted(told, key=lambda each: -found.effect_of(each).rank)


def rows(found: Comparison, limit: int | None = SHOWN) -> list[tuple[str, ...]]:
    """Each change; below them how many more there are."""
    told = architecture(found)
    shown = told if limit is None else told[:limit]
    result: list[tuple[str, ...]] = [
        (_where(each), each.what, each.before or "-", each.after or "-", each.rule)
        for each in shown
    ]
    if len(told) > len(shown):
        result.append((f"… and {len(told) - len(shown)} more", "", "", "", ""))
    return result


def _where(change: Change) -> str:
    """The places of a change, of many the first and the last with their number."""
    names = [name or "network" for name in change.places] or ["network"]
    if len(names) <= _PLACES:
        return ", ".join(names)
    return f"{names[0]} … {names[-1]} ({len(names)})"


def tensor_lines(found: Comparison, limit: int | None = SHOWN) -> Iterator[str]:
    """The tensors that do not load as they are, with their names."""
    for rule, lines in _tensors(found):
        yield f"{len(lines)} {'tensor' if len(lines) == 1 else 'tensors'} {_TENSOR_WORDS[rule]}:"
        shown = lines if limit is None else lines[:limit]
        yield from (f"  {line}" for line in shown)
        if len(lines) > len(shown):
            yield f"  … and {len(lines) - len(shown)} more"


def _tensors(found: Comparison) -> Iterator[tuple[str, list[str]]]:
    tensors = found.tensors
    reshaped = [
        f"{each.new_name}  {_shape(each.old)} → {_shape(each.new)}" for each in tensors.reshaped
    ]
    for rule, lines in (
        ("tensors-renamed", [f"{old} → {new}" for old, new in tensors.renamed]),
        ("tensors-reshaped", reshaped),
        ("tensors-new", list(tensors.new)),
        ("tensors-lost", list(tensors.lost)),
    ):
        if lines:
            yield rule, lines


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def rename_command(found: Comparison) -> str | None:
    """How a checkpoint of the old network is given the new names; None where they are the same."""
    if not found.tensors.renames:
        return None
    words = ["resnet-spec", "weights", "import", "OLD.pt", found.new.path]
    words += [w for key in found.new.overridden for w in ("--set", key)]
    for old, new in found.tensors.renames.items():
        words += ["--rename", f"{old}={new}"]
    partial = found.tensors.reshaped or found.tensors.new or found.tensors.lost
    words += ["--partial"] if partial else []
    return shlex.join([*words, "--out", "NEW.pt"])


# --- sizes ---------------------------------------------------------------------------------------


def totals(found: Comparison) -> list[tuple[str, ...]]:
    """Each number before and after, with the difference in per cent; none where all are equal."""
    result: list[tuple[str, ...]] = []
    for name in _NUMBERS:
        old, new = (getattr(each, name) for each in found.summaries)
        result.append((_WORDS.get(name, name), f"{old:,}", f"{new:,}", _difference(old, new)))
    return result if any(row[3] != _EQUAL for row in result) else []


def _difference(old: int, new: int) -> str:
    if old == new:
        return _EQUAL
    share = 100 * (new - old) / old if old else math.inf
    return f"{share:+.1f} %" if 0.05 <= abs(share) < math.inf else f"{new - old:+,}"


def section_rows(found: Comparison) -> list[tuple[str, ...]]:
    """The sections whose sizes differ: output, blocks, parameters, multiply-adds, reach, stride."""
    result = []
    for old, new in found.sections:
        cells = [_cells(each) for each in (old, new)]
        if cells[0] != cells[1]:
            name = new.name if new is not None else old.name if old is not None else ""
            if old is not None and new is not None and old.name != new.name:
                name = f"{old.name} → {new.name}"
            changed = [a if a == b else f"{a} → {b}" for a, b in zip(*cells, strict=True)]
            result.append((name, *changed))
    return result


def _cells(section: Section | None) -> tuple[str, ...]:
    if section is None:
        return ("-",) * (len(SECTION_HEADINGS) - 1)
    return (
        str(section.output),
        section.blocks or "-",
        f"{section.parameters:,}",
        f"{section.macs:,}",
        "all" if section.receptive_field is None else f"{section.receptive_field:,}",
        "-" if section.stride is None else str(section.stride),
    )


# --- for programs --------------------------------------------------------------------------------


def as_json(found: Comparison) -> dict[str, Any]:
    """Everything, nothing shortened; shapes in PyTorch's order of axes."""
    tensors = found.tensors
    return {
        "old": _network_json(found, 0),
        "new": _network_json(found, 1),
        "class": found.effect.value,
        "function": found.function,
        "changes": [
            {
                "rule": each.rule,
                "class": found.effect_of(each).value,
                "what": each.what,
                "before": each.before,
                "after": each.after,
                "places": list(each.places),
                "sections": list(each.sections),
            }
            for each in found.changes
        ],
        "tensors": {
            "fitting": len(tensors.fitting),
            "renamed": [{"old": old, "new": new} for old, new in tensors.renamed],
            "reshaped": [each._asdict() for each in tensors.reshaped],
            "new": list(tensors.new),
            "lost": list(tensors.lost),
            "old_share": tensors.shares[0],
            "new_share": tensors.shares[1],
        },
        "renames": dict(tensors.renames),
        "sections": [
            {"old": _section_json(old), "new": _section_json(new)} for old, new in found.sections
        ],
    }


def _network_json(found: Comparison, index: int) -> dict[str, Any]:
    network, summary = (found.old, found.new)[index], found.summaries[index]
    return {
        "name": network.name,
        "path": network.path,
        "input": list(network.input.dimensions),
        "classes": network.classes,
        **{name: getattr(summary, name) for name in _NUMBERS},
    }


def _section_json(section: Section | None) -> dict[str, Any] | None:
    if section is None:
        return None
    return {**section._asdict(), "output": list(section.output.dimensions)}


# --- Markdown ------------------------------------------------------------------------------------


def as_markdown(found: Comparison) -> str:
    """A section of a comment or of a job's summary; what a spec says in it is code."""
    old, new = map(escapes.markdown, title(found).split(_TO))
    lines = [f"### {old}{_TO}{new}", "", f"**{headline(found)}**", ""]
    changes = rows(found)
    if changes:
        lines += _table(CHANGE_HEADINGS, changes)
    numbers = totals(found)
    if numbers:
        lines += _table(TOTAL_HEADINGS, numbers)
    sections = section_rows(found)
    if sections:
        lines += _details("Sizes by stage", _table(SECTION_HEADINGS, sections))
    tensors = list(tensor_lines(found, limit=100))
    if tensors:
        lines += _details("Tensors that do not load as they are", _code(tensors))
    command = rename_command(found)
    if command is not None:
        lines += ["Old checkpoints get the new names by", "", *_code([command])]
    return "\n".join(lines).rstrip() + "\n"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heading)} |", f"|{' --- |' * len(heading)}"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return [*lines, ""]


def _cell(text: str) -> str:
    """Numbers and rules as they are; names, and all that a spec says, as code."""
    is_ours = _NUMERIC.fullmatch(text) or text in RULES or text in _OUR_WORDS
    return text if is_ours else escapes.markdown(text)


_NUMERIC = re.compile(r"[0-9 ,.%+=x→-]*")
_OUR_WORDS = frozenset({*_NUMBERS, *_WORDS.values(), "network", "layer", "block", "order", "takes"})


def _details(summary: str, lines: list[str]) -> list[str]:
    return [f"<details><summary>{summary}</summary>", "", *lines, "</details>", ""]


def _code(lines: Sequence[str]) -> list[str]:
    """Lines as they are: the fence is longer than any within."""
    text = [escapes.one_line(line) for line in lines]
    longest = max((len(run) for line in text for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", *text, fence, ""]
