"""Blocks of the spec's own: what differs between their uses becomes arguments and conditions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from resnet_spec.importing.graph import Graph, Op, Value, takes_any
from resnet_spec.importing.structure.arguments import Piece
from resnet_spec.importing.structure.segments import Segment, segments
from resnet_spec.importing.writing.drafts import (
    Draft,
    Item,
    aligned,
    by_kind,
    first_stage,
    items,
    last_stage,
)
from resnet_spec.importing.writing.fillers import Filler
from resnet_spec.importing.writing.fitting import Fitting, Given
from resnet_spec.importing.writing.layers import Layer, Scope, dropout_of, usual_padding
from resnet_spec.importing.writing.names import Names, block_path, shared_word
from resnet_spec.importing.writing.stages import Signature, Use
from resnet_spec.importing.writing.wiring import Wiring
from resnet_spec.language.library import builtin_blocks
from resnet_spec.primitives import SAME

__all__ = ["Definitions", "Draft", "Item", "defined", "first_stage", "items", "last_stage"]

_DEFAULTS: dict[str, Any] = {"stride": 1, "project": False, "residual": True}
_ATTENTION = "attention"
_FIRST_ONLY = ("stride", "project")
# Attributes that may differ between uses, in the order in which they are looked at.
_NUMBERS = (
    "filters", "features", "kernel", "stride", "padding", "dilation", "groups", "parts", "start",
    "stop", "before", "after", "eps", "size",
)  # fmt: skip


@dataclass
class Definitions:
    """The blocks of a spec, and the uses of all blocks in their order."""

    blocks: dict[str, dict[str, Any]] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)

    def signature(self, block: str) -> Signature:
        """What a stage says of a block's first use alone."""
        arguments = self.blocks[block].get("args", {})
        return Signature({name: _DEFAULTS[name] for name in _FIRST_ONLY if name in arguments})

    def plainest(self, block: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments without those that are the default."""
        return {k: v for k, v in arguments.items() if k not in _DEFAULTS or v != _DEFAULTS[k]}


def defined(found: Sequence[Item], scope: Scope, hints: bool, apart: bool = False) -> Definitions:
    """The definitions of all drafts, and every block's use."""
    result = Definitions(dict(scope.roles.blocks))
    drafts = [item for item in found if isinstance(item, Draft)]
    uses: dict[int, Use] = {}
    # A name of the library would hide its block from whoever changes the spec.
    names = Names((*builtin_blocks(), *scope.roles.blocks))
    for group in by_kind(drafts, apart):
        block = _Block(scope, group, hints)
        name = names.only(block.kind())
        body = block.definition()
        result.blocks[name] = body
        for place, draft in enumerate(group):
            given = {each: block.given.arguments[each][place] for each in body.get("args", {})}
            ops = tuple(draft.ops)
            uses[id(draft)] = Use(name, given, ops, draft.first, draft.last)
    result.uses = [item if isinstance(item, Use) else uses[id(item)] for item in found]
    return result


class _Block:
    """One block from its uses."""

    def __init__(self, scope: Scope, drafts: Sequence[Draft], hints: bool) -> None:
        self.graph, self.drafts, self.hints = scope.graph, drafts, hints
        for draft, main in zip(drafts, aligned(scope.graph, drafts), strict=True):
            draft.main = main
        self.paths = [block_path(each.ops) for each in drafts]
        self.words = {} if any(self.paths) else _shared_words(drafts)
        self.scope = replace(scope, names=Names(), hint=self._local)
        self.given = Given(self.graph, drafts)
        self.layers: list[Layer] = []
        self.has_slot = False  # for attention, as blocks of the library have

    def kind(self) -> str:
        """What the block is called: by how it ends."""
        draft = self.drafts[0]
        if any(each.is_residual for each in self.drafts):
            return "residual_block"
        if draft.kind[0] == "layers":
            return "conv_block"
        if draft.kind[0] == "chain":
            convs = sum(op.kind == "conv" for op in draft.main)
            return "conv_block" if convs and len(self.drafts) > 1 else "transition_block"
        last = draft.main[-1]
        return "concat_block" if last.kind == "concat" else "block"

    def _local(self, name: str) -> str:
        """A layer's name within the block that it stands in."""
        if not self.hints:
            return ""
        parts = tuple(name.split("."))
        for path in self.paths:
            if path and parts[: len(path)] == path:
                return ".".join(parts[len(path) :])
        if len(self.drafts) == 1 and not any(self.paths):
            return name if len(parts) == 1 and not name.isdigit() else ""
        return self.words.get(name, "")

    # --- the definition --------------------------------------------------------------------------

    def definition(self) -> dict[str, Any]:
        self._write_main()
        if any(draft.is_residual for draft in self.drafts):
            self._write_sum()
        behind = [draft.behind or [] for draft in self.drafts]
        if behind[0]:
            self._write(behind, behind[0][0].inputs[0])
        dropout = dropout_of([draft.last for draft in self.drafts], self.scope)
        self.layers += [] if dropout is None else [dropout]
        lets = self._used(self.given.lets)
        text = _text([*self.layers, {"let": list(lets.values())}])
        arguments = {
            name: _argument(name, values)
            for name, values in self.given.arguments.items()
            if re.search(rf"\b{name}\b", text)
        }
        body: dict[str, Any] = {"description": self._description()}
        body.update({key: value for key, value in (("args", arguments), ("let", lets)) if value})
        if self.has_slot:
            body["slots"] = {_ATTENTION: "none"}
        body["layers"] = self.layers
        return body

    def _used(self, lets: Mapping[str, str]) -> dict[str, str]:
        text = _text(self.layers)
        return {name: value for name, value in lets.items() if re.search(rf"\b{name}\b", text)}

    def _description(self) -> str:
        columns = zip(*(draft.main for draft in self.drafts), strict=True)
        windows = [_windows(column) for column in columns if column[0].kind == "conv"]
        if not windows:
            return "Layers between two stages"
        shown = ", ".join(windows[:6]) + (", ..." if len(windows) > 6 else "")
        what = f"Convolution{'s' if len(windows) > 1 else ''} of {shown}"
        shortcut = any(each.is_residual for each in self.drafts)
        return f"{what} and a shortcut" if shortcut else what

    def _write_main(self) -> None:
        """The main branch; where a part of it is a block of the library, that block."""
        cut = [
            segments(Graph(list(each.main), each.first, each.main_last, self.graph.shapes))
            for each in self.drafts
        ]
        writer = self.main = self._wiring(self.drafts[0].first)
        for same in zip(*cut, strict=True):
            ops = [segment.ops for segment in same]
            part = self._filler(same) if len(same[0].ops) > 1 and len(cut[0]) > 1 else None
            if part is not None:
                writer.add_block(self._called(part, ops), same[0])
                continue
            for place, op in enumerate(ops[0]):
                column = [each[place] for each in ops]
                writer.add(op, self._stated(column, range(len(ops))), column)
        self.layers += writer.finished()

    def _wiring(self, start: Value, follows: bool = True) -> Wiring:
        return Wiring(self.scope, start, self.given.names, follows)

    def _filler(self, same: Sequence[Segment]) -> Filler | None:
        if self.scope.fillers is None:
            return None
        shapes = self.graph.shapes
        return self.scope.fillers.found([Piece.of(s.ops, s.first, s.last, shapes) for s in same])

    def _called(self, part: Filler, ops: Sequence[Sequence[Op]]) -> Layer:
        """A block within a block under the model's name, or that of the slot which it fills."""
        wanted = self._local(".".join(block_path(ops[0])))
        name = self.scope.names.take(wanted, part.slot)
        return {"block": part.block, "name": name, **part.arguments}

    def _write(self, columns: Sequence[Sequence[Op]], start: Value) -> None:
        """Layers for operations that all uses have; each takes what the one before gives."""
        writer = self._wiring(start)
        for place, op in enumerate(columns[0]):
            column = [each[place] for each in columns]
            writer.add(op, self._stated(column, range(len(columns))), column)
        self.layers += writer.finished()

    def _stated(self, column: Sequence[Op], places: Sequence[int]) -> dict[str, Any]:
        """Expressions for those attributes of an operation that differ between uses."""
        found: dict[str, Any] = dict(self._of_the_input(column, places))
        for name in _NUMBERS:
            values = [_attribute(op, name) for op in column]
            if values[0] is None or name in found or (name == "padding" and self._is_usual(column)):
                continue
            if name == "padding" and SAME in values:
                found[name] = SAME
                continue
            expression = self.given.expression(Fitting(name, values, list(places)))
            if expression is not None:
                found[name] = expression
        return found

    def _of_the_input(self, column: Sequence[Op], places: Sequence[int]) -> dict[str, str]:
        """What follows from the block's input, also where it is one number in all uses.

        The groups of a convolution of each channel by itself, and the channels that a shuffle
        deals out.
        """
        if not all(map(self._takes_input, column, places)):
            return {}
        channels = [self.given.channels[place] for place in places]
        stated = [op.attributes for op in column]
        if column[0].kind == "conv" and [each["groups"] for each in stated] == channels != [1]:
            keeps = [each["filters"] for each in stated] == channels
            return dict.fromkeys(("filters", "groups") if keeps else ("groups",), "in_channels")
        if column[0].kind == "shuffle" and len({each["groups"] for each in stated}) == 1:
            groups = stated[0]["groups"]
            if [each["parts"] * groups for each in stated] == channels:
                return {"parts": f"in_channels // {groups}"}
        return {}

    def _takes_input(self, op: Op, place: int) -> bool:
        """Whether an operation takes the block's input, or that behind a norm or an activation."""
        makers = {each.output: each for each in self.drafts[place].ops}
        taken = op.inputs[0]
        while (maker := makers.get(taken)) is not None and _keeps(maker):
            taken = maker.inputs[0]
        return taken == self.drafts[place].first

    def _is_usual(self, column: Iterable[Op]) -> bool:
        """Whether all have the padding that the language takes by itself."""
        return all(
            (op.kind == "conv" and self.scope.roles.same)
            or (
                op.kind in ("conv", "max_pool", "avg_pool")
                and _attribute(op, "padding") == usual_padding(op.attributes)
            )
            for op in column
        )

    # --- shortcuts -------------------------------------------------------------------------------

    def _write_sum(self) -> None:
        residual = [draft.is_residual for draft in self.drafts]
        shortcut = "x"
        if not self._weighs():
            self.has_slot = True
            self.layers.append({"slot": _ATTENTION, "name": self.scope.names.only(_ATTENTION)})
        self.layers[-1]["as"] = "residual"
        flags = [bool(draft.shortcut) for draft in self.drafts]
        if any(flags):
            shortcut = "shortcut"
            self._write_shortcut(flags)
        add: Layer = {"add": ["residual", shortcut]}
        if not all(residual):
            add["when"] = self.given.condition(residual, "residual")
            add["else"] = "residual"
        self.layers.append(add)

    def _weighs(self) -> bool:
        """Whether its main branch weighs channels or places, so has attention of some kind.

        A gate of the value's own shape is none.
        """
        shapes = self.scope.graph.shapes
        products = (op for op in self.drafts[0].main if op.kind == "multiply")
        return any(len({shapes[value] for value in op.inputs}) > 1 for op in products)

    def _write_shortcut(self, flags: Sequence[bool]) -> None:
        places = [place for place, flag in enumerate(flags) if flag]
        # A pooling that some have and others do not stands before all else.
        places.sort(key=lambda place: -len(self.drafts[place].shortcut))
        branches = [self.drafts[place].shortcut for place in places]
        first = self.drafts[places[0]]
        writer = self._wiring(branches[0][0].inputs[0], follows=False)
        if first.before:
            writer.labels[branches[0][0].inputs[0]] = self.main.label(self._branch(first))
        for number, op in enumerate(branches[0], -len(branches[0])):
            having = [place for place, each in zip(places, branches, strict=True)
                      if len(each) >= -number]  # fmt: skip
            column = [self.drafts[place].shortcut[number] for place in having]
            writer.add(op, self._stated(column, having), column)
        layers = writer.finished()
        layers[0].setdefault("from", "x")
        if not all(flags):
            projects = any(op.kind in ("conv", "pad_channels") for op in branches[0])
            when = self.given.condition(list(flags), "project", projects)
            for layer in layers:
                layer["when"] = when
            if first.before:
                layers[-1]["else"] = "x"
        strided = "pool" in branches[0][0].kind and layers[0].get("stride") == "stride"
        if strided and layers[0].get("when") != "stride != 1":
            _pool_where_strided(layers)
        layers[-1]["as"] = "shortcut"
        self.layers += layers

    def _branch(self, draft: Draft) -> Value:
        """Of the first use the value in the place of the one that a shortcut takes."""
        taken = draft.shortcut[0].inputs[0]
        place = next(k for k, op in enumerate(draft.main) if taken in op.outputs)
        return self.drafts[0].main[place].output


def _pool_where_strided(layers: Sequence[Layer]) -> None:
    """A pooling before a projection is there for another size, and not for other channels."""
    if len(layers) > 1:
        layers[0].update({"when": "stride != 1", "else": layers[0]["from"], "as": "pooled"})
        layers[1]["from"] = "pooled"


def _shared_words(drafts: Sequence[Draft]) -> dict[str, str]:
    """By the name of a layer in the first use, how its names in all uses end.

    Where a model names its layers in one row, as Keras does, `s2_block1_conv1` is a name of one
    use; the block has `conv1`.
    """
    found: dict[str, str] = {}
    rows = [draft.main for draft in drafts], [draft.behind or [] for draft in drafts]
    for columns in (zip(*row, strict=True) for row in rows):
        for column in columns:
            for parts in zip(*(op.parts or (op,) for op in column), strict=False):
                found[parts[0].name] = shared_word([part.name for part in parts])
    return found


def _keeps(op: Op) -> bool:
    """Whether what comes out has the channels of what goes in, such as a norm or an activation."""
    return len(op.inputs) == 1 and takes_any(op.kind)


def _windows(column: Iterable[Op]) -> str:
    """The windows of a convolution in all uses."""
    sizes = sorted({op.attributes["kernel"] for op in column})
    return " or ".join(f"{size}x{size}" for size in sizes)


def _attribute(op: Op, name: str) -> Any:
    """An attribute as it was before a size of its own was written as a number."""
    if name == "padding" and op.parts and op.parts[0].attributes.get("padding") == SAME:
        return SAME
    return op.attributes.get(name)


def _argument(name: str, values: Sequence[Any]) -> Any:
    if name in _DEFAULTS:
        default: dict[str, Any] = {"default": _DEFAULTS[name]}
        return {**default, "only": "first"} if name in _FIRST_ONLY else default
    return "float" if any(isinstance(each, float) for each in values) else "int"


def _text(layers: Iterable[Mapping[str, Any]]) -> str:
    """All values in layers, to look for names in; what they are for is none of them."""
    return " ".join(str(value) for layer in layers for value in layer.values())
