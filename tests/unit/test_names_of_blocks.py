"""Blocks are data: no backend and no part of the compiler knows one by its name."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import resnet_spec
from resnet_spec.language.library import builtin_blocks, builtin_folder
from resnet_spec.primitives import PRIMITIVES

# Words that name a block and mean something else as well.
COMMON = {"basic", "plain", "transition"}
# Starter specs and examples of messages are YAML within Python, and use blocks as users do.
EXAMPLES = {"codes.py", "examples.py", "init.py", "cli.py"}


def sources() -> Iterator[Path]:
    package = Path(resnet_spec.__file__).parent
    for folder in (package, builtin_folder().parent / "backends"):
        for path in folder.rglob("*.py"):
            if path.name not in EXAMPLES:
                yield path


def words(source: str) -> set[str]:
    """Identifiers and string literals of a module; comments and docstrings may give examples."""
    documentation = {
        node.body[0].value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    found = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            found.add(token.string)
        elif token.type == tokenize.STRING and token.string[0] in "\"'":
            text = ast.literal_eval(token.string)
            if text not in documentation:
                found.add(text)
    return found


def test_no_block_is_known_by_name() -> None:
    blocks = set(builtin_blocks()) - set(PRIMITIVES) - COMMON
    known = {
        path.name: sorted(blocks & words(path.read_text(encoding="utf-8"))) for path in sources()
    }

    assert len(known) > 30
    assert {name: found for name, found in known.items() if found} == {}
