"""`draw`: a network as a picture, from the compiler's graph."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path, PurePosixPath

from resnet_spec.cli import output, shared
from resnet_spec.cli.shared import Exit, Reader, UsageError
from resnet_spec.codegen import header
from resnet_spec.diagnostics import expected, quoted
from resnet_spec.disk import projects
from resnet_spec.drawing import Drawing, Picture, Theme, png, render
from resnet_spec.drawing.mermaid import as_mermaid
from resnet_spec.ir import Network
from resnet_spec.project import files

_FORMATS = {".svg": "svg", ".png": "png", ".mmd": "mermaid", ".md": "mermaid"}
_ENDINGS = {"svg": ".svg", "png": ".png", "mermaid": ".mmd"}
_PAIRS = (
    ("--compact", "--block"),
    ("--compact", "--format mermaid"),
    ("--stdout", "--out"),
    ("--stdout", "--force"),
    ("--stdout", "--format png"),
)


def run(arguments: argparse.Namespace) -> Exit:
    """Draw one network; findings go to standard error."""
    _check_usage(arguments)
    reader = Reader(arguments.set, arguments.stdin_filename)
    root = projects.settings_folder(Path.cwd()) or Path()
    network = shared.network_of_project(arguments.spec, reader, root)
    if network is None:
        output.findings(reader.findings, reader.sources, color=arguments.color)
        return shared.outcome(reader.findings)
    drawing = Drawing(network)
    _check_block(arguments.block, drawing, network)
    if arguments.stdout:
        output.source(_text(arguments, drawing, ()))
        return Exit.CLEAN
    try:
        return _write(arguments, drawing, network)
    except files.OutputError as error:
        output.findings(error.diagnostics, {}, color=arguments.color)
    except png.ConversionError as error:
        raise UsageError(str(error)) from None
    return Exit.FAILURE


def _check_usage(arguments: argparse.Namespace) -> None:
    """`UsageError` for options that do not fit together; afterwards the format is known."""
    if arguments.out == "-":
        arguments.out, arguments.stdout = None, True
    if arguments.out is not None:
        ending = PurePosixPath(arguments.out).suffix
        by_name = _FORMATS.get(ending)
        if not arguments.out or (by_name is None and arguments.format is None):
            known = ", ".join(_FORMATS)
            raise UsageError(f"--out {quoted(arguments.out)} must end in one of {known}")
        if arguments.format not in (None, by_name) and by_name is not None:
            raise UsageError(f"--format {arguments.format} cannot be used with --out *{ending}")
        arguments.format = arguments.format or by_name
    arguments.format = arguments.format or "svg"
    shared.reject_pairs(arguments, _PAIRS)
    if arguments.format == "mermaid" and arguments.theme != "auto":
        raise UsageError("--theme cannot be used with --format mermaid")
    if arguments.stdout and sys.stdout is None:
        raise UsageError("standard output is closed")
    shared.check_text("--set", arguments.set)
    shared.check_stdin([arguments.spec], arguments.stdin_filename)
    if arguments.format == "png":
        try:
            png.find_converter()
        except png.ConversionError as error:
            raise UsageError(str(error)) from None


def _check_block(name: str | None, drawing: Drawing, network: Network) -> None:
    if name is not None and name not in drawing.blocks:
        hint = expected(name, drawing.blocks)
        raise UsageError(f"{network.name} has no block {quoted(name)}: {hint}")


def _text(arguments: argparse.Namespace, drawing: Drawing, head: tuple[str, ...]) -> str:
    if arguments.format == "mermaid":
        text = as_mermaid(drawing, head, arguments.block)
        in_page = arguments.out is not None and arguments.out.endswith(".md")
        return f"```mermaid\n{text}```\n" if in_page else text
    theme: Theme = arguments.theme
    if arguments.format == "png" and theme == "auto":
        theme = "light"
    return render(_picture(arguments, drawing), theme, head)


def _picture(arguments: argparse.Namespace, drawing: Drawing) -> Picture:
    if arguments.block is not None:
        return drawing.block(arguments.block)
    return drawing.compact() if arguments.compact else drawing.page()


def _write(arguments: argparse.Namespace, drawing: Drawing, network: Network) -> Exit:
    out = arguments.out or network.name + _ENDINGS[arguments.format]
    if arguments.format != "png":
        head = header.lines(network.path, network.digest, _command(arguments, network))
        return shared.write(arguments, out, header.seal(_text(arguments, drawing, tuple(head))))
    _write_png(arguments, out, _text(arguments, drawing, ()))
    if not arguments.quiet:
        output.say(f"wrote {out}")
    return Exit.CLEAN


def _write_png(arguments: argparse.Namespace, out: str, text: str) -> None:
    with (
        files.replacing(Path(out), out, ".png", arguments.force) as target,
        tempfile.TemporaryDirectory() as folder,
    ):
        source = Path(folder, "picture.svg")
        source.write_text(text, encoding="utf-8")
        png.convert(str(source), str(target))


def _command(arguments: argparse.Namespace, network: Network) -> str:
    """The command that regenerates the file, which does not know its own path."""
    words = ["resnet-spec", "draw", network.path]
    words += [word for value in arguments.set for word in ("--set", value)]
    words += ["--compact"] if arguments.compact else []
    words += ["--block", arguments.block] if arguments.block is not None else []
    words += ["--theme", arguments.theme] if arguments.theme != "auto" else []
    return shlex.join([*words, "--out", "FILE"])
