"""Numbers that were measured elsewhere, such as latencies, from a CSV that the user brings."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from resnet_spec.diagnostics import quoted
from resnet_spec.disk.regular import open_regular
from resnet_spec.sweep.space import Space, SpaceError, Value, value

MAX_BYTES = 64_000_000


class Measured:
    """A table: in each row values of some keys of the sweep, and what was measured with them.

    A column called as an axis, by its name or its path, says which variants a row is for; every
    other one is a column of the sweep. Raises `SpaceError` for what is no such table.
    """

    def __init__(self, path: str, space: Space) -> None:
        rows = _read(path)
        names = {each.path: each.name for each in space.axes}
        head = [names.get(name.strip(), name.strip()) for name in rows[0]]
        keys = {each.name for each in space.axes}
        self.keys = [name for name in head if name in keys]
        self.columns = [name for name in head if name not in keys]
        self._check(path, head)
        self.places = [
            next(n for n, each in enumerate(space.axes) if each.name == name) for name in self.keys
        ]
        self.rows: dict[tuple[Value, ...], Mapping[str, Value]] = {}
        self.fits: bool | None = None  # whether any variant was found, once one was looked for
        for number, row in enumerate(rows[1:], 2):
            self._add(
                path,
                number,
                dict(zip(head, map(str.strip, row), strict=False)),
                len(head) == len(row),
            )

    def _check(self, path: str, head: list[str]) -> None:
        shown = quoted(path)
        if len(set(head)) < len(head):
            raise SpaceError(f"two columns of {shown} have one name")
        for name in self.columns:
            if not name.isidentifier() or not name.isascii():
                raise SpaceError(f"{quoted(name)} in {shown} can't name a column: use a word")
        if not self.keys or not self.columns:
            what = "no key that --set gives" if not self.keys else "nothing but keys of --set"
            raise SpaceError(f"{shown} has {what} among its columns: {', '.join(head)}")

    def _add(self, path: str, number: int, row: dict[str, str], is_whole: bool) -> None:
        if not any(row.values()):
            return
        where = f"{quoted(path)}, row {number}"
        if not is_whole:
            raise SpaceError(f"{where}: it has more or fewer cells than the first row")
        key = tuple(value(row[name]) for name in self.keys)
        if key in self.rows:
            raise SpaceError(f"{where}: there is a row with the same keys above")
        for name in self.columns:
            if _is_endless(row[name]):
                raise SpaceError(f"{where}: {quoted(row[name])} is no finite number")
        self.rows[key] = {name: value(row[name]) for name in self.columns if row[name]}

    def of(self, values: Sequence[Value]) -> Mapping[str, Value]:
        """What was measured of a variant, by the values of its axes."""
        found = self.rows.get(tuple(values[place] for place in self.places), {})
        self.fits = bool(self.fits or found)
        return found


def _is_endless(text: str) -> bool:
    """Whether a cell is a number of Python's, such as `nan`, that no condition compares."""
    try:
        return not math.isfinite(float(text))
    except ValueError:
        return False


def _read(path: str) -> list[list[str]]:
    try:
        with open_regular(Path(path)) as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SpaceError(f"{quoted(path)} is larger than {MAX_BYTES:,} bytes")
        text = data.decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except UnicodeDecodeError:
        raise SpaceError(f"{quoted(path)} is not UTF-8") from None
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, SpaceError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise SpaceError(f"cannot read {quoted(path)}: {reason.lower()}") from None
    if not rows or not any(map(str.strip, rows[0])):
        raise SpaceError(f"{quoted(path)} has no first row with names of columns")
    return rows
