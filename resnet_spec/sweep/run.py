"""A sweep: every variant lowered, the columns that are asked for computed, the others left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from resnet_spec import expressions
from resnet_spec.diagnostics import Diagnostic, SpecError, expected, quoted
from resnet_spec.expressions import Expr, ExpressionError
from resnet_spec.ir import Network
from resnet_spec.sweep.columns import Cell, Column, Variant
from resnet_spec.sweep.measured import Measured
from resnet_spec.sweep.space import Space, SpaceError, value

Lowered = Callable[[Sequence[str]], Network]  # a variant by its settings; raises `SpecError`


class Row(NamedTuple):
    """A variant by its number, and its cells in the order of the columns."""

    number: int
    cells: tuple[Cell, ...]


class Failure(NamedTuple):
    """Variants that fail with one code: how many, and the first with its settings."""

    times: int
    settings: tuple[str, ...]
    diagnostic: Diagnostic


class Failures:
    """The variants that are no networks; of each code one is kept."""

    def __init__(self) -> None:
        self.by_code: dict[str, Failure] = {}

    def add(self, settings: Sequence[str], error: SpecError) -> None:
        first = error.diagnostics[0]
        known = self.by_code.get(first.code)
        if known is None:
            self.by_code[first.code] = Failure(1, tuple(settings), first)
        else:
            self.by_code[first.code] = known._replace(times=known.times + 1)

    @property
    def count(self) -> int:
        return sum(each.times for each in self.by_code.values())


class Sweep:
    """What is computed of each variant of a space; `columns` are the names of a row's cells."""

    def __init__(
        self,
        space: Space,
        known: Mapping[str, Column],
        columns: Sequence[str],
        where: str | None = None,
        measured: Measured | None = None,
    ) -> None:
        self.space, self.measured = space, measured
        self.axes = {each.name: place for place, each in enumerate(space.axes)}
        self.given = frozenset(measured.columns) if measured is not None else frozenset()
        self.known = {name: rule for name, rule in known.items() if name not in self.given}
        self.columns = tuple(columns)
        for name in self.columns:
            self.check(name)
        self.where, self.needed = self._parsed(where)
        self.values = [tuple(map(value, each.values)) for each in space.axes]
        self.failures = Failures()
        self.seen = 0

    @property
    def names(self) -> list[str]:
        """Every column that there is."""
        return [*self.axes, *sorted(self.given), *self.known]

    def check(self, name: str) -> None:
        """`SpaceError` for the name of no column."""
        if name not in self.axes and name not in self.given and name not in self.known:
            raise SpaceError(f"there is no column {quoted(name)}: {expected(name, self.names)}")

    def _parsed(self, where: str | None) -> tuple[Expr | None, tuple[str, ...]]:
        if where is None:
            return None, ()
        try:
            tree, names = expressions.parse(where)
        except ExpressionError as error:
            hint = f": {error.help}" if error.help else ""
            raise SpaceError(f"--where {quoted(where)}: {error.message}{hint}") from None
        for name in names:
            self.check(name)
        return tree, tuple(names)

    def rows(self, numbers: Sequence[int], lowered: Lowered) -> Iterator[Row]:
        """The variants that are networks and fit `where`, one after the other."""
        for number in numbers:
            self.seen += 1
            settings = self.space.settings(number)
            try:
                network = lowered(settings)
            except SpecError as error:
                self.failures.add(settings, error)
                continue
            cells = _Cells(self, number, network)
            if self.where is None or self.fits(cells):
                yield Row(number, tuple(map(cells.of, self.columns)))

    def fits(self, cells: _Cells) -> bool:
        """Whether a variant fulfils the condition; where a number is missing it does not."""
        assert self.where is not None
        numbers = {name: cells.of(name) for name in self.needed}
        if any(number is None for number in numbers.values()):
            return False
        words = [name for name, number in numbers.items() if isinstance(number, str)]
        if words:
            raise SpaceError(f"--where can't use {quoted(words[0])}, which is no number")
        try:
            return bool(expressions.evaluate(self.where, numbers))  # type: ignore[arg-type]
        except ExpressionError as error:
            raise SpaceError(f"--where has no value: {error.message}") from None


class _Cells:
    """The cells of one variant, computed at most once."""

    def __init__(self, sweep: Sweep, number: int, network: Network) -> None:
        self.sweep, self.variant = sweep, Variant(network)
        places = sweep.space.indices(number)
        self.values = [each[place] for each, place in zip(sweep.values, places, strict=True)]
        self.found: dict[str, Cell] = {}

    def of(self, name: str) -> Cell:
        if name not in self.found:
            self.found[name] = self.computed(name)
        return self.found[name]

    def computed(self, name: str) -> Cell:
        sweep = self.sweep
        if name in sweep.axes:
            return self.values[sweep.axes[name]]
        if name in sweep.given:
            assert sweep.measured is not None
            return sweep.measured.of(self.values).get(name)
        return sweep.known[name](self.variant)
