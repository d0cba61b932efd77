"""Lays out statements as `ruff format` would at its default width, without running a formatter.

Code is text, or a bracket with items. A statement that fits stays on one line; else the items of
its bracket go on one line of their own; else on one line each, with a trailing comma.
"""

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

WIDTH = 88
INDENT = 4


class Bracket(NamedTuple):
    """`opening item, item closing`; an item's prefix is `key=` or `*`.

    `spread` puts each of several items on a line of its own, short or not; of a `display`, such as
    a tuple, the items stand in one line with it or on a line each.
    """

    opening: str
    items: "tuple[tuple[str, Code], ...]"
    closing: str = ")"
    spread: bool = False
    display: bool = False

    @property
    def is_spread(self) -> bool:
        return self.spread and len(self.items) > 1


class Comprehension(NamedTuple):
    """`opening element for … in … closing`."""

    opening: str
    element: "Code"
    clause: str
    closing: str = ")"


class Choice(NamedTuple):
    """`then if condition else otherwise`."""

    then: "Code"
    condition: str
    otherwise: str


class Applied(NamedTuple):
    """`made(argument)`: what a call makes, called in turn, or a `method` of it."""

    made: Bracket
    argument: str
    method: str = ""

    @property
    def call(self) -> str:
        return f".{self.method}(" if self.method else "("


Code = str | Bracket | Comprehension | Choice | Applied


def call(function: str, /, *arguments: Code, **keywords: Code) -> Bracket:
    """A call with positional and keyword arguments."""
    items = [("", argument) for argument in arguments]
    items += [(f"{key}=", value) for key, value in keywords.items()]
    return Bracket(f"{function}(", tuple(items))


def span(start: str, stop: str) -> str:
    """The inside of a slice: spaces around the colon where a bound is more than one word."""
    start, stop = ("" if bound == "0" else bound for bound in (start, stop))
    if all(bound.isalnum() or bound.isidentifier() for bound in (start, stop) if bound):
        return f"{start}:{stop}"
    return f"{start} : {stop}".strip()


def array(items: Iterable[Code]) -> Bracket:
    """A list display."""
    return Bracket("[", tuple(("", item) for item in items), "]", display=True)


def collection(
    pattern: str, items: Sequence[Code], spread: bool = False
) -> Bracket | Comprehension:
    """A call that is given items as a list, `made({})`, or as its arguments, `made(*{})`.

    A comprehension `*(… for …)` alone is given as it is.
    """
    *outer, inner = (f"{function}(" for function in pattern.split("(")[:-1])
    given = tuple(("", item) for item in items)
    code: Bracket | Comprehension
    match items:
        case [Comprehension("*(") as each] if "*{" not in pattern:
            code = each._replace(opening=inner)
        case _ if "*{" in pattern:
            code = Bracket(inner, given, spread=spread)
        case _:
            listed = Bracket("[", given, "]", spread, display=not spread)
            code = Bracket(inner, (("", listed),))
    for function in reversed(outer):
        code = Bracket(function, (("", code),))
    return code


def flat(code: Code) -> str:
    """The code on one line."""
    match code:
        case str():
            return code
        case Choice(then, condition, otherwise):
            return f"{flat(then)} if {condition} else {otherwise}"
        case Comprehension(opening, element, clause, closing):
            return f"{opening}{flat(element)} {clause}{closing}"
        case Applied(made, argument):
            return f"{flat(made)}{code.call}{argument})"
        case Bracket(opening, items, closing):
            return opening + ", ".join(prefix + flat(item) for prefix, item in items) + closing


def statement(prefix: str, code: Code, suffix: str = "", indent: int = 0) -> list[str]:
    """The lines of `prefix code suffix`, indented by `indent` spaces.

    A suffix `(x)` applies what the code makes; it is broken first where that is enough.
    """
    margin = " " * indent
    line = f"{margin}{prefix}{flat(code)}{suffix}"
    if len(line) <= WIDTH and (isinstance(code, str) or not _holds_spread(code)):
        return [line]
    if prefix.endswith("= ") and len(f"{margin}{prefix}{_opening(code)}") > WIDTH:
        inner_lines = statement("", code, suffix, indent + INDENT)
        return [f"{margin}{prefix}(", *inner_lines, f"{margin})"]
    if isinstance(code, str):
        return _broken(prefix, code, suffix, indent)
    if isinstance(code, Applied):
        opened = f"{margin}{prefix}{flat(code.made)}{code.call}"
        if len(opened) <= WIDTH:
            return [opened, f"{margin}{' ' * INDENT}{code.argument}", f"{margin}){suffix}"]
        return statement(prefix, code.made, f"{code.call}{code.argument}){suffix}", indent)
    if isinstance(code, Choice):
        if not prefix:
            return _choice(code, suffix, indent)
        inner = " " * (indent + INDENT)
        if len(inner) + len(flat(code)) <= WIDTH and not _holds_spread(code):
            return [f"{margin}{prefix}(", inner + flat(code), f"{margin}){suffix}"]
        return [f"{margin}{prefix}(", *_choice(code, "", indent + INDENT), f"{margin}){suffix}"]
    head = f"{margin}{prefix}{flat(code)}("
    if suffix.startswith("(") and len(head) <= WIDTH and not _holds_spread(code):
        return [head, f"{margin}{' ' * INDENT}{suffix[1:-1]}", f"{margin})"]
    first = f"{margin}{prefix}{code.opening}"
    last = f"{margin}{code.closing}{suffix}"
    return [first, *_body(code, indent + INDENT), last]


def _opening(code: Code) -> str:
    """What a statement shows of a call in its first line at least."""
    match code:
        case Bracket(opening) | Comprehension(opening):
            return opening
        case Applied(made):
            return _opening(made)
        case str() if re.match(r"[\w.]+\(", code):
            return code[: code.index("(") + 1]
    return ""


def _choice(code: Choice, suffix: str, indent: int) -> list[str]:
    """Within brackets: its three parts, on lines of their own."""
    return [
        *statement("", code.then, "", indent),
        *_pieces("if ", code.condition, "", indent),
        *_pieces("else ", code.otherwise, suffix, indent),
    ]


def _broken(prefix: str, text: str, suffix: str, indent: int) -> list[str]:
    """The lines of an expression that is too long for one.

    Within brackets, where a comma follows, it needs none of its own; nor does a call, nor what has
    brackets at its one operator.
    """
    parts = _parts(text)
    if suffix == "," or len(parts) == 1:
        return _pieces(prefix, text, suffix, indent)
    margin = " " * indent
    if len(parts) == 2 and (lines := _in_own_brackets(prefix, text, suffix, indent)):
        return lines
    inner = _pieces("", text, "", indent + INDENT)
    return [f"{margin}{prefix}(", *inner, f"{margin}){suffix}"]


def _in_own_brackets(prefix: str, text: str, suffix: str, indent: int) -> list[str]:
    """The lines of an expression that begins or ends with brackets, broken within its own.

    Each of them stays on its line where what leads to the next one fits, too. None where a line
    would be too long all the same.
    """
    if not (text.startswith("(") or text.endswith(")")):
        return []
    margin, lines, line, done = " " * indent, [], prefix, 0
    found = [*_brackets(text), (len(text), len(text))]
    for (start, end), (following, _) in pairwise(found):
        ahead = text[done : following + 1] + (suffix if following == len(text) else "")
        if len(f"{margin}{line}{ahead}") > WIDTH:
            lines += [f"{margin}{line}{text[done : start + 1]}", *_inside(text, start, end, indent)]
            line, done = "", end
    lines.append(f"{margin}{line}{text[done:]}{suffix}")
    return lines if max(map(len, lines)) <= WIDTH else []


def _inside(text: str, start: int, end: int, indent: int) -> list[str]:
    """What stands in brackets, of a call or not."""
    if not re.search(r"\w$", text[:start]):
        return _pieces("", text[start + 1 : end], "", indent + INDENT)
    source = f"f{text[start : end + 1]}"
    call = ast.parse(source, mode="eval").body
    assert isinstance(call, ast.Call)
    return _body(Bracket("(", _arguments(call, source)), indent + INDENT)


def _arguments(call: ast.Call, source: str) -> tuple[tuple[str, str], ...]:
    """The arguments of a call in a source, each with its keyword."""
    given = [("", each) for each in call.args]
    given += [(f"{each.arg}=", each.value) for each in call.keywords]
    return tuple((prefix, ast.get_source_segment(source, each) or "") for prefix, each in given)


def _brackets(text: str) -> Iterator[tuple[int, int]]:
    """Where the outermost round brackets of an expression open and close."""
    depth = start = 0
    for index, character in enumerate(text):
        if character == "(":
            start = start if depth else index
            depth += 1
        elif character == ")":
            depth -= 1
            if not depth:
                yield start, index


def _pieces(prefix: str, text: str, suffix: str, indent: int) -> list[str]:
    """The lines of an expression within brackets.

    It is broken before its outermost operators, and each operand again where it is too long.
    """
    margin = " " * indent
    line = f"{margin}{prefix}{text}{suffix}"
    if len(line) <= WIDTH:
        return [line]
    if len(parts := _parts(text)) > 1:
        lines = []
        for number, part in enumerate(parts):
            operator = re.match(_OPERATOR, part) if number else None
            before = operator.group() if operator else prefix
            operand = part[operator.end() :] if operator else part
            lines += _pieces(before, operand, suffix if number == len(parts) - 1 else "", indent)
        return lines
    match _parsed(text):
        case ast.Call(func=function) as call if call.args or call.keywords:
            opening = text[: text.index("(", function.end_col_offset or 0) + 1]
            return statement(prefix, Bracket(opening, _arguments(call, text)), suffix, indent)
        case ast.expr(col_offset=1):
            inner = _pieces("", text[1:-1], "", indent + INDENT)
            return [f"{margin}{prefix}(", *inner, f"{margin}){suffix}"]
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            sign = "not " if text.startswith("not ") else "-"
            return _pieces(f"{prefix}{sign}", text.removeprefix(sign), suffix, indent)
    return [line]


# What an operand but the first begins with.
_OPERATOR = r"(if|else|and|or|(not )?in|is( not)?|[-+*/%<>=!]+) +"


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:  # `*values`
        return None


def _parts(text: str) -> list[str]:
    """An expression in pieces, each but the first with an operator in front."""
    node = _parsed(text)
    if node is None or node.col_offset:  # within its own brackets
        return [text]
    starts = sorted(_operators(node, text))
    ends = [*starts, len(text)]
    return [text[a:b].rstrip() for a, b in zip([0, *starts], ends, strict=True)]


def _operators(node: ast.expr, text: str) -> Iterator[int]:
    """Where the outermost operators of an expression stand: the weakest, all of one strength."""
    match node:
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield text.rindex("if", body.end_col_offset, test.col_offset)
            yield text.rindex("else", test.end_col_offset, orelse.col_offset)
            if isinstance(orelse, ast.IfExp) and text[orelse.col_offset - 1] != "(":
                yield from _operators(orelse, text)
        case ast.BoolOp(values=values):
            for one, other in pairwise(values):
                yield _after(one, other, text)
            for each in values:  # `and` and `or` are broken alike
                if isinstance(each, ast.BoolOp) and text[: each.col_offset][-1:] != "(":
                    yield from _operators(each, text)
        case ast.BinOp(left=left, right=right, op=op):
            yield _after(left, right, text)
            closed = text[left.end_col_offset :].startswith(")")
            if isinstance(left, ast.BinOp) and not closed and _strength(left.op) == _strength(op):
                yield from _operators(left, text)
        case ast.Compare(left=left, comparators=others):
            for one, other in pairwise((left, *others)):
                yield _after(one, other, text)


def _after(one: ast.expr, other: ast.expr, text: str) -> int:
    """Where the operator between two operands stands."""
    start = one.end_col_offset or 0
    between = text[start : other.col_offset]
    return start + len(between) - len(between.lstrip(" )"))


def _strength(operator: ast.operator) -> int:
    return {ast.Add: 1, ast.Sub: 1, ast.Pow: 3}.get(type(operator), 2)


def _body(code: Bracket | Comprehension, indent: int) -> list[str]:
    margin = " " * indent
    if isinstance(code, Comprehension):
        line = f"{margin}{flat(code.element)} {code.clause}"
        if len(line) <= WIDTH:
            return [line]
        return [*statement("", code.element, "", indent), f"{margin}{code.clause}"]
    line = margin + ", ".join(prefix + flat(item) for prefix, item in code.items)
    if len(line) <= WIDTH and not _holds_spread(code) and not code.display:
        return [line]
    # The only argument needs no comma where it has brackets of its own.
    alone = len(code.items) == 1 and isinstance(code.items[0][1], Bracket | Comprehension)
    comma = "" if alone and not code.display else ","
    return [line for prefix, item in code.items for line in statement(prefix, item, comma, indent)]


def _holds_spread(code: Code) -> bool:
    match code:
        case Bracket():
            return code.is_spread or any(_holds_spread(item) for _, item in code.items)
        case Comprehension():
            return _holds_spread(code.element)
        case Choice():
            return _holds_spread(code.then)
    return False


def condition(keyword: str, text: str, indent: int = 0) -> list[str]:
    """`if text:`, with the text in brackets on lines of its own where it is long."""
    return statement(f"{keyword} ", text, ":", indent)


def operand(text: str) -> str:
    """A condition as an operand of `and`."""
    node = ast.parse(text, mode="eval").body
    weaker = isinstance(node, ast.IfExp) or (
        isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or)
    )
    return f"({text})" if weaker else text


def indented(lines: Iterable[str], by: int = INDENT) -> Iterator[str]:
    """The lines further right; empty ones stay empty."""
    return (f"{' ' * by}{line}" if line else line for line in lines)


def prose(text: str, indent: int = 0, first: int = 0) -> list[str]:
    """A paragraph wrapped to the width; `first` is what its first line has in front of it."""
    return textwrap.wrap(
        " ".join(text.split()),
        width=WIDTH - indent,
        initial_indent=" " * first,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned columns: text on the left, numbers on the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    numeric = [
        all(row[column].replace(",", "").replace(".", "").isdigit() for row in rows[1:])
        for column in range(len(rows[0]))
    ]
    lines = []
    for row in rows:
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return lines
