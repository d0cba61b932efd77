"""What the networks of the package say of the library's blocks: the words that an import may use.

Which blocks are stages, what fills their slots and which values their arguments have is read from
the specs themselves, so a block that comes new is looked for with the first network that has it.
"""

from __future__ import annotations

import functools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resnet_spec.importing.structure.probing import library
from resnet_spec.language.library import builtin_blocks, builtin_folder, builtin_specs
from resnet_spec.language.load import load
from resnet_spec.language.nodes import plain
from resnet_spec.primitives import PRIMITIVES


@dataclass(frozen=True)
class Vocabulary:
    """Blocks and values, the most frequent first."""

    stages: tuple[str, ...]  # the blocks that networks have as stages
    beside: Mapping[str, frozenset[str]]  # by block, those that stand in one network with it
    values: Mapping[str, tuple[Any, ...]]  # by the name of an argument or a slot

    def rank(self, block: str) -> int:
        """How plain a block is: that of most networks comes first."""
        return self.stages.index(block)


@functools.cache
def vocabulary() -> Vocabulary:
    """The words of all networks of the package."""
    stages: Counter[str] = Counter()
    beside: dict[str, set[str]] = defaultdict(set)
    values: dict[str, Counter[str]] = defaultdict(Counter)
    for name in builtin_specs():
        spec = plain(load(name, library()).node)
        defaults = spec.get("defaults") or {}
        here = [each for each in spec["stages"] if each["block"] in builtin_blocks()]
        blocks = {stage["block"] for stage in here}
        for block in blocks:
            stages[block] += 1
            beside[block] |= blocks
        for stage in here:
            definition = library().find_block(stage["block"], builtin_folder())
            assert definition is not None
            usual = {slot: each.target for slot, each in definition.slots.items()}
            stated = {**usual, **(defaults.get(stage["block"]) or {}), **stage}
            known = {k: v for k, v in stated.items() if k in usual or k in definition.arguments}
            for key, value in _said(known, defaults):
                values[key][json.dumps(value)] += 1
    return Vocabulary(
        tuple(block for block, _ in stages.most_common()),
        {block: frozenset(found) for block, found in beside.items()},
        {key: _in_order(found) for key, found in values.items()},
    )


def _said(stage: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values of a stage that every spec could have: numbers, flags, and blocks of ours."""
    for key, given in stage.items():
        for value in given if isinstance(given, list) else [given]:
            if isinstance(value, int):
                yield key, value
                continue
            named = value if isinstance(value, dict) else {value or "none": defaults.get(value)}
            ((target, arguments),) = named.items()
            if target in builtin_blocks() or target in PRIMITIVES or target == "none":
                yield key, {target: arguments} if arguments else target
            yield from (arguments or {}).items()


def _in_order(found: Counter[str]) -> tuple[Any, ...]:
    return tuple(json.loads(text) for text, _ in found.most_common())
