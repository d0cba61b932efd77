"""What a layer's configuration states, key by key: what no rule asks for is not passed over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeGuard

from resnet_spec.diagnostics import quoted
from resnet_spec.importing.errors import Unsupported
from resnet_spec.language.name_resolution import MAX_SIZE

# What evaluation does not depend on: names, how weights begin and are trained, older spellings of
# the shape of a first layer's input. The type that is computed in is looked at for the whole model.
_TRAINING = frozenset((
    "name", "trainable", "dtype", "batch_input_shape", "batch_shape", "batch_size", "input_dtype",
    "input_spec", "seed", "noise_shape", "momentum", "renorm_clipping", "renorm_momentum", "fused",
    "synchronized", "autocast",
))  # fmt: skip
_HELD_BY = ("_regularizer", "_constraint")
_TRAINING_ENDS = ("_initializer", *_HELD_BY)


class Options:
    """The configuration of one layer. Every key is taken by a rule, or says nothing, or is refused.

    `taken` has what was: closed values alone, from which the layer can be made again.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.taken: dict[str, Any] = {}
        self._passed: set[str] = set()

    def _take(self, key: str, default: Any) -> Any:
        found = self._config.get(key, default)
        if key in self._config:
            self.taken[key] = found
        return found

    def has(self, key: str) -> bool:
        """Whether a key states something."""
        return self._config.get(key) is not None

    def states(self, key: str, value: Any) -> bool:
        """Whether a key has this value, which no rule takes by that."""
        return bool(self._config.get(key) == value)

    def regularizers(self) -> list[str]:
        """The keys of what holds the layer's weights in training: regularizers and constraints."""
        return [key for key in self._config if key.endswith(_HELD_BY) and self.has(key)]

    def policy(self) -> str:
        """The name of the type that the layer computes in; "" where that is not stated."""
        found = self._config.get("dtype")
        inner = found.get("config") if isinstance(found, Mapping) else None
        found = inner.get("name") if isinstance(inner, Mapping) else found
        return found if isinstance(found, str) else ""

    def flag(self, key: str, default: bool) -> bool:
        found = self._take(key, default)
        if not isinstance(found, bool):
            raise _unclear(key, found, "true or false")
        return found

    def integer(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A whole number."""
        found = self._take(key, default)
        if not (_is_integer(found) and least <= found <= MAX_SIZE):
            raise _unclear(key, found, f"a whole number from {least} to {MAX_SIZE:,}")
        return int(found)

    def axis(self, key: str, default: int = -1) -> int:
        """The number of an axis; older files have it in a list."""
        found = self._take(key, default)
        if isinstance(found, list) and len(found) == 1:
            found = found[0]
        if not (_is_integer(found) and -8 < found < 8):
            raise _unclear(key, found, "an axis from -7 to 7")
        if key in self.taken:
            self.taken[key] = int(found)
        return int(found)

    def number(self, key: str, default: float | None = None) -> float:
        found = self._take(key, default)
        if not _is_number(found):
            raise _unclear(key, found, "a number")
        return float(found)

    def numbers(self, key: str, default: float) -> float | list[float]:
        """One number, or one for each channel."""
        found = self._take(key, default)
        while isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
            found = found[0]
        if isinstance(found, list) and found and all(_is_number(each) for each in found):
            return [float(each) for each in found]
        if not _is_number(found):
            raise _unclear(key, found, "a number, or one for each channel")
        return float(found)

    def pair(self, key: str, default: int | tuple[int, int] | None = None) -> list[int]:
        """Whole numbers for rows and columns; one stands for both."""
        stated = self._take(key, default)
        found = [stated, stated] if _is_integer(stated) else stated
        is_pair = isinstance(found, list | tuple) and len(found) == 2
        if not (is_pair and all(_is_size(each) for each in found)):
            raise _unclear(key, stated, f"two whole numbers from 1 to {MAX_SIZE:,}")
        return [int(each) for each in found]

    def sizes(self, key: str, least: int = 1) -> list[int]:
        """A list of whole numbers."""
        found = self._take(key, None)
        is_short = isinstance(found, list | tuple) and len(found) <= 8
        if not (is_short and all(_is_integer(k) and least <= k <= MAX_SIZE**2 for k in found)):
            expected = f"up to 8 whole numbers from {least} to {MAX_SIZE**2:,}"
            raise _unclear(key, found, expected)
        return [int(each) for each in found]

    def sides(self, key: str) -> list[list[int]]:
        """Rows above and below, columns to the left and right: a number, a pair or two pairs."""
        stated = self._take(key, 0)
        found = [stated, stated] if _is_integer(stated) else stated
        if isinstance(found, list | tuple) and len(found) == 2:
            pairs = [[each, each] if _is_integer(each) else each for each in found]
            whole = all(isinstance(each, list | tuple) and len(each) == 2 for each in pairs)
            flat = [side for each in pairs for side in each] if whole else [None]
            if all(_is_integer(each) and 0 <= each <= MAX_SIZE for each in flat):
                return [[int(side) for side in each] for each in pairs]
        raise _unclear(key, stated, f"rows and columns from 0 to {MAX_SIZE:,}")

    def text(self, key: str, default: str) -> str:
        found = self._take(key, default)
        found = default if found is None else found
        if not isinstance(found, str):
            raise _unclear(key, found, "a word")
        return found

    def word(self, key: str, default: str, *known: str) -> str:
        """One of some words; any other is refused by name."""
        found = self.text(key, default)
        if found not in known:
            raise Unsupported(f"its {quoted(key)} is {quoted(found)}, not {' or '.join(known)}")
        return found

    def only(self, key: str, *allowed: Any) -> None:
        """A key that may say nothing but what makes no difference."""
        found = self._config.get(key)
        self._passed.add(key)
        if found is not None and found not in allowed:
            raise Unsupported(f"its {quoted(key)} is {quoted(str(found)[:80])}")

    def pass_over(self) -> None:
        """Take no notice of anything: the layer does nothing in evaluation."""
        self._passed |= self._config.keys()

    def finish(self) -> None:
        """Refuse what no rule asked for."""
        for key, value in self._config.items():
            said = key in self.taken or key in self._passed or key in _TRAINING
            if not said and not key.endswith(_TRAINING_ENDS) and value is not None:
                raise Unsupported(f"its option {quoted(str(key)[:80])} is not known here")


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return _is_integer(value) and 1 <= value <= MAX_SIZE


def _is_number(value: Any) -> bool:
    return (_is_integer(value) or isinstance(value, float)) and abs(value) < 1e15


def _unclear(key: str, found: Any, expected: str) -> Unsupported:
    return Unsupported(f"its {quoted(key)} is {json.dumps(found)[:80]}, not {expected}")
