"""The model's names, where they are names, and others that fit where they are not."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from resnet_spec.importing.graph import Op

_PART = re.compile(r"[A-Za-z_]\w*|0|[1-9]\d*")
_NUMBERED = re.compile(r"(.*?)(\d+)(\.\D*)?")
_FIRST = re.compile(r"\{i(?: \+ (\d+))?\}")  # in the names of a stage's blocks
_WORD = re.compile(r"[a-z]{2,}\d*")

Path = tuple[str, ...]


class Names:
    """The names of one scope: each is given once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)
        self._counts: Counter[str] = Counter()

    def take(self, wanted: str, kind: str) -> str:
        """A wanted dotted name if it is one and free, else the kind with the next number."""
        if self.is_free(wanted):
            self.taken.add(wanted)
            return wanted
        while True:
            self._counts[kind] += 1
            name = f"{kind}{self._counts[kind]}"
            if not self._clashes(name):
                self.taken.add(name)
                return name

    def only(self, kind: str) -> str:
        """The kind itself if it is free, else with a number."""
        return self.take(kind, kind)

    def is_free(self, wanted: str) -> bool:
        """Whether it is a name, and one that can be taken."""
        return is_name(wanted) and not self._clashes(wanted)

    def _clashes(self, name: str) -> bool:
        """Whether a layer has the name, is within it, or has it within; also with `_` for `.`."""
        flat = name.replace(".", "_")
        return any(
            name == other
            or name.startswith(f"{other}.")
            or other.startswith(f"{name}.")
            or flat == other.replace(".", "_")
            for other in self.taken
        )


def is_name(text: str) -> bool:
    """Whether a text can be a layer's name."""
    parts = text.split(".")
    return len(text) <= 64 and text != "x" and all(_PART.fullmatch(part) for part in parts)


def path_of(op: Op) -> Path:
    """The parts of the name of the layer that an operation was written for."""
    named = op.parts[0] if op.parts else op
    return tuple(part for part in named.name.split(".") if part) if named.name else ()


def shared_start(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The parts with which all begin."""
    same = itertools.takewhile(
        lambda parts: all(each == parts[0] for each in parts), zip(*paths, strict=False)
    )
    return tuple(parts[0] for parts in same)


def block_path(ops: Sequence[Op]) -> Path:
    """The dotted name of a block, as its layers tell it; () where they tell none."""
    paths = [
        tuple(each for each in part.name.split(".") if each)
        for op in ops
        for part in op.parts or (op,)
        if part.parameters and part.name
    ]
    if not paths:
        return ()
    shared = shared_start(paths)
    if any(path == shared for path in paths):
        shared = shared[:-1]  # that is a layer
    return shared


def stage_names(
    paths: Sequence[Path], patterns: Iterable[str] = ()
) -> tuple[str, str | None, bool]:
    """The name of a stage, the pattern of its blocks', and whether one block alone is numbered.

    From the names of the blocks: `layer1.0`, `layer1.1` are the stage `layer1`, `b1.layer1`,
    `b1.layer2` the stage `b1` with `layer{i + 1}`, and `s1.0.body`, `s1.1.body` the stage `s1` with
    `{i}.body`. One block alone is the first of a stage where one of the patterns gives its name.
    """
    if not paths or any(not path for path in paths):
        return "", None, False
    if len(paths) == 1:
        *rest, last = paths[0]
        if last == "0" and rest:
            return ".".join(rest), None, True
        whole = ".".join(paths[0])
        for pattern in patterns:
            first = f".{_FIRST.sub(lambda match: match[1] or '0', pattern)}"
            if whole.endswith(first):
                return whole.removesuffix(first), pattern, True
        return whole, None, False
    stem = shared_start(paths)
    tails = [".".join(path[len(stem) :]) for path in paths]
    numbers = [_NUMBERED.fullmatch(tail) for tail in tails]
    if not stem or not all(numbers):
        return "", None, False
    around = {(match[1], match[3] or "") for match in numbers if match}
    values = [int(match[2]) for match in numbers if match]
    if len(around) != 1 or values != list(range(values[0], values[0] + len(values))):
        return ".".join(stem), None, False
    (before, behind), start = around.pop(), values[0]
    if (before, start, behind) == ("", 0, ""):
        return ".".join(stem), None, False
    number = "i" if start == 0 else f"i + {start}"
    return ".".join(stem), f"{before}{{{number}}}{behind}", False


def shared_word(names: Sequence[str]) -> str:
    """The words with which all names end, where that begins with one: `conv1` of `s2_b1_conv1`."""
    words = [tuple(name.split("_"))[::-1] for name in names]
    shared = shared_start(words)[::-1]
    return "_".join(shared) if shared and _WORD.fullmatch(shared[0]) else ""


def norm_beside(conv: str) -> str:
    """The usual name of the norm behind a convolution."""
    head, _, last = conv.rpartition(".")
    if "conv" in last:
        return f"{head}.{last.replace('conv', 'bn')}".lstrip(".")
    if last.isdigit():
        return f"{head}.{int(last) + 1}".lstrip(".")
    return f"{conv}_bn"
