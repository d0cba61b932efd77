"""The language as pydantic models: which keys there are, what they take, what they mean.

The models check the skeleton of a file and are the source of the JSON Schema and of the language
reference. A layer's model is made from the record of its primitive. Values that hold expressions
stay nodes, so that every later message can point at them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, create_model

from resnet_spec.diagnostics import Report, Span, expected, quoted
from resnet_spec.ops import PRIMITIVES, ROLES, Primitive
from resnet_spec.source import Mapping, Node, Scalar, Sequence, plain

SPEC_VERSION = 1

EXPRESSION_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "number"}, {"type": "boolean"}, {"type": "string"}],
    "description": "a number or an expression",
}


class Raw:
    """Marks a field whose node is kept, because it holds expressions."""


def _raw(schema: dict[str, Any]) -> Any:
    return Annotated[Any, Raw, WithJsonSchema(schema)]


ExpressionNode = _raw(EXPRESSION_SCHEMA)
ExpressionsNode = _raw({"type": "object", "additionalProperties": EXPRESSION_SCHEMA})
LayersNode = _raw({"type": "array", "items": {"$ref": "#/$defs/Layer"}})
StagesNode = _raw({"type": "array", "items": {"$ref": "#/$defs/Stage"}})
BlocksNode = _raw({"type": "object", "additionalProperties": {"$ref": "#/$defs/InlineBlock"}})
ArgumentsNode = _raw({"type": "object", "additionalProperties": {"$ref": "#/$defs/Argument"}})
BindingsNode = _raw({"type": "object", "additionalProperties": {"$ref": "#/$defs/Binding"}})
DefaultsNode = _raw({"type": "object", "additionalProperties": {"$ref": "#/$defs/Default"}})
PatternNode = _raw({"type": "string"})
InputsNode = _raw(
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
)
InitializerNode = _raw({"anyOf": [{"type": "string"}, {"type": "object", "maxProperties": 1}]})

Size = Annotated[int, Field(strict=True, ge=1, le=65_536)]
Count = Annotated[int, Field(strict=True, ge=0)]
Text = Annotated[str, Field(strict=True, max_length=2_000)]
ShortText = Annotated[str, Field(strict=True, max_length=200)]


class Model(BaseModel):
    """Every key is known, every value has its own type."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class InputModel(Model):
    """The shape of one image."""

    channels: Size = Field(3, description="3 for RGB, 1 for grey images")
    height: Size = Field(224, description="rows")
    width: Size = Field(224, description="columns")


class ExpectModel(Model):
    """Numbers that are checked at every compile."""

    parameters: Count | None = Field(None, description="trainable parameters")
    statistics: Count | None = Field(None, description="values updated without a gradient")
    macs: Count | None = Field(None, description="multiply-adds of convolutions and linear layers")


class ArgumentModel(Model):
    """An argument of a block, written out."""

    type: Literal["int", "float", "bool"] | None = Field(None, description="of its values")
    default: ExpressionNode = Field(None, description="value where none is given")
    only: Literal["first"] | None = Field(
        None, description="'first': in a repeated block the others take the default"
    )
    description: ShortText | None = Field(None, description="what it means")


class BlockModel(Model):
    """A block: a small graph of primitive operations, with arguments and slots."""

    block: ShortText = Field(description="the block's name; its file is called the same")
    class_name: ShortText | None = Field(None, description="name of the PyTorch class")
    description: Text = Field(description="docstring of the generated class or function")
    source: ShortText | None = Field(None, description="paper or address that it comes from")
    args: ArgumentsNode = Field(None, description="arguments: a type, a default, or both")
    slots: BindingsNode = Field(None, description="places that another block fills")
    let: ExpressionsNode = Field(None, description="named expressions over the arguments")
    layers: LayersNode = Field(description="operations in order; `x` is the block's input")


class InlineBlockModel(Model):
    """A block within a network's file; its name is its key."""

    class_name: ShortText | None = Field(None, description="name of the PyTorch class")
    description: Text = Field(description="docstring of the generated class or function")
    source: ShortText | None = Field(None, description="paper or address that it comes from")
    args: ArgumentsNode = Field(None, description="arguments: a type, a default, or both")
    slots: BindingsNode = Field(None, description="places that another block fills")
    let: ExpressionsNode = Field(None, description="named expressions over the arguments")
    layers: LayersNode = Field(description="operations in order; `x` is the block's input")


class NetworkModel(Model):
    """A network: stem, stages of blocks, head."""

    spec_version: Literal[1] = Field(description="version of the language")
    name: ShortText = Field(description="name of the generated file and function")
    class_name: ShortText | None = Field(None, description="name of the PyTorch class")
    description: Text = Field(description="one sentence for the docstring")
    source: ShortText | None = Field(None, description="paper or address that it comes from")
    family: ShortText | None = Field(None, description="heading under which `list` shows it")
    extends: ShortText | None = Field(None, description="spec that this one changes")
    input: InputModel = Field(default_factory=InputModel, description="shape of one image")
    classes: Size = Field(1000, description="number of classes; `classes` in expressions")
    let: ExpressionsNode = Field(None, description="named constants")
    defaults: DefaultsNode = Field(
        None,
        description="of slots that every block has (norm, act), of primitives and of blocks",
    )
    blocks: BlocksNode = Field(None, description="blocks of this network's own")
    stem: LayersNode = Field(None, description="layers before the stages")
    stages: StagesNode = Field(description="repeated blocks; each output is a feature map")
    head: LayersNode = Field(None, description="layers after the stages, to the logits")
    expect: ExpectModel | None = Field(None, description="numbers checked at every compile")


class LayerModel(Model):
    """What every layer may say."""

    from_: InputsNode = Field(None, alias="from", description="input; default: previous output")
    as_: PatternNode = Field(None, alias="as", description="names the output")
    when: ExpressionNode = Field(None, description="static condition; else the input passes")
    else_: PatternNode = Field(
        None, alias="else", description="with 'when': the value that passes instead of the input"
    )


class CallModel(LayerModel):
    """A block or a slot within a block; further keys are the block's arguments and slots."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    name: PatternNode = Field(None, description="name of the layer, default: the block's")
    repeat: ExpressionNode = Field(None, description="how many, one after the other")
    names: PatternNode = Field(None, description="of the repeated blocks, default '{i}'")


class BlockCallModel(CallModel):
    """Use of a block."""

    block: ShortText = Field(description="the block")


class SlotCallModel(CallModel):
    """Use of a slot."""

    slot: ShortText = Field(description="the slot")


class StageModel(BlockCallModel):
    """A stage of the network."""

    name: PatternNode = Field(description="name of the stage")
    feature: bool = Field(
        True, strict=True, description="whether its output is given as a feature map"
    )


class LoopModel(Model):
    """A static loop, unrolled while compiling."""

    for_: ShortText = Field(alias="for", description="name of the counter, from 0")
    count: ExpressionNode = Field(description="how many times")
    layers: LayersNode = Field(description="the repeated layers")


class RoleModel(LayerModel):
    """A slot that every block has; its attributes are those of the primitive that fills it."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)


@functools.cache
def layer_model(key: str) -> type[Model]:
    """The model of a layer that opens with `key`: a primitive or a role."""
    if key in ROLES:
        name = (PatternNode, Field(None, description="name of the layer"))
        return create_model(_title(key), __base__=RoleModel, **{key: name})
    primitive = PRIMITIVES[key]
    return create_model(
        _title(key), __base__=LayerModel, __doc__=primitive.description, **_fields(primitive)
    )


def _title(key: str) -> str:
    return "".join(part.capitalize() for part in key.split("_")) + "Layer"


def _fields(primitive: Primitive) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if primitive.takes == "many":
        fields[primitive.name] = (InputsNode, Field(description="the inputs, in order"))
        fields["name"] = (PatternNode, Field(None, description="name of the layer"))
    else:
        fields[primitive.name] = (PatternNode, Field(None, description="name of the layer"))
    for attribute in primitive.attributes:
        kind = InitializerNode if attribute.type == "init" else ExpressionNode
        text = attribute.description
        if attribute.required:
            fields[attribute.name] = (kind, Field(description=text))
        else:
            text = f"{text}; default {attribute.default}"
            fields[attribute.name] = (kind, Field(None, description=text))
    return fields


LAYER_KEYS = (*PRIMITIVES, *ROLES, "block", "slot", "for")

M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], node: Node, what: str, report: Report) -> M | None:
    """The model of a node, or None with everything that is wrong in the report."""
    if not isinstance(node, Mapping):
        report.add(
            "RS103",
            f"{what} must be a mapping, not {_kind(node)}",
            node.span,
            help="write it as 'key: value' lines",
        )
        return None
    try:
        return model.model_validate(_input(model, node))
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            _report(detail, model, node, what, report)
        return None


def _input(model: type[BaseModel], node: Mapping) -> dict[str, Any]:
    raw = {f.alias or name for name, f in model.model_fields.items() if Raw in f.metadata}
    return {
        key: child if key in raw and not _is_null(child) else plain(child)
        for key, child in node.entries.items()
    }


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _kind(node: Node) -> str:
    match node:
        case Mapping():
            return "a mapping"
        case Sequence():
            return "a list"
        case Scalar(value=None):
            return "empty"
        case Scalar(value=bool(value)):
            return f"the boolean {str(value).lower()}"
        case Scalar(value=str(value)):
            return f"the text {quoted(value)}"
        case Scalar(value=value):
            return f"the number {value}"


def _report(
    detail: Any, model: type[BaseModel], node: Mapping, what: str, report: Report
) -> None:
    location, kind = list(detail["loc"]), detail["type"]
    parent, found = locate(node, location)
    key = str(location[-1]) if location else ""
    if kind == "extra_forbidden":
        owner = _model_at(model, location[:-1]) or model
        span = parent.keys.get(key, parent.span) if isinstance(parent, Mapping) else found.span
        hint = expected(key, keys_of(owner))
        report.add("RS101", f"unknown key {quoted(key)} in {_inside(what, location)}", span, hint)
    elif kind == "missing":
        report.add(
            "RS102",
            f"{_inside(what, location)} needs the key {quoted(key)}",
            _first_line(found.span),
            help=_missing_help(model, location),
        )
    else:
        message, hint = _wrong_value(detail, found)
        report.add("RS103", f"{quoted(key)} {message}", found.span, hint)


def _inside(what: str, location: list[Any]) -> str:
    path = ".".join(str(part) for part in location[:-1])
    return f"{quoted(path)} of {what}" if path else what


def _missing_help(model: type[BaseModel], location: list[Any]) -> str | None:
    if location == ["spec_version"]:
        return f"add the line: spec_version: {SPEC_VERSION}"
    owner = _model_at(model, location[:-1])
    for name, field in owner.model_fields.items() if owner else ():
        if (field.alias or name) == location[-1] and field.description:
            return f"{location[-1]}: {field.description}"
    return None


def _wrong_value(detail: Any, found: Node) -> tuple[str, str | None]:
    """What a message says after the key: the rule in our words, the value as it stands."""
    context = detail.get("ctx", {})
    got = f"got {_kind(found)}" if not isinstance(found, Scalar) else f"not {_kind(found)}"
    match detail["type"]:
        case "int_type" | "int_from_float":
            return f"must be a whole number, {got}", None
        case "string_type":
            hint = "put quotes around it" if isinstance(found, Scalar) else None
            return f"must be text, {got}", hint
        case "bool_type":
            return f"must be true or false, {got}", None
        case "literal_error":
            return f"must be {context.get('expected')}, {got}", None
        case "greater_than_equal":
            return f"must be at least {context.get('ge')}, {got}", None
        case "less_than_equal":
            return f"must be at most {context.get('le')}, {got}", None
        case "string_too_long":
            return f"is longer than {context.get('max_length')} characters", None
        case "model_type" | "dict_type":
            return f"must be a mapping, {got}", "write it as 'key: value' lines"
    return f"is not valid: {detail['msg'].lower()}", None


def _first_line(span: Span) -> Span:
    return Span(span.path, span.line, span.column, span.line, span.column + 1)


def locate(node: Node, location: Iterable[Any]) -> tuple[Node, Node]:
    """The node at a path and its parent; parts that the tree does not have are passed over."""
    parent = current = node
    for part in location:
        child = current.get(str(part)) if isinstance(current, Mapping) else None
        if child is not None:
            parent, current = current, child
    return (current, current) if parent is current else (parent, current)


def _model_at(model: type[BaseModel], location: Iterable[Any]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in location:
        fields = current.model_fields if current else {}
        field = next((f for name, f in fields.items() if (f.alias or name) == part), None)
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        current = next(
            (k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None
        )
    return current


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that a mapping of this model may have."""
    return [field.alias or name for name, field in model.model_fields.items()]
