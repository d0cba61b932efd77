"""`diff`: what changed between two networks, and what that does to checkpoints."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from resnet_spec.cli import output, shared
from resnet_spec.cli.shared import STDIN, Exit, Reader, UsageError
from resnet_spec.compare import Comparison, Effect, compare, report
from resnet_spec.diagnostics import Diagnostic, counted, escapes
from resnet_spec.diagnostics.render import as_json as findings_json
from resnet_spec.disk.revisions import Revision, RevisionError
from resnet_spec.ir import Network
from resnet_spec.language.library import builtin_folder, builtin_specs
from resnet_spec.project import settings


class Outcome(NamedTuple):
    """What came of one pair; without a comparison the network is new, and `network` is it."""

    network: Network
    comparison: Comparison | None


def run(arguments: argparse.Namespace) -> Exit:
    """Compare what the command line names; findings go to standard error."""
    _check_usage(arguments)
    readers: list[Reader] = []
    try:
        found = list(_outcomes(arguments, readers))
    except RevisionError as error:
        raise UsageError(str(error)) from None
    except settings.SettingsError as error:
        output.findings(error.diagnostics, error.sources, "text", arguments.color)
        return Exit.FAILURE
    findings = [each for reader in readers for each in reader.findings]
    sources = {name: text for reader in readers for name, text in reader.sources.items()}
    outcomes = [each for each in found if each is not None]
    if arguments.format == "json":
        _print_json(outcomes, findings)
    else:
        style = "github" if arguments.format == "github" else "text"
        output.findings(findings, sources, style, arguments.color)
        printers = {"text": _text, "markdown": _markdown, "github": _github}
        text = printers[arguments.format](arguments, outcomes, len(found) - len(outcomes))
        if arguments.format == "github":
            output.source(text)  # commands, which it made safe itself
        else:
            output.say(text, end="")
    if findings:
        return shared.outcome(findings)
    return Exit.FINDINGS if _fails(arguments.fail_on, outcomes) else Exit.CLEAN


def _check_usage(arguments: argparse.Namespace) -> None:
    specs = arguments.specs
    shared.check_text("--set", arguments.set)
    shared.check_stdin(specs, arguments.stdin_filename)
    if specs.count(STDIN) > 1:
        raise UsageError("standard input can be one SPEC alone")
    if arguments.against is not None:
        if STDIN in specs:
            raise UsageError("--against needs files, which have a past: - has none")
        if not specs and arguments.set:
            raise UsageError("--set needs a SPEC")
    elif len(specs) != 2 and not (len(specs) == 1 and arguments.set):
        raise UsageError("name two specs, or one with --against or --set")


# --- reading -------------------------------------------------------------------------------------


def _outcomes(arguments: argparse.Namespace, readers: list[Reader]) -> Iterator[Outcome | None]:
    """Each pair compared; None where a network could not be read, which its reader tells."""
    new = Reader(arguments.set, arguments.stdin_filename)
    readers.append(new)
    if arguments.against is not None:
        past: dict[Path, Reader] = {}
        for spec in arguments.specs or _of_settings(arguments.allow_outside, new):
            yield _against(arguments.against, spec, new, past)
        readers += past.values()
        return
    old = Reader((), arguments.stdin_filename)
    readers.append(old)
    first, last = arguments.specs[0], arguments.specs[-1]
    # Both are read, so that the mistakes of both are told at once.
    networks = old.network(first), new.network(last)
    if networks[0] is None or networks[1] is None:
        yield None
    else:
        before, after = _called(first, networks[0][1]), _called(last, networks[1][1])
        yield Outcome(after, compare(before, after))


def _called(spec: str, network: Network) -> Network:
    """A network that is called as the command line calls it, where that is by its name."""
    return network._replace(path=spec) if spec in builtin_specs() else network


def _of_settings(outside: bool, reader: Reader) -> list[str]:
    """The specs that the settings name."""
    found = settings.find(Path.cwd(), outside)
    if found is None or not found.targets:
        raise UsageError("name a spec: no settings name one")
    reader.name_folder(found.folder)
    return list(dict.fromkeys(str(spec) for each in found.targets for spec in each.specs))


def _against(revision: str, spec: str, new: Reader, past: dict[Path, Reader]) -> Outcome | None:
    """A spec compared with itself at a revision of the repository that it lies in."""
    read, path = new.network(spec), new.path(spec)
    if path is None:
        return None
    folder = Path(os.path.realpath(path.parent))
    if folder not in past:
        past[folder] = Reader(files=Revision(folder, revision, builtin_folder()))
    then = folder / path.name
    if not past[folder].files.exists(then):
        return Outcome(read[1], None) if read is not None else None
    earlier = past[folder].network(str(then))
    if read is None or earlier is None:
        return None
    return Outcome(read[1], compare(earlier[1], read[1]))


def _fails(limit: str | None, outcomes: Sequence[Outcome]) -> bool:
    worst = _worst(outcomes)
    return limit is not None and worst is not None and worst.rank >= Effect(limit).rank


def _worst(outcomes: Sequence[Outcome]) -> Effect | None:
    effects = [each.comparison.effect for each in outcomes if each.comparison is not None]
    return max(effects, key=lambda each: each.rank, default=None)


# --- printing ------------------------------------------------------------------------------------


def _print_json(outcomes: Sequence[Outcome], findings: Sequence[Diagnostic]) -> None:
    """One object; `class` is the gravest, null where nothing could be compared."""
    worst = None if findings else _worst(outcomes)
    output.as_json(
        {
            **findings_json(findings),
            "class": worst.value if worst is not None else None,
            "comparisons": [
                report.as_json(each.comparison) for each in outcomes if each.comparison is not None
            ],
            "added": [each.network.path for each in outcomes if each.comparison is None],
        }
    )


def _text(arguments: argparse.Namespace, outcomes: Sequence[Outcome], failed: int) -> str:
    parts = []
    for network, found in outcomes:
        if found is None:
            parts.append(f"{network.path} is not in {arguments.against}: {_new(network)}\n")
        else:
            parts.append(_text_of(found, None if arguments.all else report.SHOWN))
    return "\n".join(parts)


def _new(network: Network) -> str:
    return f"new, with {network.root.parameters:,} parameters"


def _text_of(found: Comparison, limit: int | None) -> str:
    parts = ["\n".join((report.title(found), report.headline(found)))]
    for heading, rows, right in (
        (report.CHANGE_HEADINGS, report.rows(found, limit), ()),
        (report.TOTAL_HEADINGS, report.totals(found), (1, 2, 3)),
        (report.SECTION_HEADINGS, report.section_rows(found), ()),
    ):
        if rows:
            to_right = [column in right for column in range(len(heading))]
            parts.append(shared.table([heading, *rows], to_right))
    parts.append("\n".join(report.tensor_lines(found, limit)))
    command = report.rename_command(found)
    if command is not None:
        parts.append(f"old checkpoints get the new names by\n  {command}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(arguments: argparse.Namespace, outcomes: Sequence[Outcome], failed: int) -> str:
    parts = []
    if failed:
        parts.append(f"**{counted(failed, 'comparison')} failed: the log says why.**\n")
    for network, found in outcomes:
        if found is None:
            parts.append(f"### {escapes.markdown(network.path)}\n\n{_new(network)}\n")
        else:
            parts.append(report.as_markdown(found))
    return "\n".join(parts)


_LEVELS = {Effect.SAME: "notice", Effect.LOADS: "notice", Effect.PART: "warning"}


def _github(arguments: argparse.Namespace, outcomes: Sequence[Outcome], failed: int) -> str:
    """An annotation of each spec's file."""
    lines = []
    for network, found in outcomes:
        level, text = "notice", _new(network)
        if found is not None:
            level = _LEVELS.get(found.effect, "error")
            if _fails(arguments.fail_on, [Outcome(network, found)]):
                level = "error"
            changes = [" ".join(row).rstrip() for row in report.rows(found)]
            text = "\n".join([report.headline(found), *changes])
        place = escapes.github_property(network.path)
        lines.append(
            f"::{level} file={place},line=1,title=resnet-spec diff::{escapes.github(text)}"
        )
    return "".join(f"{line}\n" for line in lines)
