"""`import`: a trained model as a spec, proven, with its weights beside it."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.cli import output, shared
from resnet_spec.cli.shared import Exit, UsageError
from resnet_spec.diagnostics import Span, SpecError, counted, quoted
from resnet_spec.language.identifiers import check_network
from resnet_spec.language.library import SUFFIXES
from resnet_spec.language.name_resolution import MAX_SIZE
from resnet_spec.project import files

if TYPE_CHECKING:
    from resnet_spec.importing.proof import Compared
    from resnet_spec.importing.run import Imported, Options

_LONGEST = 10_000_000  # seconds; the system can't count to much more
_PATIENCE = 3.0  # seconds after which it is told what takes so long


def run(arguments: argparse.Namespace) -> Exit:
    """Import a model; nothing is written that is not proven."""
    from resnet_spec.verify.session import RunnerError
    from resnet_spec.weights.checkpoint import MissingPackage

    options = _options(arguments)
    _check_weights(arguments)
    try:
        return _import(arguments, options)
    except MissingPackage as error:
        raise UsageError(str(error)) from None
    except RunnerError as error:
        output.say(f"error: {error}", sys.stderr)
        return Exit.FAILURE
    except files.OutputError as error:
        output.findings(error.diagnostics, {}, color=arguments.color)
        return Exit.FAILURE
    except SpecError as error:
        output.findings(error.diagnostics, {}, color=arguments.color)
        return shared.outcome(error.diagnostics)


def _options(arguments: argparse.Namespace) -> Options:
    from resnet_spec.importing.run import Options, network_name, source_name

    path = Path(arguments.out)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--out {quoted(arguments.out)} must end in .yaml")
    shared.check_is_not_read(arguments.model, "--out", arguments.out)
    name = arguments.name or network_name(path.stem)
    try:
        check_network(name, Span(arguments.out))
    except SpecError as error:
        found = error.diagnostics[0]
        raise UsageError(f"{found.message}; {found.help} (--name)") from None
    description = f"Imported from {source_name(arguments.model)}"
    return Options(name, description, not arguments.no_library, arguments.unfold_norms)


def _check_weights(arguments: argparse.Namespace) -> None:
    from resnet_spec.weights import formats

    if arguments.weights is None:
        return
    if formats.ending(arguments.weights) is None:
        known = ", ".join(formats.ENDINGS)
        raise UsageError(f"--weights {quoted(arguments.weights)} must end in one of {known}")
    shared.check_is_not_read(arguments.model, "--weights", arguments.weights)


def _import(arguments: argparse.Namespace, options: Options) -> Exit:
    """Write the spec and the weights, once the compiled network gave the model's output."""
    from resnet_spec.importing import proof, sources
    from resnet_spec.importing.run import imported
    from resnet_spec.importing.structure.vocabulary import vocabulary
    from resnet_spec.verify.session import scratch

    progress = _Progress(arguments.quiet)
    folders = [Path(each).parent for each in (arguments.out, arguments.weights) if each]
    for name in files.leftovers(folders, remove=True):
        output.note(f"removed what a run left that was killed: {name}", arguments.quiet)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        size = _size(arguments.input)
        runner = None
        if sources.runs_code(arguments.model):
            output.note(f"running the code of {arguments.model}", arguments.quiet)
            runner = proof.runner(stack)  # reading a file takes more memory: it comes later there
        else:
            progress.tell(f"reading {arguments.model}", takes_long=True)
        limit = _seconds(arguments.time_limit)
        meanwhile = vocabulary if options.library else lambda: None
        source = sources.read(arguments.model, size, folder, stack, limit, meanwhile)
        runner = runner or proof.runner(stack)
        found = imported(source.model, options, arguments.out, progress.tell, source.examined)
        spec = stack.enter_context(
            files.replacing(Path(arguments.out), arguments.out, ".yaml", arguments.force)
        )
        spec.write_text(found.text, encoding="utf-8")
        weights = _write_weights(arguments, found, folder, stack)
        progress.tell("running both networks", takes_long=True)
        compared = proof.compared(
            found.network, weights, source.model, source.runtime, folder, runner
        )
        if compared.difference is not None and not compared.holds:
            _fail(arguments, compared)
    _print_done(arguments, found, compared)
    return Exit.CLEAN


def _size(text: str) -> tuple[int, int, int]:
    """The shape of images: `3x224x224`."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(each.isdigit() and 0 < int(each) <= MAX_SIZE for each in parts):
        raise UsageError(f"--input {quoted(text)} is not of the form 3x224x224")
    channels, rows, columns = map(int, parts)
    return channels, rows, columns


def _seconds(limit: float) -> float:
    if not 0 < limit <= _LONGEST:
        raise UsageError(f"--time-limit {limit:g} is not between 0 and {_LONGEST:,} seconds")
    return limit


def _write_weights(
    arguments: argparse.Namespace, found: Imported, folder: Path, stack: ExitStack
) -> Path:
    """The weights in their place, and where the proof finds them as safetensors."""
    from resnet_spec.weights import formats

    wanted = arguments.weights
    ending = formats.ending(wanted) if wanted is not None else None
    path = folder / "weights.safetensors"
    if wanted is not None and ending is not None:
        target = stack.enter_context(files.replacing(Path(wanted), wanted, ending, arguments.force))
        state = found.state
        if "torch" not in formats.layouts(wanted):
            state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        formats.write(target, wanted, found.network, state)
        if ending == ".safetensors":
            return target
    formats.write(path, path.name, found.network, found.state)
    return path


_CONSTANT = (
    "the logits are the same for other images, so that they are equal proves little: are its "
    "weights those of a trained network?"
)


def _fail(arguments: argparse.Namespace, compared: Compared) -> None:
    from resnet_spec.importing.errors import unproven

    unproven(
        arguments.model,
        "the spec that was found computes something else: its logits are "
        f"{compared.difference:.1e} apart, relative to the largest",
        "that is a mistake of ours: please report it with the model's graph",
    )


def _print_done(arguments: argparse.Namespace, found: Imported, compared: Compared) -> None:
    if arguments.quiet:
        return
    for text in found.notes:
        output.note(f"note: {text}")
    network, written = found.network, found.written
    stages = counted(len(network.stages), "stage")
    blocks = [
        f"{counted(count, 'block')} {whose}"
        for count, whose in ((written.from_library, "of the library"), (written.own, "of its own"))
        if count
    ]
    output.say(f"same graph: {network.root.size:,} operations; {stages}, {' and '.join(blocks)}")
    if compared.difference is None:
        output.say(f"logits not compared: {compared.reason}")
    else:
        output.say(f"same logits: {compared.difference:.1e} apart, relative to the largest")
    if compared.is_constant:
        output.note(f"note: {_CONSTANT}")
    lines = found.text.count("\n")
    output.say(f"wrote {arguments.out}: {lines} lines, {network.root.parameters:,} parameters")
    if arguments.weights is not None:
        output.say(f"wrote {arguments.weights}: {counted(len(found.state), 'tensor')}")


class _Progress:
    """Tells at a terminal what is being done, where that takes long."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet or not sys.stderr.isatty()
        self.told = time.monotonic()

    def tell(self, text: str, takes_long: bool = False) -> None:
        """Say it where something has taken long already, or where it `takes_long` in any case."""
        now = time.monotonic()
        if takes_long or now - self.told > _PATIENCE:
            self.told = now
            output.note(f"{text} …", self.quiet)
