"""Functions that a module has as its network uses them, from a Python file with all their options.

An option with the same value everywhere is put into the function. What follows from it is worked
out: a statement under a condition that never holds goes, and so does an argument that is the
default of what is called.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from resnet_spec import expressions
from resnet_spec.codegen import patterns, python
from resnet_spec.expressions import (
    Const,
    Expr,
    ExpressionError,
    Logical,
    Name,
    logical,
    substitute,
    to_python,
)

Values = Mapping[str, str]  # names with what stands for them, as Python


class Use(NamedTuple):
    """How a network uses a function."""

    known: Values  # options, and variables, that always have the same value
    passed: Values  # parameters that do and are passed all the same; they decide comparisons
    defaults: Mapping[str, Values]  # arguments of what the function calls


class Function:
    """A function as a network uses it.

    Its options are parameters by keyword. No `if` has an `else`, and a variable that is set to a
    constant or another variable is set once.
    """

    def __init__(self, source: str, use: Use) -> None:
        (tree,) = ast.parse(source).body
        assert isinstance(tree, ast.FunctionDef)
        documented, *statements = tree.body
        assert documented.end_lineno is not None
        self.source, self.tree = source.split("\n"), tree
        self.docstring = self.source[documented.lineno - 1 : documented.end_lineno]
        self.folded = _Folding(use, tree.args)
        self.body = self._lines(statements, documented.end_lineno, 4)
        self.read = python.names_in("\n".join(self.body))

    def written(self, name: str, defaults: Mapping[str, str | None], words: Values) -> list[str]:
        """Its source, given its name, the defaults of options, and words for its docstring."""
        parameters = [ast.unparse(each) for each in self.tree.args.args]
        options, unset = [], []
        for each in self.tree.args.kwonlyargs:
            text, default = ast.unparse(each), defaults.get(each.arg)
            if each.arg not in self.read:
                continue
            if default is not None and "(" in default:
                # All calls would share one object in the signature.
                unset += patterns.statement(f"if {each.arg} is None:", 4)
                unset += patterns.statement(f"{each.arg} = {default}", 8)
                text, default = f"{text} | None", "None"
            options.append(text if default is None else f"{text} = {default}")
        assert self.tree.returns is not None
        suffix = f" -> {ast.unparse(self.tree.returns)}:"
        between = ["*"] if options else []
        head = python.signature(f"def {name}", [*parameters, *between, *options], suffix)
        docstring = (line.format_map(words) for line in self.docstring)
        return [*head, *docstring, *unset, *self.body]

    def _lines(self, statements: Iterable[ast.stmt], end: int, indent: int) -> list[str]:
        """The lines of statements after a line of the source, each with the comments above it."""
        text: list[str] = []
        margin = " " * indent
        for each in statements:
            if written := self._statement(each, indent):
                text += [f"{margin}{line.lstrip()}" for line in self.source[end : each.lineno - 1]]
                text += written
            if any(line.startswith(f"{margin}return ") for line in written):
                break
            end = each.end_lineno or end
        return text

    def _statement(self, node: ast.stmt, indent: int) -> list[str]:
        match node:
            case ast.If(test, body, []):
                decided = self.folded.visit(test)
                if isinstance(decided, ast.Constant):
                    return self._lines(body, test.lineno, indent) if decided.value else []
                inner = self._lines(body, test.lineno, indent + 4)
                return [*patterns.statement(f"if {_text(decided)}:", indent), *inner]
            case ast.Assign([ast.Name(name)], value):
                value = self.folded.visit(value)
                if isinstance(value, ast.Constant) or _text(value).isidentifier():
                    self.folded.known.setdefault(name, _text(value))
                if name in self.folded.known:
                    return []
                return patterns.statement(f"{name} = {_text(value)}", indent)
        assert not isinstance(node, ast.If)
        return patterns.statement(_text(self.folded.visit(node)), indent)


class _Folding(ast.NodeTransformer):
    """Puts values into an expression, and works out what follows from them."""

    def __init__(self, use: Use, parameters: ast.arguments) -> None:
        self.known, self.passed, self.defaults = dict(use.known), use.passed, use.defaults
        every = (*parameters.args, *parameters.kwonlyargs)
        whole = [each.arg for each in every if each.annotation and _text(each.annotation) == "int"]
        self.integers = {name: Name(name, integral=True) for name in whole}

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Name) and node.id in self.known:
            return _parsed(self.known[node.id])
        if isinstance(node, ast.BinOp | ast.BoolOp | ast.Compare | ast.UnaryOp):
            with suppress(ExpressionError):  # what is more than arithmetic
                return self.arithmetic(node)
        return super().visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        test = self.visit(node.test)
        if isinstance(test, ast.Constant):
            return self.visit(node.body if test.value else node.orelse)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        usual = self.defaults.get(_text(node.func), {})
        node.keywords = [k for k in node.keywords if usual.get(str(k.arg)) != _text(k.value)]
        return node

    def arithmetic(self, node: ast.expr) -> ast.expr:
        expression, names = expressions.parse(_text(node))
        if not names:
            return node
        text = to_python(number := self.number(expression))
        # `ast.unparse` would write brackets that a formatter does not.
        return _parsed(text) if isinstance(number, Const) else ast.Name(text)

    def number(self, expression: Expr) -> Expr:
        """An expression with the numbers that are known."""
        if isinstance(expression, Logical):
            return logical(expression.operator, tuple(map(self.number, expression.operands)))
        decided = substitute(expression, self.scope({**self.passed, **self.known}))
        if isinstance(decided, Const) and isinstance(decided.value, bool):
            return decided
        return substitute(expression, self.scope(self.known))

    def scope(self, values: Values) -> dict[str, Expr]:
        found: dict[str, Expr] = {**self.integers}
        for name, text in values.items():
            with suppress(ExpressionError):  # no number
                found[name] = expressions.parse(text)[0]
        return found


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _text(node: ast.AST) -> str:
    """An expression in one line; no string in it has a quote, no number an exponent of `-05`."""
    return ast.unparse(node).replace("'", '"').replace("e-0", "e-")
