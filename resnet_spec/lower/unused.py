"""Finds what has no effect in a spec: defaults, arguments, constants, renames that reach no layer.

Only what the spec itself or `--set` states is checked: a spec that others extend may have defaults
for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from resnet_spec.diagnostics import Diagnostic, Report, expected, quoted
from resnet_spec.ir import Choice, Instance, Network, Operation, Step
from resnet_spec.language import renames
from resnet_spec.language.load import Loaded
from resnet_spec.language.nodes import Mapping, Node, Scalar, Sequence, plain
from resnet_spec.language.overrides import SET_PATH
from resnet_spec.language.scalars import plain_text
from resnet_spec.primitives import PRIMITIVES, ROLES

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_NAMES = 2_000  # among which a near one is looked for


def without_effect(loaded: Loaded, network: Network) -> list[Diagnostic]:
    """RS108 for everything without effect; the network must be valid."""
    report = Report()
    _Defaults(loaded, network, report).check()
    _check_calls(loaded, network, report)
    _check_lets(loaded, report)
    _check_classes(loaded, network, report)
    if not loaded.overridden:  # published names are those of the network without changes
        _check_references(loaded, network, report)
    return report.diagnostics


def _own(loaded: Loaded, node: Node | None) -> Iterator[tuple[str, Node, Mapping]]:
    """The entries of a mapping that the spec itself or `--set` wrote."""
    if isinstance(node, Mapping):
        for key, child in node.entries.items():
            if node.keys[key].path in (loaded.path, SET_PATH):
                yield key, child, node


# --- defaults ------------------------------------------------------------------------------------


class _Defaults:
    """The entries of `defaults`, and what takes them."""

    def __init__(self, loaded: Loaded, network: Network, report: Report) -> None:
        self.loaded, self.network, self.report = loaded, network, report
        self.steps: dict[str, list[tuple[Instance, Step]]] = {}
        self.choices: set[object] = set()
        self.seen: set[int] = set()

    def collect(self, instance: Instance) -> None:
        """Every step by what it uses, those of equal instances once."""
        if id(instance) in self.seen:
            return
        self.seen.add(id(instance))
        for step in instance.steps:
            if isinstance(step.node, Operation):
                name = step.node.primitive.name
            else:
                name = step.node.definition.name
                self.collect(step.node)
            self.steps.setdefault(name, []).append((instance, step))
            choice = _choice(instance, step)
            if choice is not None:
                self.choices.add(choice.key)

    def check(self) -> None:
        own = list(_own(self.loaded, self.loaded.node.get("defaults")))
        if own:
            self.collect(self.network.root)
        for key, child, node in own:
            if key in ROLES:
                self.check_role(key, node)
            elif key not in self.steps:
                what = "primitive" if key in PRIMITIVES else "block"
                self.tell(node, key, f"the network has no {what} {quoted(key)}")
            else:
                self.check_keys(key, child)

    def check_role(self, role: str, node: Mapping) -> None:
        chosen = self.network.root.choices[role]
        # Where nothing fills a slot there is no step that would show it.
        if chosen.target is not None and chosen.key not in self.choices:
            self.tell(node, role, f"no layer takes the network's {quoted(role)}")

    def check_keys(self, name: str, node: Node) -> None:
        for key, child, owner in _own(self.loaded, node):
            if plain(child) is None:
                continue
            if not any(_is_open(key, instance, step) for instance, step in self.steps[name]):
                self.tell(owner, key, f"every {quoted(name)} sets {quoted(key)} itself")

    def tell(self, node: Mapping, key: str, why: str) -> None:
        self.report.add(
            "RS108",
            f"the default of {quoted(key)} has no effect: {why}",
            node.keys[key],
            help="remove it, or move it into the spec that needs it",
        )


def _choice(instance: Instance, step: Step) -> Choice | None:
    """What fills the slot that a step runs."""
    if step.statement.kind != "slot":
        return None
    return instance.choices.get(step.statement.target)


def _is_open(key: str, instance: Instance, step: Step) -> bool:
    """Whether a step leaves an attribute, argument or slot to the defaults."""
    given = step.statement.arguments.get(key)
    choice = _choice(instance, step)
    stated = dict(choice.arguments) if choice is not None else {}
    return (given is None or plain(given) is None) and key not in stated


# --- arguments -----------------------------------------------------------------------------------


def _check_calls(loaded: Loaded, network: Network, report: Report) -> None:
    """What the network's own lines give to blocks that never look at it."""
    runs: dict[int, list[Step]] = {}
    for step in network.root.steps:
        runs.setdefault(id(step.statement), []).append(step)
    for steps in runs.values():
        blocks = [step.node for step in steps if isinstance(step.node, Instance)]
        for key, child, owner in _own(loaded, steps[0].statement.arguments):
            if blocks and plain(child) is not None and not _reads(key, blocks):
                name = blocks[0].definition.name
                report.add(
                    "RS108",
                    f"{quoted(key)} has no effect: the block {quoted(name)} never reads it",
                    owner.keys[key],
                    help="remove it, or use it in a layer of the block",
                )


def _reads(key: str, blocks: list[Instance]) -> bool:
    """Whether any of these uses of a block has something for an argument or a slot to decide."""
    definition, choice = blocks[0].definition, blocks[0].choices.get(key)
    if key not in ROLES:
        parts = (definition.node.get("let"), definition.node.get("layers"))
        return any(key in _words(part) for part in parts if part is not None)
    return choice is None or choice.target is None or any(_takes(each, choice) for each in blocks)


def _takes(instance: Instance, choice: Choice) -> bool:
    """Whether a choice fills a slot of a block, or of one within it."""
    for step in instance.steps:
        found = _choice(instance, step)
        if found is not None and found.key == choice.key:
            return True
        if isinstance(step.node, Instance) and _takes(step.node, choice):
            return True
    return False


# --- constants -----------------------------------------------------------------------------------


def _check_lets(loaded: Loaded, report: Report) -> None:
    """Only constants set by `--set`: an unused one in a spec, kept for later, does no harm."""
    node = loaded.node
    if not any(
        owner.keys[name].path == SET_PATH for name, _, owner in _own(loaded, node.get("let"))
    ):
        return
    read = _read(node)
    for name, _, owner in _own(loaded, node.get("let")):
        if name not in read and owner.keys[name].path == SET_PATH:
            message = f"the constant {quoted(name)} has no effect: nothing reads it"
            known = [each for each in owner.entries if each in read]
            report.add("RS108", message, owner.keys[name], expected(name, known))


def _check_classes(loaded: Loaded, network: Network, report: Report) -> None:
    """The number of classes, where the layers, or those behind the logits, have their own."""
    is_read = "classes" in _read(loaded.node)
    for key, child, owner in _own(loaded, loaded.node):
        if key != "classes" or plain(child) is None or (is_read and network.root.output.open):
            continue
        last = next(
            (s for s in reversed(network.root.steps[network.head :]) if _is_linear(s)), None
        )
        hint = "remove it: no layer of the head gives logits"
        if last is not None:
            where = f"{last.statement.span.path}:{last.statement.span.line}"
            hint = f"write 'features: classes' in the layer {quoted(last.name)} ({where})"
        wrong = "the output does not depend on it" if is_read else "no layer reads it"
        report.add("RS108", f"'classes' has no effect: {wrong}", owner.keys[key], hint)


def _is_linear(step: Step) -> bool:
    return isinstance(step.node, Operation) and step.node.primitive.name == "linear"


def _read(node: Mapping) -> set[str]:
    """The words in the values of a spec, among which are the names that its expressions read."""
    parts = (node.get(key) for key in ("let", "defaults", "stem", "stages", "head"))
    return {word for part in parts if part is not None for word in _words(part)}


def _words(node: Node) -> Iterator[str]:
    """The words of all values, among which are the names that expressions read."""
    if isinstance(node, Scalar):
        if isinstance(node.value, str):
            yield from _WORD.findall(node.value)
        return
    for child in node.items if isinstance(node, Sequence) else node.entries.values():
        yield from _words(child)


# --- renames -------------------------------------------------------------------------------------


def _check_references(loaded: Loaded, network: Network, report: Report) -> None:
    """The rules that lead from the names of published networks to ours."""
    references = loaded.node.get("references")
    for reference in references.items if isinstance(references, Sequence) else ():
        rules = reference.get("rename") if isinstance(reference, Mapping) else None
        if isinstance(reference, Mapping) and isinstance(rules, Mapping):
            library = plain_text(reference.get("library"))
            # Of an imported model any part may be changed, and its rules stay what they are.
            tensors = _tensors(network) if library else None
            _check_rules(rules, tensors, library == "keras.applications", report)


def _tensors(network: Network) -> list[str]:
    return [
        f"{name}.{parameter.name}"
        for name, operation in network.operations()
        for parameter in operation.parameters
    ]


def _check_rules(rules: Mapping, tensors: list[str] | None, flat: bool, report: Report) -> None:
    """Rules that can't be read or never apply; where tensors are given, those that lead nowhere."""
    earlier: dict[str, str] = {}
    for theirs, ours in ((key, str(plain(node))) for key, node in rules.entries.items()):
        span = rules.keys[theirs]
        try:
            renames.check(theirs, ours)
        except renames.RenameError as error:
            report.add("RS103", f"the rule {quoted(theirs)} can't be read: {error}", span)
            continue
        above = renames.rule_of(renames.sample(theirs), earlier)
        if above is not None:
            message = f"the rule {quoted(theirs)} never applies: {quoted(above)} comes first"
            report.add("RS108", message, span, "put the longer one first")
        earlier[theirs] = ours
        if tensors is not None and not renames.leads_to(ours, tensors, flat):
            layers = dict.fromkeys(name.rpartition(".")[0] for name in tensors[:_MAX_NAMES])
            report.add(
                "RS108",
                f"the rule {quoted(theirs)} has no effect: no weights begin with {quoted(ours)}",
                rules.span_of(theirs),
                expected(ours, layers, limit=8),
            )


def findings(loaded: Loaded, network: Network) -> list[Diagnostic]:
    """All findings about a valid network: wrong expected numbers, and entries without effect."""
    from resnet_spec.ir.summary import expectations

    return [*expectations(loaded, network), *without_effect(loaded, network)]
