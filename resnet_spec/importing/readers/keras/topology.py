"""Which layer takes what: a model's configuration as the calls of its layers, in their order.

Keras has lists of calls by layer, in two spellings: `[["conv1", 0, 0, {}]]` before Keras 3, and
within `args` since. A model may be a layer of another one, and a layer may be called several times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from resnet_spec.diagnostics import quoted
from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.readers.keras.options import Options
from resnet_spec.importing.readers.model import MAX_NODES

_MAX_DEPTH = 32  # of models within models
_MODELS = ("Functional", "Model", "Sequential")
_OF_LAYERS = re.compile(r"(tf_)?keras\.(src\.)?(layers|engine)(\.[\w.]+)?")
_OF_MODELS = re.compile(r"(tf_)?keras(\.(src\.)?(models|engine)(\.[\w.]+)?)?")
_OF_OPERATIONS = re.compile(r"keras\.(src\.)?ops(\..*)?")
_NUMBER_FIRST = re.compile(r"^(\d+)_([a-z]+)")
# Words with which names begin that number the parts of a network: `conv2_block1_out`.
_PART = re.compile(
    r"(?P<part>(block|stage|stack|group|layer|unit)\d+[a-z]?|conv\d+(?=_block))_(?=.)"
)
_TENSOR = "__keras_tensor__"
# Layers that change images, and in training alone, which Keras states of each of their calls.
AUGMENTATIONS = frozenset((
    "RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast",
    "RandomBrightness",
))  # fmt: skip
# Layers before a network of whose calls Keras states the same, without a difference.
_SIZES = frozenset(("Resizing", "CenterCrop", "RandomCrop"))


class Ref(NamedTuple):
    """What one call of a layer gives."""

    layer: str
    call: int


@dataclass(eq=False)
class Layer:
    """One layer with its weights; `place` is where Keras 3 keeps them in a file."""

    kind: str
    name: str  # within models within models: `backbone/conv1`
    options: Options
    place: tuple[str, ...]

    @property
    def shown(self) -> str:
        return f"{self.kind} {quoted(self.name)}"

    @property
    def dotted(self) -> str:
        """Its name as a path: `conv2_block1_1_conv` is `conv2.block1.conv1`."""
        *above, name = self.name.split("/")
        while match := _PART.match(name):
            above.append(match["part"])
            name = name[match.end() :]
        return ".".join((*above, _NUMBER_FIRST.sub(r"\2\1", name)))


@dataclass(eq=False)
class Scope:
    """A model: its layers by name, with the calls of each."""

    kind: str
    name: str
    parts: dict[str, Part] = field(default_factory=dict)
    inputs: list[Ref] = field(default_factory=list)
    outputs: list[Ref] = field(default_factory=list)
    input_shape: Any = None  # where no layer states it


@dataclass(eq=False)
class Part:
    """A layer or model within a model, and what each of its calls takes."""

    made_of: Layer | Scope
    calls: list[tuple[Ref, ...]]
    raw: Mapping[str, Any]


class Step(NamedTuple):
    """A call of a layer on values, by their names."""

    layer: Layer
    inputs: tuple[str, ...]
    output: str


# --- reading -------------------------------------------------------------------------------------


def scope_of(model: Any) -> Scope:
    """A model's configuration; raises `Unsupported` with the place of what is not known."""
    return _scope(model, "", (), 0)


def _scope(model: Any, above: str, place: tuple[str, ...], depth: int) -> Scope:
    kind, config = _kind(model), model.get("config") if isinstance(model, Mapping) else None
    if depth > _MAX_DEPTH:
        raise Unsupported("models within models without an end", "the model")
    if kind not in _MODELS or not _is_own(model, _OF_MODELS):
        raise _custom(model, above or "the model")
    config = config if isinstance(config, Mapping) else {"layers": config}
    listed = config.get("layers")
    if not isinstance(listed, list) or not listed or len(listed) > MAX_NODES:
        raise Unsupported("its configuration lists no layers", f"the model {quoted(above)}".strip())
    scope = Scope(kind, above)
    numbers: dict[str, int] = {}
    for each in listed:
        name = _name(each, above)
        if name in scope.parts:
            raise Unsupported("two layers have this name", f"{_kind(each)} {quoted(name)}")
        within = (*place, _numbered(_kind(each), numbers))
        full = f"{above}/{name}" if above else name
        scope.parts[name] = Part(_made_of(each, full, within, depth), _calls(each, full), each)
    if kind == "Sequential":
        _chain(scope, model, config)
    else:
        scope.inputs = list(_ends(config, "input_layers", above))
        scope.outputs = list(_ends(config, "output_layers", above))
        _count_from_zero(scope)
    return scope


def _made_of(raw: Any, full: str, place: tuple[str, ...], depth: int) -> Layer | Scope:
    config = raw.get("config")
    if isinstance(config, list) or (isinstance(config, Mapping) and "layers" in config):
        return _scope(raw, full, place, depth + 1)
    if not _is_own(raw, _OF_LAYERS) or not isinstance(config, Mapping):
        raise _custom(raw, full)
    return Layer(_kind(raw), full, Options(config), place)


def _kind(raw: Any) -> str:
    found = raw.get("class_name") if isinstance(raw, Mapping) else None
    return str(found)[:80]


def _name(raw: Any, above: str) -> str:
    config = raw.get("config") if isinstance(raw, Mapping) else None
    found = raw.get("name") if isinstance(raw, Mapping) else None
    if not isinstance(found, str) and isinstance(config, Mapping):
        found = config.get("name")
    if not isinstance(found, str) or not 0 < len(found) <= 256:
        raise Unsupported("a layer has no name", above or "the model")
    return found


def _is_own(raw: Mapping[str, Any], known: re.Pattern[str]) -> bool:
    """Whether a class is one of Keras' own; older files state no module."""
    module, registered = raw.get("module"), raw.get("registered_name")
    if module is not None and not (isinstance(module, str) and known.fullmatch(module)):
        return False
    return registered is None or registered == raw.get("class_name")


def _custom(raw: Any, name: str) -> Unsupported:
    module = raw.get("module") if isinstance(raw, Mapping) else None
    if isinstance(module, str) and _OF_OPERATIONS.fullmatch(module):
        what = "an operation of keras.ops between layers, which is not read"
        return Unsupported(what, f"{_kind(raw)} {quoted(name)}")
    of = f" of {quoted(str(module)[:80])}" if module else ""
    return Unsupported(
        f"a class{of} that is not Keras' own: its code is not run", f"{_kind(raw)} {quoted(name)}"
    )


def _numbered(kind: str, numbers: dict[str, int]) -> str:
    """The group that Keras 3 keeps a layer in: its class, and a number from the second one on."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
    name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    count = numbers.get(name, -1) + 1
    numbers[name] = count
    return f"{name}_{count}" if count else name


def _chain(scope: Scope, model: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Layers of which each takes what the one before it gives."""
    before: Ref | None = None
    for name, part in scope.parts.items():
        if before is None and not _is_input(part):
            scope.inputs = [Ref("", 0)]  # no layer stands for the input
            before = scope.inputs[0]
        if before is None:
            scope.inputs = [Ref(name, 0)]
            part.calls = []
        else:
            part.calls = [(before,)]
        before = Ref(name, 0)
    assert before is not None
    scope.outputs = [before]
    built = model.get("build_config")
    shapes = [config.get("build_input_shape")]
    shapes += [built.get("input_shape")] if isinstance(built, Mapping) else []
    first = next(iter(scope.parts.values())).raw["config"]
    if isinstance(first, Mapping):
        shapes = [first.get("batch_input_shape"), first.get("batch_shape"), *shapes]
    scope.input_shape = next((each for each in shapes if each is not None), None)


def _is_input(part: Part) -> bool:
    return isinstance(part.made_of, Layer) and part.made_of.kind == "InputLayer"


def _count_from_zero(scope: Scope) -> None:
    """Calls of models within a model by their place: files number them from 0 or from 1.

    A model that has an input of its own was called once when it was made, which counts: always
    before Keras 3, and since then where an input or output of the model above names it.
    """
    calls = [ref for part in scope.parts.values() for call in part.calls for ref in call]
    ends = [*scope.inputs, *scope.outputs]
    is_new = any(
        isinstance(node, Mapping)
        for part in scope.parts.values()
        for node in part.raw.get("inbound_nodes") or []
    )
    asked: dict[str, set[int]] = {}
    for ref in (*ends, *calls):
        asked.setdefault(ref.layer, set()).add(ref.call)

    def counted(ref: Ref, is_end: bool) -> Ref:
        part = scope.parts.get(ref.layer)
        if part is None or not isinstance(part.made_of, Scope):
            return ref
        if len(part.calls) == 1 and ref.call < 2:
            return ref._replace(call=0)
        from_one = 0 not in asked[ref.layer]
        if is_new:
            from_one = is_end and part.made_of.kind != "Sequential"
        return ref._replace(call=ref.call - int(from_one))

    scope.inputs = [counted(ref, True) for ref in scope.inputs]
    scope.outputs = [counted(ref, True) for ref in scope.outputs]
    for part in scope.parts.values():
        part.calls = [tuple(counted(ref, False) for ref in call) for call in part.calls]


# --- calls ---------------------------------------------------------------------------------------


def _calls(raw: Mapping[str, Any], name: str) -> list[tuple[Ref, ...]]:
    """What each call of a layer takes."""
    nodes = raw.get("inbound_nodes") or []
    if not isinstance(nodes, list) or len(nodes) > MAX_NODES:
        raise Unsupported("its calls are no list", f"{_kind(raw)} {quoted(name)}")
    in_training = _kind(raw) in AUGMENTATIONS | _SIZES
    try:
        return [tuple(_refs(node, in_training)) for node in nodes]
    except Unsupported as error:
        raise Unsupported(error.what, f"{_kind(raw)} {quoted(name)}") from None


def _refs(node: Any, in_training: bool) -> Iterator[Ref]:
    if isinstance(node, Mapping):
        _check_arguments(node.get("kwargs"), in_training)
        args = node.get("args")
        if not isinstance(args, list) or len(args) != 1:
            raise Unsupported("a call with other arguments than what it works on")
        for each in args[0] if isinstance(args[0], list) else args:
            yield _tensor(each)
    elif isinstance(node, list) and node:
        for each in [node] if isinstance(node[0], str) else node:
            if isinstance(each, list) and len(each) == 4:
                _check_arguments(each[3], in_training)
            yield _ref(each)
    else:
        raise Unsupported("a call that takes nothing")


def _tensor(value: Any) -> Ref:
    config = value.get("config") if isinstance(value, Mapping) else None
    if not isinstance(config, Mapping) or value.get("class_name") != _TENSOR:
        raise Unsupported("a call with other arguments than what it works on")
    return _ref(config.get("keras_history"))


def _ref(value: Any) -> Ref:
    """`["conv1", 0, 0]`: a layer, the number of its call, the number of its output."""
    if not isinstance(value, list) or len(value) not in (3, 4):
        raise Unsupported("a call with other arguments than what it works on")
    name, call, output = value[:3]
    if not isinstance(name, str) or type(call) is not int or type(output) is not int or call < 0:
        raise Unsupported("a call with other arguments than what it works on")
    if output != 0:
        raise Unsupported(f"it takes output {output} of {quoted(name)}: layers have one here")
    return Ref(name, call)


def _check_arguments(given: Any, in_training: bool) -> None:
    if given is not None and not isinstance(given, Mapping):
        raise Unsupported("a call with other arguments than what it works on")
    for key, value in (given or {}).items():
        if value is not None and not (key == "training" and value in (False, in_training)):
            stated = f"{str(key)[:40]}={str(value)[:40]}"
            raise Unsupported(f"it is called with {quoted(stated)}")


def _ends(config: Mapping[str, Any], key: str, name: str) -> Iterator[Ref]:
    """The inputs or outputs of a model."""
    found = config.get(key)
    if isinstance(found, Mapping):  # by names
        found = [*found.values()]
    if isinstance(found, list) and found and isinstance(found[0], str):
        found = [found]
    if not isinstance(found, list) or not found:
        raise Unsupported(f"its {quoted(key)} is no list of layers", name or "the model")
    for each in found:
        try:
            yield _ref(each)
        except Unsupported as error:
            raise Unsupported(error.what, name or "the model") from None


# --- order ---------------------------------------------------------------------------------------


def steps_of(scope: Scope, given: str) -> tuple[list[Step], str]:
    """Every call of a layer, each after those that it takes from; and the name of the output."""
    steps: list[Step] = []
    output = _unrolled(scope, given, steps)
    return steps, output


def _unrolled(scope: Scope, given: str, steps: list[Step]) -> str:
    place = f"the model {quoted(scope.name)}" if scope.name else "the model"
    for ends, what in ((scope.inputs, "input"), (scope.outputs, "output")):
        if len(ends) != 1:
            names = ", ".join(quoted(ref.layer) for ref in ends[:4])
            raise Unsupported(f"several {what}s: {names}", place)
    first = scope.inputs[0]
    if first.layer and first.layer not in scope.parts:
        raise Unsupported(f"its input {quoted(first.layer)} is none of its layers", place)
    known = {first: given}
    waiting: list[tuple[Ref, bool]] = [(scope.outputs[0], False)]
    entered: set[Ref] = set()
    while waiting:
        ref, fed = waiting.pop()
        if ref in known:
            continue
        part = scope.parts.get(ref.layer)
        if part is None or not 0 <= ref.call < len(part.calls):
            raise Unsupported(f"it names {quoted(ref.layer)}, which gives nothing", place)
        taken = part.calls[ref.call]
        if not fed:
            if ref in entered:
                raise Unsupported(f"{quoted(ref.layer)} takes what follows from it", place)
            entered.add(ref)
            waiting += [(ref, True), *((each, False) for each in reversed(taken))]
            continue
        known[ref] = _called(part, tuple(known[each] for each in taken), steps)
    _check_all_used(scope, known, place)
    return known[scope.outputs[0]]


def _called(part: Part, inputs: tuple[str, ...], steps: list[Step]) -> str:
    if len(steps) > MAX_NODES:
        raise Unsupported(f"more than {MAX_NODES:,} calls of layers", "the model")
    if isinstance(part.made_of, Scope):
        if len(inputs) != 1:
            raise Unsupported("a model with several inputs", f"the model {part.made_of.name}")
        return _unrolled(part.made_of, inputs[0], steps)
    output = f"{part.made_of.name}:{len(steps)}"
    steps.append(Step(part.made_of, inputs, output))
    return output


def _check_all_used(scope: Scope, known: Mapping[Ref, str], place: str) -> None:
    """A layer beside the way from the input to the output would be passed over."""
    for name, part in scope.parts.items():
        for number in range(len(part.calls)):
            if Ref(name, number) not in known:
                raise Unsupported(f"{quoted(name)} is not on the way to its output", place)


def layers_of(scope: Scope) -> Iterator[Layer]:
    """All layers, each once."""
    for part in scope.parts.values():
        if isinstance(part.made_of, Scope):
            yield from layers_of(part.made_of)
        else:
            yield part.made_of


def stated_shape(scope: Scope) -> Any:
    """The shape that a model's own input has, or that of the model that stands first in it."""
    first = scope.parts.get(scope.inputs[0].layer) or next(iter(scope.parts.values()))
    if isinstance(first.made_of, Scope):
        return scope.input_shape or stated_shape(first.made_of)
    if first.made_of.kind != "InputLayer":
        return scope.input_shape
    config: Mapping[str, Any] = first.raw["config"]
    found = config.get("batch_shape")
    return config.get("batch_input_shape") if found is None else found
