"""`sweep`: variants of one network in a table, a picture, or specs of their own."""

from __future__ import annotations

import argparse
import csv
import io
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from resnet_spec.cli import output, shared
from resnet_spec.cli.shared import STDIN, Exit, Reader, UsageError
from resnet_spec.codegen import header
from resnet_spec.diagnostics import Diagnostic, SpecError, counted, quoted
from resnet_spec.disk import projects
from resnet_spec.disk.files import DISK
from resnet_spec.ir import Network
from resnet_spec.language.library import builtin_specs
from resnet_spec.language.load import load, resolved
from resnet_spec.project import files
from resnet_spec.sweep import Row, Space, SpaceError, Sweep
from resnet_spec.sweep.columns import DEFAULT, columns
from resnet_spec.sweep.measured import Measured
from resnet_spec.sweep.space import axis
from resnet_spec.sweep.variants import load_ahead, lowering

MAX_WRITTEN = 1_000


def run(arguments: argparse.Namespace) -> Exit:
    """Sweep one network; findings go to standard error."""
    shared.check_text("--set", arguments.set)
    _check_usage(arguments)
    reader = Reader()
    root = projects.settings_folder(Path.cwd()) or Path()
    base = shared.network_of_project(arguments.spec, reader, root)
    if base is None:
        output.findings(reader.findings, reader.sources, color=arguments.color)
        return shared.outcome(reader.findings)
    try:
        space = Space([axis(text) for text in arguments.set])
        measured = Measured(arguments.measured, space) if arguments.measured else None
        sweep = _sweep(arguments, space, base, measured)
        numbers = space.numbers(arguments.sample, arguments.seed)
        rows = _sorted(arguments, sweep, list(_rows(arguments, sweep, numbers, reader)))
    except SpaceError as error:
        raise UsageError(str(error)) from None
    _tell(arguments, sweep, rows)
    if measured is not None and measured.fits is False:
        output.note(f"no row of {arguments.measured} is of one of these variants", arguments.quiet)
    try:
        return _finish(arguments, sweep, rows, base)
    except files.OutputError as error:
        output.findings(error.diagnostics, {}, color=arguments.color)
        return Exit.FAILURE


def _check_usage(arguments: argparse.Namespace) -> None:
    if arguments.spec == STDIN:
        raise UsageError("sweep needs a file or the name of a built-in spec: it reads it often")
    if not arguments.set:
        raise UsageError("say what is to vary: --set 'stages.layer3.repeat=1..8'")
    for flag in ("sample", "limit"):
        number = getattr(arguments, flag)
        if number is not None and number < 1:
            raise UsageError(f"--{flag} must be at least 1")
    if arguments.plot is not None and not arguments.plot.endswith(".svg"):
        raise UsageError(f"--plot {quoted(arguments.plot)} must end in .svg")
    if arguments.axes is not None and arguments.plot is None:
        raise UsageError("--axes needs --plot")
    if arguments.force and arguments.plot is None and arguments.write is None:
        raise UsageError("--force needs --plot or --write")


# --- the variants --------------------------------------------------------------------------------


def _sweep(
    arguments: argparse.Namespace, space: Space, base: Network, measured: Measured | None
) -> Sweep:
    """The sweep with the columns that are shown, and behind them those that are needed."""
    known = columns(base)
    if measured is not None and (both := known.keys() & {*measured.columns}):
        told = f"{quoted(min(both))} is computed, so no measured column can have its name"
        raise SpaceError(f"{told}: rename it in {quoted(arguments.measured)}")
    if arguments.columns is not None:
        shown = [name.strip() for name in arguments.columns.split(",") if name.strip()]
        if not shown:
            raise UsageError("--columns needs the name of a column")
    else:
        turning = [each.name for each in space.axes if len(each.values) > 1]
        shown = [*turning, *DEFAULT, *(measured.columns if measured is not None else ())]
    needed = [name for name, _ in (*_sorting(arguments), *_plotted(arguments))]
    arguments.shown = list(dict.fromkeys(shown))
    wanted = dict.fromkeys([*arguments.shown, *needed])
    return Sweep(space, known, tuple(wanted), arguments.where, measured)


def _sorting(arguments: argparse.Namespace) -> list[tuple[str, bool]]:
    """The columns to sort by, and whether the most comes first."""
    return _marked("--sort", arguments.sort or "", "desc")


def _plotted(arguments: argparse.Namespace) -> list[tuple[str, bool]]:
    """The columns of the plot, and whether more is better."""
    if arguments.plot is None:
        return []
    names = _marked("--axes", arguments.axes or "macs,parameters:max", "max")
    if len(names) != 2:
        raise UsageError("--axes takes two columns: macs,parameters:max")
    return names


def _marked(flag: str, text: str, mark: str) -> list[tuple[str, bool]]:
    """Names of columns, each with whether `:mark` stands behind it."""
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        name, colon, word = part.partition(":")
        if colon and word != mark:
            raise UsageError(f"{flag} {quoted(part)}: nothing but :{mark} can stand behind a name")
        found.append((name, bool(colon)))
    return found


def _rows(
    arguments: argparse.Namespace, sweep: Sweep, numbers: Sequence[int], reader: Reader
) -> Iterator[Row]:
    """The rows that fit; what is done so far is shown where standard error is a terminal."""
    progress = output.Progress(len(numbers), arguments.quiet)
    lowered = lowering(arguments.spec, reader.library, lambda: progress.show(sweep.seen))
    yield from sweep.rows(numbers, lowered)
    progress.clear()


def _sorted(arguments: argparse.Namespace, sweep: Sweep, rows: list[Row]) -> list[Row]:
    """The rows in the order that is asked for; what has no number comes last."""
    for name, most in reversed(_sorting(arguments)):
        place = sweep.columns.index(name)
        has = [row for row in rows if row.cells[place] is not None]
        rest = [row for row in rows if row.cells[place] is None]

        def key(row: Row, place: int = place) -> tuple[bool, Any]:
            return isinstance(row.cells[place], str), row.cells[place]

        rows = sorted(has, key=key, reverse=most) + rest
    return rows[: arguments.limit] if arguments.limit is not None else rows


# --- what comes of it ----------------------------------------------------------------------------


def _tell(arguments: argparse.Namespace, sweep: Sweep, rows: Sequence[Row]) -> None:
    """The table to standard output, and how many there are, and what failed, to standard error."""
    places = [sweep.columns.index(name) for name in arguments.shown]
    cells = [[row.cells[place] for place in places] for row in rows]
    if arguments.format == "json":
        output.as_json(_as_json(arguments, sweep, cells))
    elif arguments.format == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([arguments.shown, *([_plain(cell) for cell in row] for row in cells)])
        output.say(text.getvalue(), end="")
    elif rows:
        texts = [[_shown(cell) for cell in row] for row in cells]
        to_right = [not any(isinstance(row[n], str) for row in cells) for n in range(len(places))]
        output.say(shared.table([arguments.shown, *texts], to_right))
    failures = sweep.failures
    told = [counted(sweep.seen, "variant"), f"{len(rows):,} listed"]
    if failures.count:
        told.append(f"{failures.count:,} failed")
    output.note(", ".join(told), arguments.quiet)
    for code, each in sorted(failures.by_code.items()):
        said = f"{code}: {each.diagnostic.message}"
        output.note(f"{each.times:,} failed, first with {', '.join(each.settings)}: {said}")


def _plain(cell: object) -> object:
    if cell is None:
        return ""
    return str(cell).lower() if isinstance(cell, bool) else cell


def _shown(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return str(_plain(cell))


def _as_json(
    arguments: argparse.Namespace, sweep: Sweep, cells: Sequence[Sequence[object]]
) -> dict[str, object]:
    return {
        "format_version": 1,
        "spec": arguments.spec,
        "variants": sweep.seen,
        "rows": [dict(zip(arguments.shown, row, strict=True)) for row in cells],
        "failed": sweep.failures.count,
        "failures": [
            {
                "code": code,
                "count": each.times,
                "settings": list(each.settings),
                "message": each.diagnostic.message,
            }
            for code, each in sorted(sweep.failures.by_code.items())
        ],
    }


def _finish(
    arguments: argparse.Namespace, sweep: Sweep, rows: Sequence[Row], base: Network
) -> Exit:
    """Write what is to be written; exit code 1 where all variants fail, or a file is not ours."""
    failed = sweep.failures.count == sweep.seen
    refused: list[Diagnostic] = []
    if arguments.plot is not None:
        refused += _plot(arguments, sweep, rows, base)
    if arguments.write is not None:
        refused += _write_specs(arguments, sweep, rows, base)
    output.findings(refused, {}, color=arguments.color)
    return Exit.FINDINGS if failed or refused else Exit.CLEAN


def _plot(
    arguments: argparse.Namespace, sweep: Sweep, rows: Sequence[Row], base: Network
) -> list[Diagnostic]:
    from resnet_spec.drawing import render
    from resnet_spec.drawing.scatter import Axis, Point, scatter

    axes = [Axis(name, most) for name, most in _plotted(arguments)]
    places = [sweep.columns.index(each.name) for each in axes]
    points = []
    for row in rows:
        x, y = (row.cells[place] for place in places)
        if isinstance(x, int | float) and isinstance(y, int | float):
            points.append(Point(_label(sweep, row), x, y))
    if not points:
        raise UsageError(
            f"--plot has no variant with numbers for {axes[0].name} and {axes[1].name}"
        )
    picture = scatter(points, axes[0], axes[1], f"Variants of {base.name}")
    head = header.lines(base.path, base.digest, _command(arguments, base))
    text = header.seal(render(picture, "auto", head))
    path = Path(arguments.plot)
    return _write(arguments, path.parent, {PurePosixPath(path.name): text})


def _label(sweep: Sweep, row: Row) -> str:
    turning = [
        f"{each.name} {each.values[place]}"
        for each, place in zip(sweep.space.axes, sweep.space.indices(row.number), strict=True)
        if len(each.values) > 1
    ]
    return ", ".join(turning) or "the only variant"


def _write_specs(
    arguments: argparse.Namespace, sweep: Sweep, rows: Sequence[Row], base: Network
) -> list[Diagnostic]:
    """Each row as a spec; all of them are read before any is written."""
    from resnet_spec.language.dump import as_yaml
    from resnet_spec.sweep import specs

    if len(rows) > MAX_WRITTEN:
        raise UsageError(f"--write would write {len(rows):,} specs: choose at most {MAX_WRITTEN:,}")
    folder, spec = Path(arguments.write), Path(arguments.spec)
    is_builtin = arguments.spec in builtin_specs() and not spec.is_file()
    places = [(row.number, sweep.space.indices(row.number)) for row in rows]
    named = specs.names(base.name, sweep.space.axes, places)
    wanted, reader = {}, Reader()
    node = load(arguments.spec, reader.library).node
    for name, row in zip(named, rows, strict=True):
        settings = sweep.space.settings(row.number)
        if is_builtin or DISK.is_within(spec, projects.project_of(folder)):
            extends = arguments.spec if is_builtin else os.path.relpath(spec, folder)
            said = specs.extending(name, base.name, Path(extends).as_posix(), settings, node)
        else:  # what it would extend is out of its reach
            whole = resolved(load(arguments.spec, reader.library, settings))
            said = specs.whole(name, base.name, whole, settings)
        body = as_yaml(said)
        try:
            load_ahead(str(folder / f"{name}.yaml"), body)
        except SpecError as error:
            output.note("a variant is no network where it would stand: write it beside its spec")
            return list(error.diagnostics)
        text = specs.sealed(body, base.path, base.digest, _command(arguments, base))
        wanted[PurePosixPath(f"{name}.yaml")] = text
    return _write(arguments, folder, wanted)


def _write(
    arguments: argparse.Namespace, folder: Path, wanted: dict[PurePosixPath, str]
) -> list[Diagnostic]:
    """Write files of ours; gives what stands in the way, and writes nothing then."""
    entries = files.plan(folder, wanted, str(folder))
    refused = [] if arguments.force else files.refusals(entries)
    if not refused:
        files.write(entries)
        for entry in entries:
            status = "unchanged" if entry.status == "identical" else "wrote"
            output.note(f"{status} {entry.shown}", arguments.quiet)
    return refused


def _command(arguments: argparse.Namespace, base: Network) -> str:
    """How the files are written anew; they do not know their own place."""
    words = ["resnet-spec", "sweep", base.path]
    words += [word for value in arguments.set for word in ("--set", value)]
    for flag in ("where", "sort", "limit", "sample", "axes"):
        given = getattr(arguments, flag)
        words += [f"--{flag}={given}"] if given is not None else []
    words += [f"--seed={arguments.seed}"] if arguments.sample is not None else []
    target = "--plot=FILE" if arguments.write is None else "--write=DIR"
    return shlex.join([*words, target])
