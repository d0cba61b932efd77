"""Code shared by every backend that writes Python: docstrings, signatures, arguments."""

from __future__ import annotations

import builtins
import functools
import symtable
import textwrap
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import chain, groupby

from resnet_spec.codegen import layout
from resnet_spec.codegen.branches import Branch
from resnet_spec.diagnostics import escapes
from resnet_spec.expressions import (
    Conditional,
    Const,
    Expr,
    Name,
    binary,
    substitute,
    to_python,
    unary,
)
from resnet_spec.ir import Instance, Network, Step
from resnet_spec.primitives import Shape
from resnet_spec.specialize import (
    AssignLine,
    CallLine,
    FeatureInfo,
    Line,
    LoopLine,
    OperationLine,
    Parameter,
    Path,
    Run,
    Value,
)
from resnet_spec.specialize.program import is_repeated


def docstring(summary: str, *paragraphs: Sequence[str], indent: int = 0) -> list[str]:
    """The lines of a docstring; `summary` is wrapped, the paragraphs are taken as they are."""
    margin = " " * indent
    text = escapes.python(summary)
    text = text if text.endswith((".", "?", "!")) else f"{text}."
    if not paragraphs and len(margin) + len(text) + 6 <= layout.WIDTH:
        return [f'{margin}"""{text}"""']
    # A summary that fills its line would push the closing quotes over the edge.
    room = 0 if paragraphs else 12
    lines = layout.prose(text, indent + room, first=3)
    lines[0] = f'"""{lines[0][3:]}'
    for paragraph in paragraphs:
        lines += ["", *paragraph]
    return [*(f"{margin}{line}" if line else "" for line in lines), f'{margin}"""']


def string(value: str) -> str:
    """A Python string literal in double quotes."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def number(value: float) -> str:
    """A number as Python source."""
    return to_python(Const(value))


def signature(
    prefix: str, parameters: Iterable[layout.Code], suffix: str, indent: int = 0
) -> list[str]:
    """The lines of a `def` with its parameters."""
    items = tuple(("", parameter) for parameter in parameters)
    lines = layout.statement(prefix, layout.Bracket("(", items), suffix, indent)
    if len(items) == 1 and len(lines) == 3:
        lines[1] += ","  # a lone parameter on a line of its own has a comma
    return lines


def declared(parameters: Iterable[Parameter]) -> list[layout.Code]:
    """`filters: int`, `stride: int = 1`."""
    return [
        f"{p.name}: {p.type}" + (f" = {number(p.default)}" if p.default is not None else "")
        for p in parameters
    ]


def rescaled(value: str, factor: Expr, offset: Expr, spelling: Mapping[str, str]) -> str:
    """`factor * value + offset`, without terms that do nothing: `1 - value`, `-value`."""
    given: Expr = Name("*")
    spelled_out = {**spelling, "*": value}
    if factor == Const(-1):
        if offset == Const(0):
            return to_python(unary("-", given), spelled_out)
        return to_python(binary("-", offset, given), spelled_out)
    scaled = given if factor == Const(1) else binary("*", given, factor)
    if isinstance(offset, Const) and offset.value < 0:
        return to_python(binary("-", scaled, Const(-offset.value)), spelled_out)
    return to_python(scaled if offset == Const(0) else binary("+", scaled, offset), spelled_out)


def passed(
    arguments: Iterable[tuple[Parameter, Expr]], spelling: Mapping[str, str], by_position: int = 2
) -> tuple[list[str], dict[str, str]]:
    """Arguments of a call: those without a default by position, others by name if they differ.

    Every framework takes the input and output sizes of a layer first. Arguments after these, and
    booleans, are passed by keyword, since their position does not tell what they mean.
    """
    positional: list[str] = []
    keywords: dict[str, str] = {}
    for parameter, value in arguments:
        if parameter.default is not None and value == Const(parameter.default):
            continue
        usual = parameter.default is None and parameter.type != "bool"
        if usual and not keywords and len(positional) < by_position:
            positional.append(to_python(value, spelling))
        else:
            keywords[parameter.name] = to_python(value, spelling)
    return positional, keywords


def choice(then: layout.Code, condition: Expr, otherwise: str) -> layout.Choice:
    """`then if condition else otherwise`, in the constructor of a class."""
    text = to_python(condition)
    return layout.Choice(
        then, f"({text})" if isinstance(condition, Conditional) else text, otherwise
    )


# What a writer stores under this name, which no variable can have, is returned.
RETURNED = Value("return")


def store(name: str, code: layout.Code, suffix: str = "", indent: int = 0) -> list[str]:
    """`name = code`, or `return code`."""
    prefix = "return " if name == RETURNED.name else f"{name} = "
    return layout.statement(prefix, code, suffix, indent)


def returning(
    lines: Sequence[Line], result: Value, write: Callable[[Sequence[Line]], list[str]], indent: int
) -> list[str]:
    """What is written for the lines, and `return`: by the last line, where one statement does."""
    last = lines[-1] if lines else None
    if isinstance(last, OperationLine | CallLine | AssignLine) and last.output == result:
        text = write([*lines[:-1], last._replace(output=RETURNED)])
        if sum(line.lstrip().startswith("return ") for line in text) == 1:
            return text
    return [*write(lines), f"{' ' * indent}return {result.name}"]


def spelled(path: Path, spelling: Mapping[str, str]) -> str:
    """A path as the inside of an f-string."""
    return "".join(
        part if isinstance(part, str) else "{" + to_python(part, spelling) + "}" for part in path
    )


def literal(text: str) -> str:
    """A string literal for a text that may hold braces to fill."""
    return f'f"{text}"' if "{" in text else f'"{text}"'


def at_index(path: Path, index: Expr) -> Path:
    """A path with `i` replaced by a number."""
    parts: list[str | Expr] = []

    for part in path:
        value = part if isinstance(part, str) else substitute(part, {"i": index})
        parts.append(str(value.value) if isinstance(value, Const) else value)
    return tuple(parts)


def loop(variable: str, count: str, indent: int) -> list[str]:
    """`for variable in range(count):`"""
    return layout.statement(f"for {variable} in ", layout.call("range", count), ":", indent)


def run_range(run: Run, spelling: Mapping[str, str]) -> str:
    """`range(…)` of a run's `i`."""
    if run.start == Const(0):
        return f"range({to_python(run.count, spelling)})"
    end = run.start + run.count
    return f"range({to_python(run.start, spelling)}, {to_python(end, spelling)})"


def feature_info(
    maps: Iterable[FeatureInfo], channels: Callable[[FeatureInfo], str]
) -> layout.Code:
    """The list of a network's feature maps, a dictionary for each."""
    entries = [
        layout.Bracket(
            "{",
            (
                ("", f'"module": {string(each.name)}'),
                ('"num_chs": ', channels(each)),
                ("", f'"reduction": {each.stride}'),
            ),
            "}",
            display=True,
        )
        for each in maps
    ]
    return layout.array(entries)


# What every file may use without an import.
BUILTINS = frozenset(name for name in dir(builtins) if name.islower())


@functools.lru_cache(maxsize=256)
def names_in(text: str) -> frozenset[str]:
    """The names that a piece of Python reads, as its compiler finds them.

    None of them is a variable from the spec, as long as these hide nothing that the file uses.
    Raises `SyntaxError` for code that can't be compiled.
    """
    found: set[str] = set()
    waiting = [symtable.symtable(textwrap.dedent(text), "", "exec")]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        found.update(each.get_name() for each in table.get_symbols() if each.is_referenced())
    return frozenset(found)


def assigning(values: Sequence[tuple[str, str]], lines: Sequence[str], apart: bool) -> list[str]:
    """The lines of a function after those that assign the values that they read.

    `apart`: with an empty line between them.
    """
    used = {*names_in("\n".join(lines))}
    text: list[str] = [""] if apart else []
    for name, value in reversed(values):
        if name in used:
            used |= names_in(value)
            text = [*layout.statement(f"{name} = ", value, indent=4), *text]
    return [*text, *lines] if text != [""] else [*lines]


def groups(lines: Sequence[Line]) -> list[bool]:
    """For each line, whether a blank line goes before it.

    Groups begin at weights, or at norms if these come before their weights, with what prepares
    their input; and at merges of what such groups compute.
    """
    kinds = ["weights" if _is_block(line) else _group(line) for line in lines]
    norm_first = "norm" in kinds and "weights" not in kinds[: kinds.index("norm")]
    result = [False] * len(lines)
    for index in range(1, len(lines)):
        result[index] = _begins(lines[index], lines[index - 1], norm_first)
    apart = all(result[1:]) and not any(isinstance(line, LoopLine) for line in lines)
    return [False] * len(lines) if apart else result


def spaced(
    units: Sequence[Line | Branch],
    write: Callable[[Line | Branch], list[str]],
    apart: tuple[type, ...] = (),
) -> list[str]:
    """What is written for each line, groups and branches apart, and what follows a kind `apart`."""
    lines = [unit.lines if isinstance(unit, Branch) else (unit,) for unit in units]
    begins = iter(groups([*chain(*lines)]))
    text: list[str] = []
    gap, previous = False, None
    for unit, each in zip(units, lines, strict=True):
        first, *_ = [next(begins) for _ in each]
        gap = gap or first or isinstance(previous, (Branch, *apart)) or isinstance(unit, Branch)
        written = write(unit)
        if gap and written:
            text += [""] if text else []
            gap = False
        text += written
        previous = unit
    return text


POOLING = ("global_avg_pool", "global_max_pool", "adaptive_avg_pool")
FLATTENING = ("global_avg_pool", "global_max_pool", "flatten", "dropout")


def _group(line: Line) -> str:
    return line.primitive.group if isinstance(line, OperationLine) else ""


def _is_one_of(line: Line, primitives: Container[str]) -> bool:
    return isinstance(line, OperationLine) and line.primitive.name in primitives


def _is_block(line: Line) -> bool:
    return isinstance(line, CallLine) and line.names is None


def _reads(line: Line, previous: Line) -> bool:
    """Whether a line reads what an operation before it computes; also where it is no operation."""
    if not (isinstance(line, OperationLine | CallLine) and isinstance(previous, OperationLine)):
        return True
    return previous.output.name in {value.name for value in line.inputs}


def _begins(line: Line, previous: Line, norm_first: bool) -> bool:
    if isinstance(line, LoopLine) or isinstance(previous, LoopLine):
        return True
    if isinstance(line, AssignLine):
        return False
    kind, before = _group(line), _group(previous)
    if is_repeated(line):
        return isinstance(previous, OperationLine)
    ended = before in ("weights", "norm", "activation")
    if _is_block(line) or kind == "merge":
        return ended or (before != "merge" and not _reads(line, previous))
    if kind == "norm" and norm_first:
        return not isinstance(previous, AssignLine)
    if kind == "weights" and norm_first:
        return before == "weights" or is_repeated(previous)
    if kind == "weights":
        # What flattens a map belongs to the layer that it is flattened for, and so do merges.
        prepares = _is_one_of(previous, FLATTENING) or before == "merge"
        return not prepares and not isinstance(previous, AssignLine)
    if _is_one_of(line, POOLING) and isinstance(previous, CallLine):
        return True
    if kind == "other" and ended:
        # Another branch, or what a new one begins with.
        parts = before != "weights" and _is_one_of(line, (*POOLING, "split"))
        return parts or not _reads(line, previous)
    return isinstance(line, OperationLine) and is_repeated(previous)


# --- the order of layers -------------------------------------------------------------------------


def stands_as_it_runs(network: Network, within_blocks: bool = True) -> bool:
    """Whether layers that are kept below their dotted names are in the order in which they run.

    Then the layers before one of them are those that run before it. No stage shares its name with a
    layer outside of it. Unless `within_blocks`, only the network's own layers count.
    """
    for stage in network.stages:
        others = (step for n, step in enumerate(network.root.steps) if n not in stage.steps)
        if any(step.name.startswith(f"{stage.name}.") for step in others):
            return False
    return all(
        _is_grouped(_parts(step) for step in each.steps if is_kept(step, network, each))
        for each in (_all(network) if within_blocks else (network.root,))
    )


def runs_in_turn(network: Network) -> bool:
    """Whether every layer and block of the network itself takes the output of the one before."""
    inputs = (0, *(step.outputs[-1] for step in network.root.steps))
    return all(
        step.inputs == (before,) for step, before in zip(network.root.steps, inputs, strict=False)
    )


def outer_names(network: Network) -> list[str]:
    """The stages, and the layers and blocks outside of them that are kept, as they run."""
    within = {index: stage.name for stage in network.stages for index in stage.steps}
    names: dict[str, None] = {}
    for number, step in enumerate(network.root.steps):
        stage = within.get(number, "")
        if is_kept(step, network, network.root):
            names[stage if f"{step.name}.".startswith(f"{stage}.") else step.name] = None
    return [*names]


def is_kept(step: Step, network: Network, within: Instance) -> bool:
    """Whether a step can be a separate layer: it has parameters, is a block, or has a name.

    A child of a network whose children can be called in order always is.
    """
    learns = isinstance(step.node, Instance) or bool(_parameters(step))
    child = within is network.root and network.is_flat
    return child or learns or not step.statement.unnamed


def _parts(step: Step) -> list[str]:
    return step.name.split(".")


def _is_grouped(paths: Iterable[list[str]]) -> bool:
    """Whether all names with a common prefix are adjacent, on every level."""
    seen: set[str] = set()
    for first, group in groupby(paths, lambda path: path[0]):
        if first in seen or not _is_grouped(rest for _, *rest in group if rest):
            return False
        seen.add(first)
    return True


def _all(network: Network) -> list[Instance]:
    """Every instance, each once."""
    found = {id(network.root): network.root}
    waiting = [network.root]
    while waiting:
        for step in waiting.pop().steps:
            if isinstance(step.node, Instance) and id(step.node) not in found:
                found[id(step.node)] = step.node
                waiting.append(step.node)
    return [*found.values()]


# --- the table at the top of a file --------------------------------------------------------------


def network_table(network: Network) -> list[str]:
    """Stage, output, contents, parameters, multiply-adds; as in table 1 of the paper."""
    steps = network.root.steps
    rows = [["stage", "output", "blocks", "parameters", "multiply-adds"]]
    first = network.stages[0].steps[0] if network.stages and network.stages[0].steps else 0
    sections: list[tuple[str, Sequence[Step], Shape | None]] = [
        ("stem", steps[:first], network.stages[0].input if network.stages else None)
    ]
    for stage in network.stages:
        sections.append((stage.name, [steps[index] for index in stage.steps], stage.output))
    sections.append(("head", steps[network.head :], network.root.output))
    for name, part, output in sections:
        if part:
            rows.append(_row(name, part, output))
    total = [f"{network.root.parameters:,}", f"{network.root.macs:,}"]
    rows.append(["total", "", "", *total])
    return layout.table(rows)


def _row(name: str, steps: Sequence[Step], output: Shape | None) -> list[str]:
    instances = [step.node for step in steps if isinstance(step.node, Instance)]
    what = ""
    if instances:
        what = instances[0].definition.name
        what = f"{what} x {len(instances)}" if len(instances) > 1 else what
    parameters = sum(_parameters(step) for step in steps)
    macs = sum(step.node.macs for step in steps)
    return [name, str(output), what, f"{parameters:,}", f"{macs:,}"]


def _parameters(step: Step) -> int:
    if isinstance(step.node, Instance):
        return step.node.parameters
    return sum(p.size for p in step.node.parameters if p.trainable)
