"""How fresh weights are drawn: the body of `init_weights`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from resnet_spec.backends.torch import primitives
from resnet_spec.backends.torch.writer import BODY

from resnet_spec import layout
from resnet_spec.expr import Const
from resnet_spec.ops import Initializer
from resnet_spec.specialize import OperationLine, Program, Routine


class _Rule(NamedTuple):
    """A statement that fills one tensor, and the line that it stands under where it has one."""

    under: str
    fill: layout.Code

    def lines(self) -> list[str]:
        if not self.under:
            return layout.statement("", self.fill, indent=BODY)
        return [f"{' ' * BODY}{self.under}", *layout.statement("", self.fill, indent=BODY + 4)]


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
            under = f"if module.{tensor} is not None:" if optional else ""
            rules.append(_Rule(under, primitives.initializer(given, f"module.{tensor}")))
        if rules:
            branches.append((module, rules))
    branches += _exceptions(program, usual)
    # Classes with the same rules share a branch.
    classes: dict[tuple[_Rule, ...], list[str]] = {}
    for module, rules in branches:
        classes.setdefault(tuple(rules), []).append(module)
    text: list[str] = []
    for rules_, modules in classes.items():
        test = f"isinstance(module, {' | '.join(modules)})"
        text += layout.condition("elif" if text else "if", test, 4)
        text += [line for rule in rules_ for line in rule.lines()]
    return text


def _initialized(program: Program) -> Iterator[tuple[Routine | None, OperationLine, str, Any]]:
    for routine, line in program.lines():
        if isinstance(line, OperationLine) and line.primitive.name in primitives.INITIALIZED:
            for attribute in primitives.INITIALIZED[line.primitive.name][1]:
                if attribute == "bias_init" and line.attributes.get("bias") == Const(False):
                    continue
                yield routine, line, attribute, line.attributes[attribute]


def _usual(program: Program) -> dict[tuple[str, str], Initializer]:
    """The most frequent initializer of each kind of tensor."""
    counts: dict[tuple[str, str], Counter[Initializer]] = {}
    for _, line, attribute, given in _initialized(program):
        key = (line.primitive.name, attribute)
        counts.setdefault(key, Counter())[given] += 1
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
    """Tensors that begin otherwise than their kind; a block is visited after its layers."""
    found: dict[str, list[_Rule]] = {}
    for routine, line, attribute, given in _initialized(program):
        if given == usual[(line.primitive.name, attribute)]:
            continue
        owner = routine.class_name if routine is not None else program.network.class_name
        tensor = primitives.INITIALIZED[line.primitive.name][1][attribute]
        found.setdefault(owner, []).append(_exception(line, tensor, given, routine))
    return list(found.items())


def _exception(
    line: OperationLine, tensor: str, given: Initializer, routine: Routine | None
) -> _Rule:
    text = "".join(part for part in line.path if isinstance(part, str))
    if len(line.path) == 2:
        under = f"for layer in module.{text.rstrip('.')}:"
        return _Rule(under, primitives.initializer(given, f'layer.get_parameter("{tensor}")'))
    if (routine is not None and routine.is_chain) or "." in text:
        target = f'module.get_parameter("{text}.{tensor}")'
    elif tensor == "bias":
        target = f'module.{text}.get_parameter("bias")'  # the attribute may be None
    else:
        target = f"module.{text}.{tensor}"
    under = f"if module.{text} is not None:" if line.when is not None else ""
    return _Rule(under, primitives.initializer(given, target))
