"""`compile`: specs to files, or a comparison of the two."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from resnet_spec.cli import output, shared
from resnet_spec.cli.shared import Exit, Reader, UsageError
from resnet_spec.diagnostics import Diagnostic, Span, SpecError, in_order, quoted
from resnet_spec.diagnostics.render import as_json
from resnet_spec.disk.projects import settings_folder
from resnet_spec.ir import Network
from resnet_spec.language.library import shown_path
from resnet_spec.project import files, settings
from resnet_spec.project.files import Entry

_PAIRS = (
    ("--check", "--stdout"),
    ("--check", "--force"),
    ("--diff", "--stdout"),
    ("--diff", "--force"),
    ("--diff", "--format json"),
    ("--stdout", "--out"),
    ("--stdout", "--trainer"),
    ("--stdout", "--force"),
    ("--stdout", "--format json"),
    ("--config", "--isolated"),
)

# status: (code, what a list says, what the summary says)
_OUTDATED = {
    "stale": ("RS606", "out of date", "out of date"),
    "missing": ("RS607", "missing", "missing"),
    "edited": ("RS603", "edited by hand", "edited by hand"),
    "foreign": ("RS602", "not written by resnet-spec", "not ours"),
    "orphaned": ("RS608", "orphaned", "orphaned"),
}


class Job(NamedTuple):
    """One spec for some backends, into one folder; `shown` is how messages name the folder."""

    spec: str
    backends: tuple[str, ...]
    out: Path
    shown: str
    trainer: bool


def run(arguments: argparse.Namespace) -> Exit:
    """Compile the given specs, or those in the settings."""
    _check_usage(arguments)
    reader = Reader(arguments.set, arguments.stdin_filename)
    try:
        found = _settings(arguments)
        if found is not None:
            reader.name_folder(found.folder)
        jobs = _jobs(arguments, found)
        _check_backends(jobs)
        outputs = _generated(jobs, reader, _root(arguments, found))
        if reader.findings:
            _print(arguments, reader.findings, reader.sources)
            return shared.outcome(reader.findings)
        if arguments.stdout:
            return _print_single(outputs)
        return _compare(arguments, outputs, with_orphans=not arguments.specs)
    except settings.SettingsError as error:
        _print(arguments, error.diagnostics, error.sources)
    except files.OutputError as error:
        _print(arguments, error.diagnostics, {})
    return Exit.FAILURE


def _check_usage(arguments: argparse.Namespace) -> None:
    if arguments.out == "-":
        arguments.out, arguments.stdout = None, True
    shared.reject_pairs(arguments, _PAIRS)
    if sys.stdout is None and (arguments.stdout or arguments.diff):
        raise UsageError("standard output is closed")
    if not arguments.specs:
        for flag in ("--set", "--out", "--trainer", "--isolated", "--stdin-filename"):
            if getattr(arguments, flag[2:].replace("-", "_")) not in (None, False, []):
                said = ": trainer = true" if flag == "--trainer" else ""
                told = f"without one, the settings apply{said}"
                raise UsageError(f"{flag} needs a SPEC: {told}")
    shared.check_text("--set", arguments.set)
    shared.check_stdin(arguments.specs, arguments.stdin_filename)
    if arguments.out == "":
        raise UsageError("--out needs the name of a folder")


# --- what to do ----------------------------------------------------------------------------------


def _settings(arguments: argparse.Namespace) -> settings.Settings | None:
    """The settings, if they decide what to compile."""
    if arguments.isolated or (arguments.specs and arguments.config is None):
        return None
    if arguments.config is not None:
        return settings.read(Path(arguments.config), arguments.allow_outside)
    return settings.find(Path.cwd(), arguments.allow_outside)


def _root(arguments: argparse.Namespace, found: settings.Settings | None) -> Path:
    """The project's folder, to which the spec's path in generated files is relative."""
    if found is not None:
        return found.folder
    folder = None if arguments.isolated else settings_folder(Path.cwd())
    return folder or Path()


def _jobs(arguments: argparse.Namespace, found: settings.Settings | None) -> list[Job]:
    chosen = tuple(dict.fromkeys(arguments.backend))
    if arguments.specs:
        out = arguments.out or settings.DEFAULT_OUT
        backends = chosen or settings.DEFAULT_BACKENDS
        specs, trainer = dict.fromkeys(arguments.specs), arguments.trainer
        return [Job(spec, backends, Path(out), out, trainer) for spec in specs]
    if found is None or not found.targets:
        where = f"{quoted(found.path)} names none" if found else "no settings were found"
        raise UsageError(
            f"compile needs a SPEC: {where}\n"
            "try: resnet-spec compile resnet50, or resnet-spec compile --help for the settings"
        )
    jobs = []
    for target in found.targets:
        wanted = tuple(name for name in target.backends if name in chosen or not chosen)
        if wanted:
            shown = shown_path(target.out)
            jobs += [
                Job(str(spec), wanted, target.out, shown, target.trainer) for spec in target.specs
            ]
    if not jobs:
        raise UsageError(f"no target of {quoted(found.path)} has the backend {chosen[0]}")
    return jobs


def _check_backends(jobs: Iterable[Job]) -> None:
    """`OutputError` for unknown backends (RS501), before any spec is read."""
    from resnet_spec.codegen.generate import find_backend

    wrong: list[Diagnostic] = []
    for name in dict.fromkeys(name for job in jobs for name in job.backends):
        try:
            find_backend(name)
        except SpecError as error:
            wrong.extend(error.diagnostics)
    if wrong:
        raise files.OutputError(wrong)
    for job in jobs:
        if job.trainer and not any(hasattr(find_backend(n), "trainer") for n in job.backends):
            raise UsageError(f"--trainer: no trainer comes with {', '.join(job.backends)}")


# --- from specs to texts -------------------------------------------------------------------------


class Output(NamedTuple):
    """The files of one folder: texts by path, and the spec that each comes from."""

    shown: str
    texts: dict[PurePosixPath, str]
    specs: dict[PurePosixPath, str]
    backends: dict[str, None]


def _generated(jobs: Iterable[Job], reader: Reader, root: Path) -> dict[Path, Output]:
    """Every file of the run, by output folder; what is wrong is in the reader."""
    from resnet_spec.codegen.generate import generate

    outputs: dict[Path, Output] = {}
    networks: dict[str, Network | None] = {}
    for job in jobs:
        into = outputs.setdefault(job.out, Output(job.shown, {}, {}, {}))
        into.backends.update(dict.fromkeys(job.backends))
        key = _identity(job.spec, reader)
        if key not in networks:
            networks[key] = shared.network_of_project(job.spec, reader, root)
        network = networks[key]
        if network is None:
            continue
        try:
            made = generate(network, job.backends, job.trainer)
        except SpecError as error:
            reader.fail(error.diagnostics)
            continue
        for path, text in made.items():
            _add(into, path, text, network.path, reader)
    return outputs


def _identity(spec: str, reader: Reader) -> str:
    path = reader.path(spec)
    return spec if path is None else os.path.realpath(path)


def _add(output: Output, path: PurePosixPath, text: str, spec: str, reader: Reader) -> None:
    """Take over a file, unless another spec makes the same one differently (RS609)."""
    first = output.specs.setdefault(path, spec)
    if output.texts.setdefault(path, text) == text:
        return
    reader.fail(
        [
            Diagnostic(
                "RS609",
                f"{quoted(first)} and {quoted(spec)} would both be written to "
                f"{quoted(PurePosixPath(output.shown) / path)}",
                Span(spec),
                help="give one of them another name, or another output folder",
            )
        ]
    )


def _print_single(outputs: Mapping[Path, Output]) -> Exit:
    texts = [text for output in outputs.values() for text in output.texts.values()]
    if len(texts) != 1:
        raise UsageError(
            f"only one file can be printed, but this run makes {len(texts)}: "
            "give one SPEC and one --backend"
        )
    output.source(texts[0])
    return Exit.CLEAN


# --- from texts to files -------------------------------------------------------------------------


def _compare(
    arguments: argparse.Namespace, outputs: Mapping[Path, Output], with_orphans: bool
) -> Exit:
    entries: list[Entry] = []
    for folder, made in outputs.items():
        entries += files.plan(folder, made.texts, made.shown)
        if with_orphans:
            entries += files.orphans(folder, made.backends, made.texts, made.shown)
    if arguments.diff:
        for entry in entries:
            output.say(files.difference(entry), end="")
    if arguments.check:
        return _report(arguments, entries)
    if arguments.diff:
        return Exit.CLEAN
    return _write(arguments, entries)


def _report(arguments: argparse.Namespace, entries: Sequence[Entry]) -> Exit:
    """The files that are not up to date, and the command that fixes it."""
    wrong = [entry for entry in entries if entry.status != "identical"]
    command = _fix(arguments, wrong)
    for name in files.leftovers((entry.path.parent for entry in entries), remove=False):
        told = f"left by a killed run: {name}; the next compile removes it"
        output.note(told, arguments.quiet)
    if arguments.format == "text":
        for entry in wrong:
            output.note(f"{_OUTDATED[entry.status][1]}: {entry.shown}")
        output.note(_summary(entries), arguments.quiet)
        if command and not arguments.quiet:
            output.note(f"run: {command}")
        if any(entry.status == "orphaned" for entry in wrong):
            output.note("no spec produces the orphaned files: delete them", arguments.quiet)
    else:
        found = [_outdated(entry, command) for entry in wrong]
        _print(arguments, found, {}, entries)
    return Exit.FINDINGS if wrong else Exit.CLEAN


def _outdated(entry: Entry, command: str) -> Diagnostic:
    code, text, _ = _OUTDATED[entry.status]
    hint = "delete it: no spec produces it" if entry.status == "orphaned" else f"run: {command}"
    return Diagnostic(code, f"{quoted(entry.shown)} is {text}", Span(entry.shown), hint)


def _fix(arguments: argparse.Namespace, wrong: Iterable[Entry]) -> str:
    """The command that brings the files up to date; empty if none does."""
    import shlex

    statuses = {entry.status for entry in wrong} - {"orphaned"}
    if not statuses:
        return ""
    words = ["resnet-spec", "compile", *arguments.specs]
    for flag in ("backend", "set"):
        words += [word for value in getattr(arguments, flag) for word in (f"--{flag}", value)]
    for flag in ("out", "config", "stdin_filename"):
        value = getattr(arguments, flag)
        words += [f"--{flag.replace('_', '-')}", value] if value is not None else []
    flags = ("trainer", "isolated", "allow_outside")
    words += [f"--{flag.replace('_', '-')}" for flag in flags if getattr(arguments, flag)]
    words += ["--force"] if statuses & {"edited", "foreign"} else []
    return shlex.join(words)


def _write(arguments: argparse.Namespace, entries: Sequence[Entry]) -> Exit:
    refused = [] if arguments.force else files.refusals(entries)
    if refused:
        _print(arguments, refused, {}, entries)
        if arguments.format == "text":
            output.note("nothing was written", arguments.quiet)
        return Exit.FINDINGS
    for name in files.leftovers((entry.path.parent for entry in entries), remove=True):
        output.note(f"removed what a run left that was killed: {name}", arguments.quiet)
    files.write(entries)
    if arguments.format == "json":
        _print(arguments, [], {}, entries)
        return Exit.CLEAN
    for entry in entries if not arguments.quiet else ():
        if entry.status == "orphaned":
            output.note(f"orphaned: no spec produces {entry.shown}: delete it")
        else:
            output.say(f"{'unchanged' if entry.status == 'identical' else 'wrote'} {entry.shown}")
    return Exit.CLEAN


def _summary(entries: Iterable[Entry]) -> str:
    """`1 out of date, 2 missing, 3 unchanged`."""
    numbers = Counter(entry.status for entry in entries)
    parts = [
        f"{numbers[status]:,} {text}"  # type: ignore[index]
        for status, (_, _, text) in _OUTDATED.items()
        if numbers[status]  # type: ignore[index]
    ]
    return ", ".join([*parts, f"{numbers['identical']:,} unchanged"])


def _print(
    arguments: argparse.Namespace,
    found: Sequence[Diagnostic],
    sources: Mapping[str, str],
    entries: Sequence[Entry] = (),
) -> None:
    if arguments.format == "json":
        listed = [{"path": entry.shown, "status": entry.status} for entry in entries]
        output.as_json({**as_json(in_order(found)), "files": listed})
    else:
        output.findings(found, sources, arguments.format, arguments.color)
