"""`schema`: the JSON Schema of a spec, a block or a recipe, for editors."""

from __future__ import annotations

import argparse

from resnet_spec.cli import output
from resnet_spec.cli.shared import Exit


def run(arguments: argparse.Namespace) -> Exit:
    """Print one schema."""
    from resnet_spec.language.json_schema import json_schema

    output.as_json(json_schema(arguments.kind))
    return Exit.CLEAN
