"""Expressions of any length are laid out as `ruff format` does it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

from resnet_spec.codegen import layout
from resnet_spec.expressions import (
    Binary,
    Call,
    Conditional,
    Const,
    Expr,
    Logical,
    Name,
    Unary,
    to_python,
)

NAMES = ("filters", "width_of_it", "in_channels", "stride", "groups_of_all", "drop_rate", "x")


def number(random: Random, depth: int) -> Expr:
    kind = random.random()
    if depth == 0 or kind < 0.3:
        return Name(random.choice(NAMES)) if random.random() < 0.8 else Const(random.randint(2, 64))
    one, other = number(random, depth - 1), number(random, depth - 1)
    if kind < 0.75:
        return Binary(random.choice(("+", "-", "*", "//")), one, other)
    if kind < 0.9:
        return Call("max", (one, other))
    return Conditional(truth(random, depth - 1), one, other)


def truth(random: Random, depth: int) -> Expr:
    kind = random.random()
    if depth == 0 or kind < 0.4:
        below = max(depth - 1, 0)
        operator = random.choice(("==", "!=", ">", "<="))
        return Binary(operator, number(random, below), number(random, below))
    if kind < 0.9:
        parts = tuple(truth(random, depth - 1) for _ in range(random.choice((2, 2, 3))))
        return Logical(random.choice(("and", "or")), parts)
    return Unary("not", truth(random, depth - 1))


def test_long_expressions_are_broken_as_ruff_breaks_them(tmp_path: Path) -> None:
    random = Random(0)
    lines = ["def f():"]
    for _ in range(1500):
        lines += [*layout.condition("if", to_python(truth(random, 3)), 4), "        pass"]
        lines += layout.statement("value = ", to_python(number(random, 4)), "", 4)
    assert sum(line.endswith("(") for line in lines) > 1000
    file = tmp_path / "broken.py"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
