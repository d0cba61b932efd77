"""`report`: a network as one page of HTML, from what the compiler knows of it."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from resnet_spec.cli import output, shared
from resnet_spec.cli.shared import Exit, Reader, UsageError
from resnet_spec.codegen import header
from resnet_spec.diagnostics import quoted
from resnet_spec.disk import projects
from resnet_spec.report import Contents, Findings, contents, document
from resnet_spec.report.contents import source_backends

_PAIRS = (("--stdout", "--out"), ("--stdout", "--force"))
_ENDINGS = (".html", ".htm")


def run(arguments: argparse.Namespace) -> Exit:
    """Write one page; findings go to standard error."""
    _check_usage(arguments)
    reader = Reader(arguments.set, arguments.stdin_filename)
    root = projects.settings_folder(Path.cwd()) or Path()
    if not shared.backends_exist(arguments):
        return Exit.FAILURE
    read = shared.read_of_project(arguments.spec, reader, root)
    if read is None:
        output.findings(reader.findings, reader.sources, color=arguments.color)
        return shared.outcome(reader.findings)
    page = contents(*read, arguments.backend or source_backends())
    found = Findings(page.findings, reader.sources)
    if arguments.stdout:
        output.source(document(page, found))
    elif (code := _write(arguments, page, found)) != Exit.CLEAN:
        return code
    if found.diagnostics:
        output.findings(found.diagnostics, found.sources, color=arguments.color)
    return shared.outcome(found.diagnostics)


def _check_usage(arguments: argparse.Namespace) -> None:
    """`UsageError` for what makes no sense."""
    if arguments.out == "-":
        arguments.out, arguments.stdout = None, True
    shared.reject_pairs(arguments, _PAIRS)
    if arguments.out is not None and not arguments.out.endswith(_ENDINGS):
        raise UsageError(f"--out {quoted(arguments.out)} must end in .html")
    if arguments.stdout and sys.stdout is None:
        raise UsageError("standard output is closed")
    shared.check_text("--set", arguments.set)
    shared.check_stdin([arguments.spec], arguments.stdin_filename)


def _write(arguments: argparse.Namespace, page: Contents, found: Findings) -> Exit:
    network = page.network
    head = header.lines(network.path, network.digest, _command(arguments, page))
    text = header.seal(document(page, found, head))
    return shared.write(arguments, arguments.out or f"{network.name}.html", text)


def _command(arguments: argparse.Namespace, page: Contents) -> str:
    """How the file is written anew; it does not know its own place."""
    words = ["resnet-spec", "report", page.network.path]
    words += [word for value in arguments.set for word in ("--set", value)]
    words += [word for name in arguments.backend for word in ("--backend", name)]
    return shlex.join([*words, "--out", "FILE"])
