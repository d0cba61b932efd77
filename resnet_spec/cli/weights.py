"""`weights`: compare a file of weights with a spec, or write it for another framework."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from resnet_spec.cli import output, shared, weights_against, weights_match
from resnet_spec.cli.shared import Exit, Reader, UsageError
from resnet_spec.diagnostics import (
    Diagnostic,
    Report,
    Span,
    SpecError,
    counted,
    expected,
    quoted,
    render,
)
from resnet_spec.ir import Network
from resnet_spec.language.renames import RenameError, check, rule_of
from resnet_spec.project import files
from resnet_spec.weights import adapt, convert, formats, report, stated, transforms
from resnet_spec.weights.checkpoint import Checkpoint, MissingPackage, read
from resnet_spec.weights.match import Match, match
from resnet_spec.weights.naming import MODEL, Naming, names, namings

_LIBRARIES = {"keras": "keras.applications"}


def run(arguments: argparse.Namespace) -> Exit:
    """Run one action; findings go to standard error, the report to standard output."""
    if arguments.action == "match":
        return weights_match.run(arguments)
    shared.check_text("--set", arguments.set)
    shared.check_stdin([arguments.spec], arguments.stdin_filename)
    if arguments.action == "verify":
        weights_against.check(arguments)
    elif arguments.action != "inspect":
        _check_out(arguments)
    reader = Reader(arguments.set, arguments.stdin_filename)
    read = reader.network(arguments.spec)
    if read is None:
        output.findings(reader.findings, reader.sources, arguments.format, arguments.color)
        return Exit.FINDINGS
    try:
        asked, transforming = _namings(arguments, read[1]), _transforms(arguments)
        given = Path(arguments.file)
        with formats.opened(given, arguments.file, arguments.state) as checkpoint:
            found = match(checkpoint, read[1], asked)
            _check_renames(arguments, found.checkpoint)
            found, problems = transforms.transformed(found, transforming)
            if not arguments.trust_spec:
                problems = (*problems, *stated.differences(found))
            actions = {"inspect": _inspect, "verify": _verify}
            return actions.get(arguments.action, _write)(arguments, found, problems)
    except files.OutputError as error:
        output.findings(error.diagnostics, {}, arguments.format, arguments.color)
        return Exit.FAILURE
    except SpecError as error:
        output.findings(error.diagnostics, {}, arguments.format, arguments.color)
        return Exit.FINDINGS
    except MissingPackage as error:
        raise UsageError(str(error)) from None
    except RenameError as error:
        raise UsageError(f"--rename: {error}") from None
    except ModuleNotFoundError as error:
        package = error.name or "a package"
        raise UsageError(str(MissingPackage("'weights'", package, "weights"))) from None


def _namings(arguments: argparse.Namespace, network: Network) -> list[Naming]:
    """Whose names the file may have."""
    library = _LIBRARIES.get(arguments.library, arguments.library)
    found = namings(network, library, _rules(arguments.rename))
    if arguments.action == "convert":
        found = [each for each in found if each.library in (None, MODEL)]
    if not found:
        if library == MODEL:
            raise UsageError(f"the spec {network.name} states no names of an imported model")
        known = sorted({each.library for each in network.references if each.library})
        hint = f"it names those of {' and '.join(known)}" if known else "it names none"
        raise UsageError(f"the spec {network.name} names no network of {library}: {hint}")
    return found


def _check_renames(arguments: argparse.Namespace, checkpoint: Checkpoint) -> None:
    """Raises `SpecError` (RS906) with the `--rename` rules that no name of the file comes to."""
    rules, held = _rules(arguments.rename), names(checkpoint)
    taken = {rule_of(name, rules) for name in held}
    report = Report()
    for theirs, ours in rules.items():
        if theirs in taken:
            continue
        message = f"--rename {quoted(f'{theirs}={ours}')} renames nothing in the file"
        before = {rule_of(name, rules) for name in held if rule_of(name, [theirs])}
        if before:
            hint = f"{quoted(min(filter(None, before)))} comes before it: put the longer one first"
        else:
            hint = expected(theirs, {name.partition(".")[0] for name in held}, limit=8)
        report.add("RS906", message, Span(arguments.file), hint)
    report.raise_if_any()


def _rules(given: Sequence[str]) -> dict[str, str]:
    rules = {}
    for text in given:
        theirs, mark, ours = text.partition("=")
        if not (theirs and mark):
            raise UsageError(f"--rename {quoted(text)} is not of the form FROM=TO")
        check(theirs, ours)
        if theirs in rules:
            raise UsageError(f"--rename {quoted(theirs)} is given twice")
        rules[theirs] = ours
    return rules


def _transforms(arguments: argparse.Namespace) -> transforms.Asked:
    """What is to be turned."""
    return transforms.Asked(
        arguments.flatten_order,
        arguments.kernel_order,
        arguments.unfold_norms,
        arguments.fold_norms,
        arguments.fold_biases,
        arguments.input_order,
        _numbers("--input-mean", arguments.input_mean),
        _numbers("--input-std", arguments.input_std),
    )


def _numbers(flag: str, text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        found = tuple(float(each) for each in text.split(","))
    except ValueError:
        found = (math.nan,)
    if not all(math.isfinite(each) for each in found):
        raise UsageError(f"{flag} {quoted(text)} is not of the form 0.485,0.456,0.406")
    return found


# --- inspect -------------------------------------------------------------------------------------


def _inspect(arguments: argparse.Namespace, found: Match, problems: Sequence[Diagnostic]) -> Exit:
    shown = found.checkpoint.shown
    read_ones = ((pair.entry.name, read(pair.tensor, shown)) for pair in found.fitting)
    doubts = convert.doubts(read_ones)
    if arguments.format == "json":
        told = report.as_json(found, doubts)
        if problems:
            told = {**told, **render.as_json(problems), "fits": False}
        output.as_json(told)
    else:
        output.say(report.head(found))
        output.say(report.lists(found, arguments.all))
        for line in report.doubts(doubts):
            output.say(line)
        fits = "fits" if found.fits and not problems else "does not fit"
        output.say(f"{arguments.file} {fits} {found.network.name}")
        if problems:
            output.findings(problems, {}, "text", arguments.color)
    return Exit.CLEAN if found.fits and not problems and not any(doubts.values()) else Exit.FINDINGS


# --- verify --------------------------------------------------------------------------------------


def _verify(arguments: argparse.Namespace, found: Match, problems: Sequence[Diagnostic]) -> Exit:
    plan = adapt.plan(found, adapt.Options())
    if problems or plan.problems:
        _print_misfit(arguments, found, (*problems, *plan.problems))
        return Exit.FINDINGS
    return weights_against.run(arguments, found, convert.state(found, plan, None, None, 0))


# --- convert and import --------------------------------------------------------------------------


def _check_out(arguments: argparse.Namespace) -> None:
    """`UsageError` for an output that can't be meant."""
    if formats.ending(arguments.out) is None:
        known = ", ".join(formats.ENDINGS)
        raise UsageError(f"--out {quoted(arguments.out)} must end in one of {known}")
    if arguments.to not in (None, *formats.layouts(arguments.out)):
        fitting = (each for each, (_, whose) in formats.ENDINGS.items() if arguments.to in whose)
        raise UsageError(
            f"--out {quoted(arguments.out)} must end in one of {', '.join(fitting)} "
            f"for --to {arguments.to}"
        )
    if arguments.seed < 0:
        raise UsageError("--seed must not be negative")
    shared.check_is_not_read(arguments.file, "--out", arguments.out)


def _write(arguments: argparse.Namespace, found: Match, problems: Sequence[Diagnostic]) -> Exit:
    options = adapt.Options(arguments.reset_head, arguments.adapt_input, arguments.partial)
    plan = adapt.plan(found, options)
    if problems or plan.problems:
        _print_misfit(arguments, found, (*problems, *plan.problems))
        return Exit.FINDINGS
    values = convert.state(found, plan, options.adapt_input, arguments.dtype, arguments.seed)
    if weights_against.differs(arguments, found, plan, values):
        return Exit.FINDINGS
    doubts = convert.doubts(values.items())
    for name in files.leftovers([Path(arguments.out).parent], remove=True):
        output.note(f"removed what a run left that was killed: {name}", arguments.quiet)
    with files.replacing(
        Path(arguments.out), arguments.out, formats.ending(arguments.out) or "", arguments.force
    ) as temporary:
        layout = arguments.to or formats.layouts(arguments.out)[0]
        if layout == "torch":
            values = convert.with_counters(found, values)
        elif layout == "keras":
            convert.single_type(found, values)
        else:
            values = convert.placed(found, values, layout)
        formats.write(temporary, arguments.out, found.network, values)
    _print_done(arguments, found, plan, doubts)
    return Exit.CLEAN


def _print_misfit(
    arguments: argparse.Namespace, found: Match, problems: Sequence[Diagnostic]
) -> None:
    if arguments.format == "json":
        output.as_json({**report.as_json(found), **render.as_json(problems)})
        return
    output.say(report.head(found), sys.stderr)
    output.say(report.lists(found), sys.stderr)
    output.findings(problems, {}, "text", arguments.color)


def _print_done(
    arguments: argparse.Namespace,
    found: Match,
    plan: adapt.Plan,
    doubts: Mapping[str, Sequence[str]],
) -> None:
    if arguments.format == "json":
        output.as_json(
            {
                **report.as_json(found, doubts),
                "out": arguments.out,
                "changed": report.steps_json(found, plan.steps),
                "dropped": [tensor.name for tensor in plan.dropped],
            }
        )
        return
    for line in report.changes(found, plan, arguments.adapt_input):
        output.say(line)
    for line in report.doubts(doubts):
        output.note(f"note: {line}")
    if not arguments.quiet:
        for text in found.checkpoint.notes:
            output.note(f"note: {text}")
        count = counted(len(plan.steps), "tensor")
        output.note(f"wrote {arguments.out}: {count} of {found.network.name}")
