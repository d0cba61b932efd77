"""`explain`: what the code of an error means, with a bad and a good example."""

from __future__ import annotations

import argparse
import textwrap

from resnet_spec.cli import output, shared
from resnet_spec.cli.shared import Exit, UsageError
from resnet_spec.diagnostics import expected, quoted
from resnet_spec.diagnostics.codes import CODES, Code


def run(arguments: argparse.Namespace) -> Exit:
    """Explain one code, or list all."""
    if arguments.code is None:
        rows = [("code", "meaning"), *((name, code.title) for name, code in sorted(CODES.items()))]
        output.say(shared.table(rows, (False, False)))
        return Exit.CLEAN
    name = arguments.code.strip().upper()
    if name not in CODES:
        raise UsageError(f"there is no code {quoted(arguments.code)}: {expected(name, CODES)}")
    output.say(as_text(name, CODES[name]))
    return Exit.CLEAN


def as_text(name: str, code: Code) -> str:
    """The whole page of a code."""
    parts = [f"{name}: {code.title}", code.explanation.strip()]
    for heading, example in (("wrong:", code.bad), ("right:", code.good)):
        if example.strip():
            parts.append(f"{heading}\n\n{textwrap.indent(example.strip(chr(10)), '    ')}")
    return "\n\n".join(parts)
