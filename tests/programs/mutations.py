"""Edits of Python source through its syntax tree, one at a time.

An edit changes what a line says and leaves it valid Python: a number, a name, an operator, an
argument, a statement. Comments, docstrings, annotations and messages of errors say nothing that
a network does, so they are left alone.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import count, islice
from typing import Any, NamedTuple

OPERATORS: dict[type[Any], type[Any]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.BitOr: ast.BitAnd,
}


Change = Callable[[], Any]


class Edit(NamedTuple):
    """One change that can be made of a node: what kind of change, and how to make it."""

    kind: str
    node: Any
    make: Change


class Mutant(NamedTuple):
    """A text with one edit, and the node before and after."""

    text: str
    number: int
    kind: str
    line: int
    before: str
    after: str

    @property
    def is_change(self) -> bool:
        return self.before != self.after

    def __str__(self) -> str:
        before, after = (each.replace("\n", "; ")[:200] for each in (self.before, self.after))
        return f"{self.kind} in line {self.line}: {before} -> {after}"


class Source:
    """A text whose edits are counted once, and made each on a tree of its own."""

    def __init__(self, text: str, skip: Collection[str]) -> None:
        self.text, self.skip = text, skip
        self.count = sum(1 for _ in self._edits(ast.parse(text)))

    def mutant(self, number: int) -> Mutant:
        tree, edit = self._edit(number)
        line, before = edit.node.lineno, ast.unparse(edit.node)
        edit.make()
        text = ast.unparse(ast.fix_missing_locations(tree))
        return Mutant(text, number, edit.kind, line, before, ast.unparse(edit.node))

    def observed(self, number: int, hook: str) -> Iterator[tuple[str, str]]:
        """The text before and after an edit of an expression that is handed to `hook` each time.

        Of a call it is the arguments that are handed on. After it the expressions around it come
        that only compute: a sum, a comparison, a choice, a part of a value.
        """
        for height in count():
            texts = []
            for changed in (False, True):
                tree, edit = self._edit(number)
                watched = _around(tree, edit.node, height)
                if watched is None:
                    return
                if changed:
                    edit.make()
                texts.append(
                    ast.unparse(_Watch(watched, hook, not _is_numeric(watched)).visit(tree))
                )
            yield texts[0], texts[1]

    def without_default(self, number: int) -> str | None:
        """The text with a string where the edit changes a default, which no number can be."""
        tree, edit = self._edit(number)
        for each in ast.walk(tree):
            if isinstance(each, ast.arguments) and edit.node in (*each.defaults, *each.kw_defaults):
                edit.node.value = "never used"
                return ast.unparse(tree)
        return None

    def raising(self, number: int) -> str:
        """The text with an error where a statement is dropped."""
        tree, edit = self._edit(number)
        edit.make()
        dropped = edit.node.body[0]
        for each in ast.walk(tree):
            for block in (getattr(each, "body", None), getattr(each, "orelse", None)):
                if isinstance(block, list) and dropped in block:
                    block[block.index(dropped)] = ast.parse("raise AssertionError").body[0]
        return ast.unparse(ast.fix_missing_locations(tree))

    def _edit(self, number: int) -> tuple[ast.Module, Edit]:
        tree = ast.parse(self.text)
        return tree, next(islice(self._edits(tree), number, None))

    def _edits(self, tree: ast.Module) -> Iterator[Edit]:
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                continue
            if getattr(node, "name", "") not in self.skip:
                names = _names(node)
                for each in _nodes(node):
                    yield from (Edit(kind, each, make) for kind, make in _changes(each, names))
                    for block in ("body", "orelse"):
                        yield from _statements(each, block)


COMPUTING = (
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Subscript, ast.Slice),
    *(ast.Constant, ast.Name, ast.Tuple, ast.JoinedStr, ast.Attribute),
)
# Functions that do so.
NUMERIC = ("max", "min", "abs", "int", "round", "math.floor", "math.log2", "make_divisible")


def _around(tree: ast.AST, node: ast.AST, height: int) -> ast.expr | None:
    """The expression so many levels above a node, if all between only compute."""
    above = {child: each for each in ast.walk(tree) for child in ast.iter_child_nodes(each)}
    if not isinstance(node, ast.expr):
        return None
    found: ast.AST = above[node] if isinstance(above.get(node), ast.JoinedStr) else node
    while height or isinstance(found, ast.Slice):
        found = above[found]
        height = max(height - 1, 0)
        if not isinstance(found, COMPUTING) and not _is_numeric(found):
            return None
    return found  # type: ignore[return-value]


def _is_numeric(node: ast.AST) -> bool:
    function = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
    return function in NUMERIC or function.endswith(".startswith")


class _Watch(ast.NodeTransformer):
    """Puts a call of the hook around one expression, or in the place of a call's function."""

    def __init__(self, node: ast.expr, hook: str, arguments: bool) -> None:
        self.node, self.hook, self.arguments = node, ast.Name(hook, ast.Load()), arguments

    def visit(self, node: ast.AST) -> Any:
        if node is not self.node:
            return ast.fix_missing_locations(self.generic_visit(node))
        if isinstance(node, ast.Call) and self.arguments:
            return ast.Call(self.hook, [node.func, *node.args], node.keywords)
        return ast.Call(self.hook, [ast.Constant(None), node], [])


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all within it that says what is done."""
    if isinstance(node, ast.Raise) or _is_docstring(node):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "ctx", "bases", "op", "ops"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _nodes(child)


def _is_docstring(node: ast.AST) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _names(node: ast.AST) -> list[str]:
    """Every variable of a class or function."""
    every = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
    found = [each.id for each in every if isinstance(each.ctx, ast.Store)]
    found += [each.arg for each in ast.walk(node) if isinstance(each, ast.arg)]
    return sorted({*found} - {"self"})


Changes = Iterator[tuple[str, Change]]


def _changes(node: ast.AST, names: Sequence[str]) -> Changes:
    match node:
        case ast.Constant():
            yield from _constant(node)
        case ast.Name(ctx=ast.Load()) if node.id in names:
            place = names.index(node.id)
            for other in sorted({names[place - 1], names[(place + 1) % len(names)]} - {node.id}):
                yield "name", partial(_set, node, "id", other)
        case ast.Compare():
            yield "comparison", lambda: _set(node, "ops", [_swapped(node.ops[0])])
        case ast.BinOp() | ast.BoolOp():
            yield "operator", lambda: _set(node, "op", _swapped(node.op))
            if isinstance(node, ast.BinOp):
                yield "operands", lambda: _exchange(node, "left", "right")
        case ast.If() | ast.IfExp():
            yield "condition", lambda: _set(node, "test", _negated(node.test))
            if isinstance(node, ast.IfExp):
                yield "branches", lambda: _exchange(node, "body", "orelse")
        case ast.Call():
            yield from _call(node)
        case ast.Attribute():
            yield "attribute", lambda: _set(node, "attr", _other(node.attr))
        case ast.List() | ast.Tuple() if len(node.elts) > 1:
            yield "elements", lambda: _set(node, "elts", node.elts[::-1])
            yield "element dropped", lambda: _set(node, "elts", node.elts[:-1])


def _constant(node: ast.Constant) -> Changes:
    value = node.value
    if isinstance(value, bool):
        yield "bool", lambda: _set(node, "value", not value)
    elif isinstance(value, int):
        yield "number", lambda: _set(node, "value", value + 1)
        yield "number", lambda: _set(node, "value", value - 1)
    elif isinstance(value, float):
        yield "number", lambda: _set(node, "value", value * 2 + 0.125)
    elif isinstance(value, str) and value:
        yield "string", lambda: _set(node, "value", f"{value}x")
        yield "string", lambda: _set(node, "value", value[:-1])


def _call(node: ast.Call) -> Changes:
    for index in range(len(node.keywords)):
        yield "keyword dropped", partial(node.keywords.pop, index)
    for index in range(len(node.args) - 1):
        yield "arguments", partial(_exchanged, node.args, index)
    if len(node.args) > 1:
        yield "argument dropped", node.args.pop
    for one in range(len(node.keywords)):
        for other in range(one):
            yield "keywords", partial(_values_exchanged, node.keywords, one, other)


def _statements(node: ast.AST, name: str) -> Iterator[Edit]:
    block = getattr(node, name, None)
    if not isinstance(block, list):
        return
    for index, statement in enumerate(block):
        if _is_docstring(statement) or isinstance(statement, ast.Pass | ast.FunctionDef):
            continue
        yield Edit("statement dropped", *_dropped(block, index))
        after = block[index + 1] if index + 1 < len(block) else None
        if after is not None and not isinstance(after, ast.FunctionDef):
            yield Edit("statements", *_reordered(block, index))


# --- the changes ---------------------------------------------------------------------------------


def _set(node: Any, name: str, value: Any) -> Any:
    setattr(node, name, value)
    return node


def _swapped(operator: ast.AST) -> ast.AST:
    made: ast.AST = OPERATORS[type(operator)]()
    return made


def _exchange(node: Any, one: str, other: str) -> Any:
    first, second = getattr(node, one), getattr(node, other)
    setattr(node, one, second)
    setattr(node, other, first)
    return node


def _negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _exchanged(items: list[ast.expr], index: int) -> None:
    items[index], items[index + 1] = items[index + 1], items[index]


def _values_exchanged(keywords: list[ast.keyword], one: int, other: int) -> None:
    first, second = keywords[one], keywords[other]
    first.value, second.value = second.value, first.value


def _dropped(block: list[ast.stmt], index: int) -> tuple[ast.Module, Change]:
    shown = _shown(block[index])

    def make() -> None:
        block[index] = shown.body[0] = ast.Pass()

    return shown, make


def _reordered(block: list[ast.stmt], index: int) -> tuple[ast.Module, Change]:
    shown = _shown(*block[index : index + 2])

    def make() -> None:
        block[index : index + 2] = shown.body = [*reversed(shown.body)]

    return shown, make


def _shown(*statements: ast.stmt) -> Any:
    """Statements as a node, in the line of the first."""
    module: Any = ast.Module([*statements], [])
    module.lineno = statements[0].lineno
    return module


# What stands for another of its kind: functions, layers, methods.
OTHERS = {
    "relu": "silu",
    "silu": "relu",
    "gelu": "silu",
    "sigmoid": "tanh",
    "tanh": "sigmoid",
    "ReLU": "SiLU",
    "mean": "amax",
    "amax": "mean",
    "MaxPool2d": "AvgPool2d",
    "AvgPool2d": "MaxPool2d",
    "Add": "Multiply",
    "Multiply": "Add",
    "MaxPooling2D": "AveragePooling2D",
    "AveragePooling2D": "MaxPooling2D",
    "GlobalAveragePooling2D": "GlobalMaxPooling2D",
    "GlobalMaxPooling2D": "GlobalAveragePooling2D",
    "kaiming_normal_": "kaiming_uniform_",
    "kaiming_uniform_": "kaiming_normal_",
    "zeros_": "ones_",
    "ones_": "zeros_",
    "Sequential": "ModuleList",
    "Dropout": "Identity",
}


def _other(name: str) -> str:
    """A neighbouring name: of the table, with another number, or one that does not exist."""
    if name in OTHERS:
        return OTHERS[name]
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    return f"{stem}{int(digits) % 3 + 1}" if digits else f"{name}_"
