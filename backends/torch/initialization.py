"""How fresh weights are drawn: the body of `init_weights`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from resnet_spec.backends.torch import primitives
from resnet_spec.backends.torch.writer import MODULES
from resnet_spec.codegen import layout, python
from resnet_spec.codegen.branches import within
from resnet_spec.codegen.classes import BODY
from resnet_spec.codegen.operation import counted
from resnet_spec.codegen.placement import Layer, Place, Placement, text_of
from resnet_spec.expressions import Const, to_python
from resnet_spec.primitives import Initializer
from resnet_spec.specialize import Line, LoopLine, OperationLine, Program, Routine


class _Rule(NamedTuple):
    """A statement that fills one tensor, and the lines that it stands under."""

    under: tuple[str, ...]
    fill: layout.Code
    found: tuple[str, layout.Code] | None = None  # a tensor that has to be found first

    def lines(self) -> list[str]:
        indents = [BODY + 4 * depth for depth in range(len(self.under) + 1)]
        text = [f"{' ' * at}{line}" for at, line in zip(indents, self.under, strict=False)]
        if self.found is not None:
            name, code = self.found
            text += layout.statement(f"{name} = ", code, indent=indents[-1])
        return [*text, *layout.statement("", self.fill, indent=indents[-1])]


def initialization(program: Program) -> list[str]:
    """The body of `init_weights`: a rule for each class of module, then what blocks change."""
    usual = _usual(program)
    branches: list[tuple[str, list[_Rule]]] = []
    for primitive, (module, tensors) in primitives.INITIALIZED.items():
        rules = []
        for attribute, tensor in tensors.items():
            given = usual.get((primitive, attribute))
            already = primitives.ALREADY.get((primitive, attribute))
            if given is None or given.kind == already:
                continue
            optional = attribute == "bias_init" and not _all_biased(program, primitive)
            under = (f"if module.{tensor} is not None:",) if optional else ()
            rules.append(_Rule(under, primitives.initializer(given, f"module.{tensor}")))
        if rules:
            branches.append((module, rules))
    branches += _exceptions(program, usual)
    # Classes with the same rules share a branch.
    classes: dict[tuple[_Rule, ...], dict[str, list[str]]] = {}
    for module, rules in branches:
        condition, bare = _shared_condition(rules)
        classes.setdefault(bare, {}).setdefault(condition, []).append(module)
    text: list[str] = []
    for rules_, modules in classes.items():
        text += layout.condition("elif" if text else "if", _is_one_of(modules), 4)
        text += [line for rule in rules_ for line in rule.lines()]
    return text


def _shared_condition(rules: Sequence[_Rule]) -> tuple[str, tuple[_Rule, ...]]:
    """The condition that all of some rules stand under, or none, and the rules without it."""
    first = rules[0].under[:1]
    if not (first and first[0].startswith("if ") and all(r.under[:1] == first for r in rules)):
        return "", tuple(rules)
    condition = first[0].removeprefix("if ").removesuffix(":")
    return condition, tuple(rule._replace(under=rule.under[1:]) for rule in rules)


def _is_one_of(modules: Mapping[str, Sequence[str]]) -> str:
    """The test for classes of module, by the condition that their modules have to meet."""
    tests = []
    for condition, classes in modules.items():
        test = f"isinstance(module, {' | '.join(classes)})"
        tests.append(f"{test} and {layout.operand(condition)}" if condition else test)
    return " or ".join(tests)


def _initialized(program: Program) -> Iterator[tuple[Routine | None, OperationLine, str, Any]]:
    for routine, line in program.lines():
        if isinstance(line, OperationLine) and line.primitive.name in primitives.INITIALIZED:
            for attribute in primitives.INITIALIZED[line.primitive.name][1]:
                if attribute == "bias_init" and line.attributes.get("bias") == Const(False):
                    continue
                yield routine, line, attribute, line.attributes[attribute]


def _usual(program: Program) -> dict[tuple[str, str], Initializer]:
    """The most frequent initializer of each kind of tensor."""
    initialized = _initialized(program)
    counts = counted(((line.primitive.name, each), given) for _, line, each, given in initialized)
    return {key: counter.most_common(1)[0][0] for key, counter in counts.items()}


def _all_biased(program: Program, primitive: str) -> bool:
    """Whether a bias is there for sure, also for a type checker."""
    return primitive == "linear" and all(
        line.attributes.get("bias") == Const(True)
        for _, line in program.lines()
        if isinstance(line, OperationLine) and line.primitive.name == primitive
    )


def _exceptions(
    program: Program, usual: Mapping[tuple[str, str], Initializer]
) -> list[tuple[str, list[_Rule]]]:
    """Tensors whose initial values are not those of their kind; a block comes after its layers."""
    found: dict[str, list[_Rule]] = {}
    for owner, lines in _owners(program):
        placement = Placement(lines, MODULES)
        name = owner.class_name if owner is not None else program.network.class_name
        spelling = _spelling(owner or program, placement)
        in_branches = within(lines, owner.result.name) if owner is not None else set()
        for line, loops in MODULES.layers_in(lines):
            for tensor, given in _unusual(line, usual):
                in_chain, in_branch = owner is not None and owner.is_chain, id(line) in in_branches
                place = _Placed(line, loops, placement, in_chain, in_branch)
                found.setdefault(name, []).append(place.rule(tensor, given, spelling))
    return list(found.items())


def _owners(program: Program) -> Iterator[tuple[Routine | None, Sequence[Line]]]:
    for routine in program.routines:
        yield routine, routine.body
    yield None, (*program.body, *program.head)


def _spelling(owner: Routine | Program, placement: Placement) -> dict[str, str]:
    """How `init_weights` spells the names of a class that its module keeps."""
    found = {}
    for name in (*(p.name for p in owner.parameters), *(n for n, _ in owner.locals)):
        kept = name
        while placement.hides(kept):
            kept += "_"
        found[name] = f"module.{kept}"
    return found


def _unusual(
    line: Layer, usual: Mapping[tuple[str, str], Initializer]
) -> Iterator[tuple[str, Initializer]]:
    """The tensors of a layer whose initial values are not those of their kind."""
    if not isinstance(line, OperationLine) or line.primitive.name not in primitives.INITIALIZED:
        return
    for attribute, tensor in primitives.INITIALIZED[line.primitive.name][1].items():
        if attribute == "bias_init" and line.attributes.get("bias") == Const(False):
            continue
        given = line.attributes[attribute]
        assert isinstance(given, Initializer)
        if given != usual[(line.primitive.name, attribute)]:
            yield tensor, given


class _Placed(NamedTuple):
    """A layer with where its class keeps it."""

    line: Layer
    loops: tuple[LoopLine, ...]
    placement: Placement
    in_chain: bool
    in_branch: bool  # of which the attributes are there or not, none is None

    def rule(self, tensor: str, given: Initializer, spelling: Mapping[str, str]) -> _Rule:
        """What fills one of its tensors."""
        line, place = self.line, self.placement.of(self.line)
        if place is Place.ITEM and not self.in_chain:
            over = f"for layer in module.{str(line.path[0])[:-1]}:"
            filled = primitives.initializer(given, f'layer.get_parameter("{tensor}")')
            return _Rule((over,), filled)
        if place is Place.SUBMODULE or self.in_chain:
            return self.by_name(tensor, given, spelling)
        text = str(text_of(line.path))
        head, _, key = text.partition(".")
        present = f"module.{head} is not None"
        if key:
            present = f'"{key}" in module.{head}'
        elif self.in_branch:
            present = f'hasattr(module, "{head}")'
        under = (f"if {present}:",) if line.when is not None else ()
        if key:
            return _found(under, given, tensor, python.literal(f"{text}.{tensor}"))
        target = f"module.{text}.{tensor}"
        if tensor == "bias":
            target = f'module.{text}.get_parameter("bias")'  # the attribute may be None
        return _Rule(under, primitives.initializer(given, target))

    def by_name(self, tensor: str, given: Initializer, spelling: Mapping[str, str]) -> _Rule:
        """What fills a tensor that is found by its dotted name, in every turn of its loops."""
        under = [
            f"for {loop.variable} in range({to_python(loop.count, spelling)}):"
            for loop in self.loops
        ]
        if self.line.when is not None and not self.in_chain:
            under.append(f"if {to_python(self.line.when, spelling)}:")
        path = python.spelled((*self.line.path, f".{tensor}"), spelling)
        return _found(tuple(under), given, tensor, python.literal(path))


def _found(under: tuple[str, ...], given: Initializer, tensor: str, name: str) -> _Rule:
    """What fills a tensor found by its name: once where the initializer asks for it twice."""
    found = layout.call("module.get_parameter", name)
    if given.kind.startswith("fan_"):
        return _Rule(under, primitives.initializer(given, tensor), (tensor, found))
    return _Rule(under, primitives.initializer(given, layout.flat(found)))
