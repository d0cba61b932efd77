"""`weights match`: which of the built-in networks a file is of."""

from __future__ import annotations

import argparse
from pathlib import Path

from resnet_spec.cli import output
from resnet_spec.cli.shared import Exit, UsageError
from resnet_spec.diagnostics import SpecError, counted, quoted
from resnet_spec.weights.checkpoint import MissingPackage

_MAX_TOLD = 20


def run(arguments: argparse.Namespace) -> Exit:
    """List the candidates; findings go to standard error."""
    if arguments.probe is not None and not Path(arguments.probe).is_file():
        raise UsageError(f"--probe {quoted(arguments.probe)} is no file")
    try:
        return _match(arguments)
    except SpecError as error:
        output.findings(error.diagnostics, {}, arguments.format, arguments.color)
        return Exit.FINDINGS
    except MissingPackage as error:
        raise UsageError(str(error)) from None
    except ModuleNotFoundError as error:
        package = error.name or "a package"
        raise UsageError(str(MissingPackage("'weights'", package, "weights"))) from None


def _match(arguments: argparse.Namespace) -> Exit:
    from resnet_spec.language.library import builtin_specs
    from resnet_spec.weights import formats, report
    from resnet_spec.weights.candidates import candidates, probed, undecided

    with formats.opened(Path(arguments.file), arguments.file, arguments.state) as checkpoint:
        found = candidates(checkpoint, builtin_specs())
        whole = [each for each in found if each.whole]
        if arguments.probe is not None:
            whole = probed(whole, Path(arguments.probe), arguments.probe)
            found = whole
        untold = list(undecided([each.network for each in whole]))
        decided = [each for each in whole if (each.apart or 0.0) <= arguments.tolerance]
        if arguments.format == "json":
            output.as_json(
                {
                    "format_version": 1,
                    "file": arguments.file,
                    "candidates": [_as_json(each) for each in found],
                    "undecided": untold,
                }
            )
        else:
            output.say(report.kind(checkpoint))
            for each in found[:_MAX_TOLD]:
                output.say(_line(each))
            _tell(arguments, len(decided), untold)
    return Exit.CLEAN if decided else Exit.FINDINGS


def _as_json(each: object) -> dict[str, object]:
    from resnet_spec.weights.candidates import Candidate

    assert isinstance(each, Candidate)
    return {
        "network": each.network.name,
        "whole": each.whole,
        "share": each.share,
        "names": each.found.naming.label,
        "apart": each.apart,
        "flag": each.flag or None,
        "problem": each.problem or None,
    }


def _line(each: object) -> str:
    from resnet_spec.weights.candidates import Candidate

    assert isinstance(each, Candidate)
    fit = "fits" if each.whole else f"{100 * each.share:3.0f}%"
    apart = "" if each.apart is None else f"  {each.apart:.1e} from what was stored"
    flag = f"  with {each.flag}: {each.problem}" if each.flag else ""
    problem = f"  but {each.problem}" if each.problem and not each.flag else ""
    return f"{fit}  {each.network.name:<24}  {each.found.naming.label}{flag}{problem}{apart}"


def _tell(arguments: argparse.Namespace, fitting: int, untold: list[str]) -> None:
    if not fitting:
        output.say("no built-in network is this one; 'resnet-spec init' begins a spec of your own")
    elif arguments.probe is None and fitting > 1:
        output.say(
            f"{counted(fitting, 'network')} fit; they differ in what the weights do not show:"
        )
        for line in untold:
            output.say(f"  {line}")
        output.say("decide by a stored pair: --probe io.npz, with the arrays 'input' and 'output'")
