"""`schema`: the JSON Schema of a spec, a block or a recipe, for editors."""

from __future__ import annotations

import argparse

from resnet_spec.commands import shared
from resnet_spec.commands.shared import Exit


def run(arguments: argparse.Namespace) -> Exit:
    """Print one schema."""
    from resnet_spec.schema import json_schema

    shared.print_json(json_schema(arguments.kind))
    return Exit.CLEAN
