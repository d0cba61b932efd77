"""`weights verify`, and what `weights convert` does of it by itself: the source is run as well."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_spec.cli import output
from resnet_spec.cli.shared import Exit, UsageError
from resnet_spec.diagnostics import Diagnostic, Span, SpecError, quoted

if TYPE_CHECKING:
    from resnet_spec.weights.adapt import Plan
    from resnet_spec.weights.against.compare import Comparison
    from resnet_spec.weights.match import Match


def check(arguments: argparse.Namespace) -> None:
    """`UsageError` for a source that nothing here can run."""
    from resnet_spec.weights.against import compare

    name = arguments.against
    if compare.runtime(name) is None:
        known = ", ".join(compare.RUNTIMES)
        raise UsageError(f"--against {quoted(name)} must end in one of {known}")
    missing = compare.missing(name)
    if missing:
        raise UsageError(
            f"running {quoted(name)} needs {' and '.join(missing)}, which is not installed\n"
            f"install it: pip install {' '.join(missing)}"
        )
    if not Path(name).is_file():
        raise UsageError(f"--against {quoted(name)} is no file")
    _check_tolerance(arguments)


def _check_tolerance(arguments: argparse.Namespace) -> None:
    if not 0 < arguments.tolerance < 1:
        raise UsageError("--tolerance must be between 0 and 1")


def run(arguments: argparse.Namespace, found: Match, values: Mapping[str, Any]) -> Exit:
    """Compare a state with a source, and tell every stage."""
    from resnet_spec.weights.against.compare import compared

    made = compared(found.network, values, Path(arguments.against), arguments.against)
    problems = _problems(made, arguments.against, found.network.name, arguments.tolerance)
    if arguments.format == "json":
        from resnet_spec.diagnostics.render import as_json

        told = {"network": found.network.name, "against": arguments.against, **made._asdict()}
        output.as_json({**told, "tolerance": arguments.tolerance, **as_json(problems)})
        return Exit.FINDINGS if problems else Exit.CLEAN
    if not arguments.quiet:
        for line in _lines(made, arguments.against, arguments.tolerance):
            output.say(line)
    output.findings(problems, {}, "text", arguments.color)
    return Exit.FINDINGS if problems else Exit.CLEAN


def _lines(made: Comparison, shown: str, tolerance: float) -> list[str]:
    size = "x".join(map(str, made.images[1:]))
    lines = [f"{shown}: {made.images[0]} images of {size}, by {made.runtime}"]
    width = max(map(len, [*made.stages, "output"]))
    for name, value in made.stages.items():
        lines.append(f"  {name:<{width}}  {'not seen there' if value is None else f'{value:.1e}'}")
    what = "  after a softmax, for the source gives probabilities" if made.softmax else ""
    lines.append(f"  {'output':<{width}}  {made.output:.1e}{what}")
    if made.output <= tolerance:
        lines.append(f"equal within {tolerance:g} of the largest value")
    return lines


def _problems(made: Comparison, shown: str, name: str, tolerance: float) -> list[Diagnostic]:
    """RS910 where the outputs are too far apart."""
    if made.output <= tolerance:
        return []
    message = (
        f"{name} is {made.output:.1e} from {quoted(shown)}, relative to the largest output; "
        f"{tolerance:g} is allowed"
    )
    first = made.first(tolerance)
    if first is not None:
        help = f"the first stage that differs is {quoted(first)}: {made.stages[first]:.1e}"
    elif any(value is not None for value in made.stages.values()):
        help = "no stage differs: look at what comes behind the last one"
    else:
        help = "the source does not show its stages; compare strides, paddings and epsilon"
    return [Diagnostic("RS910", message, Span(shown), help)]


# --- convert, by itself --------------------------------------------------------------------------


def differs(
    arguments: argparse.Namespace, found: Match, plan: Plan, values: Mapping[str, Any]
) -> bool:
    """Whether the network is not what the file's own model is, where the file has one that runs.

    Told as a finding. Where the weights are changed on the way, there is nothing to compare with.
    """
    from resnet_spec.weights.against import compare

    _check_tolerance(arguments)
    changed = any(step.how != "taken" for step in plan.steps) or plan.dropped
    images = arguments.input_mean or arguments.input_std or arguments.input_order == "bgr"
    asked = not (arguments.no_verify or arguments.trust_spec or changed or images)
    runs = found.checkpoint.stated.runnable and compare.runtime(arguments.file) is not None
    if not asked or not runs or compare.missing(arguments.file):
        return False
    try:
        made = compare.compared(found.network, values, Path(arguments.file), arguments.file)
    except SpecError as error:
        reason = error.diagnostics[0].message
        output.note(f"note: not compared with its source: {reason}", arguments.quiet)
        return False
    problems = _problems(made, arguments.file, found.network.name, arguments.tolerance)
    if problems:
        output.findings(problems, {}, arguments.format, arguments.color)
        return True
    text = f"note: {made.runtime} gives the same with the file's own model: {made.output:.1e} apart"
    output.note(text, arguments.quiet)
    return False
