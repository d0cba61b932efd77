"""`verify`: run the generated code of all backends with the same numbers, and compare."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

from resnet_spec.cli import output, shared
from resnet_spec.cli.shared import Exit, Reader, UsageError
from resnet_spec.codegen.generate import backend_names
from resnet_spec.diagnostics import Diagnostic, SpecError, counted, in_order
from resnet_spec.diagnostics.render import as_json
from resnet_spec.ir import Network
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.verify.frameworks import FRAMEWORKS, REFERENCE

if TYPE_CHECKING:
    from resnet_spec.verify.session import Session
LARGEST = (64, 75)  # odd and oblong: what takes rows for columns, or pads one side, is seen


def run(arguments: argparse.Namespace) -> Exit:
    """Verify each spec; the table goes to standard output, findings to standard error."""
    shared.check_text("--set", arguments.set)
    shared.check_stdin(arguments.specs, arguments.stdin_filename)
    runners = _runners(arguments.backends)
    size = _size(arguments.size)
    _check_installed(runners, arguments.keras_backend)
    reader = Reader(arguments.set, arguments.stdin_filename)
    networks = [
        _sized(read[1], name, reader, size)
        for name in arguments.specs
        if (read := reader.network(name)) is not None
    ]
    if reader.findings:
        output.findings(reader.findings, reader.sources, arguments.format, arguments.color)
        return Exit.FINDINGS
    for network in networks:
        _check_memory(network, arguments.precision, len(runners))
    return _verify(networks, runners, arguments, reader)


def _verify(
    networks: list[Network], runners: list[str], arguments: argparse.Namespace, reader: Reader
) -> Exit:
    from resnet_spec.verify import report
    from resnet_spec.verify.run import Verification
    from resnet_spec.verify.session import RunnerError, Session, scratch

    shows = arguments.format == "text" and not arguments.quiet

    def show(text: str) -> None:
        if shows:
            output.say(text)

    results: list[dict[str, Any]] = []
    with scratch() as folder, Session(runners, arguments.keras_backend) as session:
        try:
            versions = _versions(session)
        except RunnerError as error:
            reader.fail([Diagnostic("RS802", str(error))])
            versions, networks = {}, []
        for number, network in enumerate(networks):
            place = folder / str(number)
            try:
                verification = Verification(network, session, place, arguments.precision)
            except SpecError as error:
                reader.fail(error.diagnostics)  # as compile tells it; the others are run
                continue
            show(report.heading(verification.plan, session))
            for row in verification.run():
                show(report.line(row))
            shutil.rmtree(place)
            reader.findings.extend(verification.found)
            results.append(report.as_json(verification, network.path))
    found = in_order(reader.findings)
    if arguments.format == "json":
        output.as_json({**as_json(found), "versions": versions, "networks": results})
    elif found:
        output.findings(found, reader.sources, arguments.format, arguments.color)
    elif shows:
        output.say(f"{counted(len(networks), 'network')}: the backends agree")
    return shared.outcome(found)


def _versions(session: Session) -> dict[str, str]:
    """Of all that the runners rest on; raises `RunnerError` where one does not even start."""
    versions: dict[str, str] = {}
    for found in session.ask("versions").values():
        versions |= found
    return versions


def _runners(text: str | None) -> list[str]:
    """The frameworks of `--backends`; PyTorch is what the others are compared with."""
    if text is None:
        return _installed()
    names = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in FRAMEWORKS:
            raise UsageError(f"--backends takes {', '.join(FRAMEWORKS)}, not {name!r}")
    if REFERENCE not in names or len(names) < 2:
        raise UsageError(f"--backends needs {REFERENCE} and what to compare with it")
    return names


def _installed() -> list[str]:
    """PyTorch, and each framework that is installed and that a backend writes for."""
    written = {*backend_names()}
    others = [each for each in FRAMEWORKS.values() if each.whole and each.backend in written]
    found = [each.name for each in others if all(map(_is_installed, each.packages))]
    with_reference = list(dict.fromkeys([REFERENCE, *found]))
    # With nothing to compare, what is missing is told of the first that there could be.
    return with_reference if len(with_reference) > 1 else [each.name for each in others][:2]


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text, re.ASCII)
    if not found:
        raise UsageError("--size takes HEIGHTxWIDTH, such as 64x75")
    return int(found[1]), int(found[2])


def _check_installed(runners: list[str], keras_backend: str) -> None:
    needed = {"numpy": "numpy"}
    for each in (FRAMEWORKS[name] for name in runners):
        needed |= dict.fromkeys(each.packages, f"'resnet-spec[{each.extra}]'")
    if "keras" in runners:
        needed.setdefault(keras_backend, keras_backend)
    missing = [name for name in needed if not _is_installed(name)]
    if missing:
        install = " ".join(dict.fromkeys(needed[name] for name in missing))
        raise UsageError(
            f"verify runs the generated code, but {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed\ntry: pip install {install}"
        )


def _check_memory(network: Network, precision: str, runners: int) -> None:
    """`UsageError` for a network that would exhaust the memory and leave arrays on the disk."""
    from resnet_spec.verify.plan import memory, plan_of

    try:
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # a system that does not say
        return
    needed = memory(plan_of(network, precision)[0], runners)
    if needed > installed:
        size = f"{network.input.height}x{network.input.width}"
        raise UsageError(
            f"{network.name} needs more than {needed / 1e9:,.0f} GB of memory for images of "
            f"{size}, and there are {installed / 1e9:,.0f} GB\ntry: a smaller --size"
        )


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _sized(network: Network, name: str, reader: Reader, size: tuple[int, int] | None) -> Network:
    """The network for smaller images, if its spec allows them and no size is given."""
    given = (network.input.height or 1, network.input.width or 1)
    wanted = size or (min(given[0], LARGEST[0]), min(given[1], LARGEST[1]))
    if wanted == given:
        return network
    settings = [*reader.settings, f"input.height={wanted[0]}", f"input.width={wanted[1]}"]
    text = None
    if name == shared.STDIN:
        name, text = reader.stdin_name, reader.sources[reader.stdin_name].encode()
    try:
        return lower(load(name, reader.library, settings, text))
    except SpecError as error:
        if size is None:
            return network  # a network that only takes images of its own size
        reader.fail(error.diagnostics)
        return network
