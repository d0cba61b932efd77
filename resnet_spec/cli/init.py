"""`init`: a starter spec."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

from resnet_spec.cli import output
from resnet_spec.cli.shared import Exit, UsageError
from resnet_spec.diagnostics import Span, SpecError, expected, quoted
from resnet_spec.language.identifiers import check_network
from resnet_spec.language.library import SUFFIXES, builtin_specs
from resnet_spec.project import files

_STARTER = """\
spec_version: 1
name: {name}
description: A small residual network for 32x32 images
input: {{channels: 3, height: 32, width: 32}}
classes: 10

# Layers before the stages. 'norm' and 'act' are batch_norm and relu unless 'defaults' says other.
stem:
  - {{conv: conv1, filters: 16, kernel: 3}}
  - {{norm: bn1}}
  - {{act: act1}}

# Each stage repeats a block; its output is one of the network's feature maps.
stages:
  - {{name: layer1, block: basic, repeat: 2, filters: 16}}
  - {{name: layer2, block: basic, repeat: 2, filters: 32, stride: 2}}
  - {{name: layer3, block: basic, repeat: 2, filters: 64, stride: 2}}

# Layers after the stages, to the logits.
head:
  - {{global_avg_pool: avgpool}}
  - {{linear: fc, features: classes}}

# Numbers that every run checks; 'resnet-spec show' prints them.
expect: {{parameters: 175258}}
"""

_EXTENDING = """\
spec_version: 1
name: {name}
description: Based on {base}
extends: {base}

# Everything that is not said here is as in {base}; 'resnet-spec show --resolved' prints it all.
classes: 10

# A stage is changed by its name:
# stages:
#   layer4: {{repeat: 2}}
"""


def run(arguments: argparse.Namespace) -> Exit:
    """Write a new spec; nothing is replaced."""
    path = Path(arguments.file)
    name = _name(path)
    if arguments.base is None:
        text = _STARTER.format(name=name)
    elif arguments.base in builtin_specs():
        text = _EXTENDING.format(name=name, base=arguments.base)
    else:
        hint = expected(arguments.base, builtin_specs())
        raise UsageError(f"there is no built-in spec {quoted(arguments.base)}: {hint}")
    for left in files.leftovers([path.parent], remove=True):
        output.note(f"removed what a run left that was killed: {left}")
    try:
        files.create(path, text, arguments.file)
    except files.OutputError as error:
        output.findings(error.diagnostics, {})
        return Exit.FAILURE
    output.note(f"wrote {arguments.file}; compile it with:")
    output.note(f"  {shlex.join(['resnet-spec', 'compile', arguments.file])}")
    return Exit.CLEAN


def _name(path: Path) -> str:
    """The network's name: the file's, made an identifier."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{quoted(path)} must end in .yaml")
    name = re.sub(r"[^a-z0-9_]", "_", path.stem.lower())
    try:
        return check_network(name, Span(str(path)))
    except SpecError as error:
        found = error.diagnostics[0]
        raise UsageError(f"{found.message}: {found.help}") from None
