"""The JSON Schema of specs and blocks, for editors: made from the models and the primitives.

With it, an editor completes keys, shows what each one means and marks unknown ones. What a schema
can't express (names must exist, shapes must fit) is left to `check`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, WithJsonSchema
from pydantic.fields import FieldInfo

from resnet_spec.language import keys
from resnet_spec.primitives import FANS, INITIALIZERS, PRIMITIVES, ROLES, Attribute, Primitive

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_ROOTS: dict[str, type[keys.Model]] = {
    "network": keys.NetworkModel,
    "block": keys.BlockModel,
    "recipe": keys.RecipeModel,
}
_TYPES = {"int": "integer", "float": "number", "bool": "boolean"}
# What a spec without `extends` must say as a list; one that extends another may patch it by name.
_LISTS = ("stem", "stages", "head")


def json_schema(kind: Literal["network", "block", "recipe"]) -> Schema:
    """The schema of a network's spec, of a block's file or of a recipe's."""
    root = _model_schema(_ROOTS[kind])
    if kind == "network":
        _allow_patches(root)
    definitions = _definitions()
    used = _reachable(root, definitions)
    return {
        "$schema": DIALECT,
        "title": f"{kind} of resnet-spec",
        **root,
        **({"$defs": {name: definitions[name] for name in used}} if used else {}),
    }


def shown(value: object) -> str:
    """A default as it would stand in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- models --------------------------------------------------------------------------------------


def _model_schema(model: type[BaseModel], further: Schema | None = None) -> Schema:
    """A mapping with the keys of a model; `further` is what other keys hold, where it has any."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    schema: Schema = {
        "type": "object",
        "description": _line(model.__doc__ or ""),
        "properties": {key: _field_schema(field) for key, field in fields.items()},
        "additionalProperties": further if further is not None else False,
    }
    required = [key for key, field in fields.items() if field.is_required()]
    return {**schema, "required": required} if required else schema


def _field_schema(field: FieldInfo) -> Schema:
    own = next((each for each in field.metadata if isinstance(each, WithJsonSchema)), None)
    schema: Schema
    if own is not None:
        schema = dict(own.json_schema or {})
    elif (model := keys.nested_model(field.annotation)) is not None:
        schema = keys.definition(_name(model))
        if any(get_origin(kind) is list for kind in get_args(field.annotation)):
            schema = {"type": "array", "items": schema}
    else:
        annotation: Any = field.annotation
        for constraint in field.metadata:
            annotation = Annotated[annotation, constraint]
        schema = TypeAdapter(annotation).json_schema()
    text = field.description or ""
    if not field.is_required() and field.default not in (None, ...) and not field.default_factory:
        text = f"{text}; default {shown(field.default)}"
    return {**schema, "description": text}


def _name(model: type[BaseModel]) -> str:
    return model.__name__.removesuffix("Model")


def _line(text: str) -> str:
    return " ".join(text.split())


def _allow_patches(root: Schema) -> None:
    """A spec that extends another has fewer required keys, and can change list items by name."""
    patch = {"type": "object", "additionalProperties": {"type": ["object", "string", "null"]}}
    for key in _LISTS:
        given = root["properties"][key]
        text = (
            f"{given['description']}; with 'extends' also a mapping of changes: {{layer4: {{…}}}}"
        )
        root["properties"][key] = {"anyOf": [_plain(given), patch], "description": text}
    whole = root.pop("required")
    root["if"] = {"required": ["extends"]}
    root["then"] = {"required": ["name", "description"]}
    root["else"] = {
        "required": whole,
        "properties": {key: {"type": "array"} for key in _LISTS},
    }


def _plain(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "description"}


# --- definitions ---------------------------------------------------------------------------------


def _definitions() -> dict[str, Schema]:
    """Everything that a schema may refer to, by name."""
    call = keys.definition("CallArgument")
    layers = {key: _layer_schema(key) for key in (*PRIMITIVES, *ROLES)}
    names = {key: keys.layer_model(key).__name__ for key in layers}
    return {
        "Layer": _any_of(
            "one operation: a primitive, 'norm' or 'act', a block, a slot, or a loop",
            {"enum": _bare(), "description": "an operation that needs no keys"},
            *(keys.definition(name) for name in (*names.values(), "BlockCall", "SlotCall", "Loop")),
        ),
        **{names[key]: schema for key, schema in layers.items()},
        "BlockCall": _model_schema(keys.BlockCallModel, call),
        "SlotCall": _model_schema(keys.SlotCallModel, call),
        "Loop": _model_schema(keys.LoopModel),
        "Stage": _model_schema(keys.StageModel, call),
        "InlineBlock": _model_schema(keys.InlineBlockModel),
        "Input": _model_schema(keys.InputModel),
        "Expect": _model_schema(keys.ExpectModel),
        "Reference": _model_schema(keys.ReferenceModel),
        "Training": _model_schema(keys.TrainingModel),
        "TrainingChoice": _any_of(
            "the name of a recipe, keys that change one, or none",
            {"type": ["string", "null"]},
            keys.definition("Training"),
        ),
        **_given(),
        "Defaults": _defaults(),
        "Default": {
            "type": "object",
            "description": "arguments and slots of a block, by name",
            "additionalProperties": call,
        },
        "Expression": {"type": ["number", "boolean", "string"], **_about("Expression")},
        "Name": {"type": ["string", "integer", "null"], **_about("Name")},
        "Initializer": _initializer(),
    }


def _given() -> dict[str, Schema]:
    """What arguments and slots may be given."""
    return {
        "Argument": _any_of(
            "a type (int, float, bool), a default, or a mapping of both",
            {"type": ["number", "boolean", "string"]},
            _model_schema(keys.ArgumentModel),
        ),
        "CallArgument": _any_of(
            "an argument of the block: an expression, or a list with one for each repetition; or "
            "what fills one of its slots: none, a name, or {name: {argument: value}}",
            keys.definition("Expression"),
            {"type": "array", "items": keys.definition("Expression"), "minItems": 1},
            {"type": "null"},
            _filled(),
        ),
        "Binding": _any_of(
            "what fills a slot: none, the name of a block or a primitive, or "
            "{name: {argument: value}}",
            {"enum": ["none", *PRIMITIVES]},
            {"type": ["string", "null"]},
            _filled(),
        ),
    }


def _about(name: str) -> Schema:
    texts = {
        "Expression": "a number, true or false, or an expression over arguments and 'let'",
        "Name": "a dotted name; braces hold expressions: 'convs.{i}'",
    }
    return {"description": texts[name]}


def _any_of(description: str, *schemas: Schema) -> Schema:
    return {"description": description, "anyOf": list(schemas)}


def _filled() -> Schema:
    """`{name: {argument: value}}`."""
    arguments = {"type": ["object", "null"]}
    return {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": arguments,
    }


def _bare() -> list[str]:
    """Operations that can be written as a word: no required attributes, no parameters."""
    return [key for key in PRIMITIVES if _stands_alone(PRIMITIVES[key])] + list(ROLES)


def _stands_alone(primitive: Primitive) -> bool:
    needs_name = primitive.group in ("weights", "norm") or primitive.gives == "many"
    required = any(attribute.required for attribute in primitive.attributes)
    return primitive.takes == "one" and not needs_name and not required


def _layer_schema(key: str) -> Schema:
    """The layer that opens with a primitive or a role."""
    model = keys.layer_model(key)
    if key in ROLES:
        schema = _model_schema(model, _any_of("an attribute of what fills it", *_attribute_kinds()))
        usual = ROLES[key]
        schema["description"] = (
            f"what 'defaults' or the block's caller puts in the place of '{key}'; default {usual}"
        )
        group = "norm" if key == "norm" else "activation"
        primitives = [each for each in PRIMITIVES.values() if each.group == group]
        schema["properties"] |= {
            name: attribute for each in primitives for name, attribute in _attributes(each).items()
        }
    else:
        schema = _model_schema(model)
        schema["properties"] |= _attributes(PRIMITIVES[key])
        if PRIMITIVES[key].takes == "many":
            del schema["properties"]["from"]
    schema["required"] = list(dict.fromkeys([key, *schema.get("required", [])]))
    return schema


def _attribute_kinds() -> tuple[Schema, Schema]:
    return keys.definition("Expression"), keys.definition("Initializer")


def _attributes(primitive: Primitive) -> dict[str, Schema]:
    return {attribute.name: _attribute(attribute) for attribute in primitive.attributes}


def _attribute(attribute: Attribute) -> Schema:
    text = attribute.description
    if not attribute.required:
        text = f"{text}; default {shown(attribute.default)}"
    if attribute.type == "init":
        return {**keys.definition("Initializer"), "description": text}
    number: Schema = {"type": _TYPES[attribute.type]}
    if attribute.minimum is not None:
        number["minimum"] = attribute.minimum
    if attribute.maximum is not None:
        number["maximum"] = attribute.maximum
    words = [{"enum": list(attribute.words)}] if attribute.words else []
    return _any_of(text, number, *words, {"type": "string"})


def _defaults() -> Schema:
    """Defaults of roles, of primitives (their attributes) and, by any other key, of blocks."""
    properties: dict[str, Schema] = {
        role: {**keys.definition("Binding"), "description": f"fills '{role}'; default {usual}"}
        for role, usual in ROLES.items()
    }
    for primitive in PRIMITIVES.values():
        if primitive.attributes:
            properties[primitive.name] = {
                "type": "object",
                "description": f"attributes of every '{primitive.name}' that does not give them",
                "properties": _attributes(primitive),
                "additionalProperties": False,
            }
    return {
        "type": "object",
        "description": "of norm and act, of primitives and of blocks, by name",
        "properties": properties,
        "additionalProperties": keys.definition("Default"),
    }


def _initializer() -> Schema:
    kinds: list[Schema] = [
        {"const": kind, "description": meaning} for kind, (_, _, meaning) in INITIALIZERS.items()
    ]
    values: dict[str, Schema] = {"number": {"type": "number"}, "fan": {"enum": list(FANS)}}
    with_value = {
        kind: {**values[takes], "description": f"{meaning}; default {default}"}
        for kind, (takes, default, meaning) in INITIALIZERS.items()
        if takes != "none"
    }
    mapping = {
        "type": "object",
        "properties": with_value,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    zero_or_one = {"enum": [0, 1], "description": "zeros or ones"}
    return _any_of(
        "how a parameter is initialised: a kind, or {kind: value}", *kinds, zero_or_one, mapping
    )


def _reachable(root: Schema, definitions: dict[str, Schema]) -> list[str]:
    """The definitions that a schema refers to, also through others, in their order."""
    found: set[str] = set()
    waiting = list(_references(root))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _references(definitions[name])
    return [name for name in definitions if name in found]


def _references(value: object) -> Iterable[str]:
    if isinstance(value, dict):
        if isinstance(target := value.get("$ref"), str):
            yield target.removeprefix("#/$defs/")
        for child in value.values():
            yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)
