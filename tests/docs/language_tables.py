"""The parts of the documentation that are made from the records: tables of keys and primitives."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from resnet_spec.compare import RULES
from resnet_spec.expressions import FUNCTIONS
from resnet_spec.language.json_schema import Schema, json_schema, shown
from resnet_spec.language.library import Library, builtin_blocks, builtin_recipes
from resnet_spec.language.nodes import parse, plain
from resnet_spec.language.scalars import POSITION
from resnet_spec.language.syntax import Argument, Binding, Loop, Statement
from resnet_spec.primitives import INITIALIZERS, PRIMITIVES, ROLES, Attribute, Primitive

_FUNCTION_MEANINGS = {
    "min": "the smallest",
    "max": "the largest",
    "round": "the nearest whole number; halves go to the even one",
    "abs": "without the sign",
    "int": "cut off to a whole number",
    "ceil": "the next whole number above",
    "floor": "the next whole number below",
    "log2": "the logarithm to base 2",
    "make_divisible": "`(value, divisor, minimum=divisor, round_limit=0.9)`: the multiple of "
    "`divisor` nearest to `value`, one more where that is below `round_limit * value`",
}
_VARIABLES = {
    "i": "the place of a repeated block among its like, from 0",
    "n": "their number",
    "block_index": "the place among the blocks of all stages, from 0; within a block as i",
    "block_count": "their number",
}
_KINDS = {
    "Expression": "expression",
    "Name": "name",
    "Initializer": "initializer",
    "Defaults": "[mapping](#defaults)",
    "Input": "[mapping](#keys-of-input)",
    "Expect": "[mapping](#keys-of-expect)",
    "TrainingChoice": "[recipe](#training)",
}
_ITEMS = {
    "Layer": "list of [layers](#keys-of-every-layer)",
    "Stage": "list of [stages](#keys-of-a-stage)",
    "InlineBlock": "mapping of names to [blocks](#blocks)",
    "Argument": "mapping of names to [arguments](#keys-of-an-argument)",
    "Binding": "mapping of names to what fills them",
    "Expression": "mapping of names to expressions",
}


def parts() -> dict[str, str]:
    """Every generated part by its name."""
    network, block = json_schema("network"), json_schema("block")
    recipe = json_schema("recipe")
    definitions = network["$defs"]
    common = _keys(definitions["IdentityLayer"], without=["identity"])
    call = [*common, "block", "slot"]
    argument = next(s for s in definitions["Argument"]["anyOf"] if "properties" in s)
    return {
        "network keys": _key_table(network, _keys(network)),
        "input keys": _key_table(definitions["Input"], _keys(definitions["Input"])),
        "expect keys": _key_table(definitions["Expect"], _keys(definitions["Expect"])),
        "training keys": _key_table(definitions["Training"], _keys(definitions["Training"])),
        "recipe keys": _key_table(
            recipe, _keys(recipe, without=_keys(definitions["Training"], without=["recipe"]))
        ),
        "recipes": _recipes(),
        "stage keys": _key_table(definitions["Stage"], _keys(definitions["Stage"], without=common)),
        "block keys": _key_table(block, _keys(block)),
        "argument keys": _key_table(argument, _keys(argument)),
        "layer keys": _key_table(definitions["IdentityLayer"], common),
        "call keys": _key_table(
            definitions["BlockCall"], _keys(definitions["BlockCall"], without=call)
        ),
        "loop keys": _key_table(definitions["Loop"], _keys(definitions["Loop"])),
        "blocks": _blocks(),
        "primitives": _primitives(),
        "attributes": _attributes(),
        "roles": _roles(),
        "functions": _functions(),
        "variables": _variables(),
        "initializers": _initializers(),
    }


def modules(root: Path) -> str:
    """A table of the modules of a working tree: path, and the first sentence of each."""
    rows = []
    for top in ("resnet_spec", "backends"):
        paths = (root / top).rglob("*.py")
        for path in sorted(paths, key=lambda path: (len(path.parts), path)):
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            sentence = re.split(r"\.(?=\s|$)", " ".join(text.split("\n\n")[0].split()))[0]
            rows.append((_code(path.relative_to(root).as_posix()), sentence))
    return _table(("module", "what it does"), rows)


def rules() -> str:
    """A table of what a comparison can tell."""
    rows = [(_code(r.id), _code(r.effect.value), r.meaning) for r in RULES.values()]
    return _table(("rule", "class at most", "meaning"), rows)


# --- tables --------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(c.replace('|', chr(92) + '|') for c in row)} |" for row in lines
    )


def _code(text: object) -> str:
    return f"`{text}`"


def _keys(schema: Schema, without: Sequence[str] = ()) -> list[str]:
    return [key for key in schema["properties"] if key not in without]


def _key_table(schema: Schema, keys: Sequence[str]) -> str:
    required = schema.get("required") or schema.get("else", {}).get("required", [])
    rows = []
    for key in keys:
        found = schema["properties"][key]
        text, _, default = found["description"].partition("; default ")
        usual = "**required**" if key in required else _code(default) if default else ""
        rows.append((_code(key), _kind(found), usual, text))
    return _table(("key", "value", "default", "meaning"), rows)


def _kind(schema: Schema) -> str:
    """What a value is, in words."""
    if "$ref" in schema:
        return _KINDS[_target(schema)]
    if "const" in schema:
        return _code(schema["const"])
    if "enum" in schema:
        return ", ".join(map(_code, schema["enum"]))
    kinds = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if kinds:  # of a list that may also be patched, the list
        return _kind(kinds[0]) if len(kinds) == 1 or _holds(kinds[0]) else _kinds(kinds)
    match schema["type"]:
        case "array" if isinstance(items := schema.get("items"), dict) and "$ref" not in items:
            return f"list of {_kind(items)}" if "enum" in items else f"list: {_kind(items)}"
        case "array" | "object":
            return _ITEMS.get(_holds(schema), "list of names")
        case "integer" | "number" as kind:
            low, high = schema.get("minimum"), schema.get("maximum")
            what = "whole number" if kind == "integer" else "number"
            return f"{what}, {low} to {high:,}" if high else f"{what}, {low} or more"
        case "boolean":
            return "`true` or `false`"
    return "text"


def _kinds(schemas: Sequence[Schema]) -> str:
    return " or ".join("name" if s.get("type") == "string" else _kind(s) for s in schemas)


def _target(schema: Schema) -> str:
    return str(schema["$ref"]).removeprefix("#/$defs/")


def _holds(schema: Schema) -> str:
    inner: Any = schema.get("items") or schema.get("additionalProperties")
    return _target(inner) if isinstance(inner, dict) and "$ref" in inner else ""


# --- primitives ----------------------------------------------------------------------------------


def _primitives() -> str:
    rows = []
    for primitive in PRIMITIVES.values():
        attributes = ", ".join(_code(attribute.name) for attribute in primitive.attributes)
        rows.append((_code(primitive.name), _input(primitive), primitive.description, attributes))
    return _table(("primitive", "input", "meaning", "attributes"), rows)


def _input(primitive: Primitive) -> str:
    what = {"map": "feature map", "vector": "vector", "any": "any"}[primitive.needs]
    return f"several, {what}" if primitive.takes == "many" else what


def _attributes() -> str:
    rows = []
    for primitive in PRIMITIVES.values():
        for attribute in primitive.attributes:
            usual = "**required**" if attribute.required else _code(shown(attribute.default))
            rows.append(
                (
                    _code(primitive.name),
                    _code(attribute.name),
                    _range(attribute),
                    usual,
                    attribute.description,
                )
            )
    return _table(("primitive", "attribute", "value", "default", "meaning"), rows)


def _range(attribute: Attribute) -> str:
    words = {"int": "whole number", "float": "number", "bool": "true or false"}
    what = words.get(attribute.type, "initializer")
    if attribute.maximum is not None:
        return f"{what}, {attribute.minimum} to {attribute.maximum}"
    if attribute.minimum is not None:
        what = f"{what}, {attribute.minimum} or more"
    return ", or ".join((what, *map(_code, attribute.words)))


def _blocks() -> str:
    library, rows = Library(), []
    for name, path in builtin_blocks().items():
        block = library.read_block(path)
        takes = [_code(_argument(each)) for each in block.arguments.values()]
        takes += [_code(f"{slot}: {_binding(each)}") for slot, each in block.slots.items()]
        layers = ", ".join(_layer_names(block.body))
        rows.append((_code(name), block.description, ", ".join(takes), layers))
    return _table(("block", "what it is", "arguments and slots", "names of its layers"), rows)


def _argument(argument: Argument) -> str:
    default = argument.default.text if argument.default else argument.type
    return f"{argument.name}: {default.lower() if default in ('True', 'False') else default}"


def _binding(binding: Binding) -> str:
    given = plain(binding.arguments)
    return f"{{{binding.target}: {given}}}" if given else binding.target or "none"


def _layer_names(body: Iterable[Statement | Loop]) -> Iterable[str]:
    """Of the layers that a spec can meet by name: those that the block names itself."""
    found: dict[str, None] = {}
    for each in body:
        if isinstance(each, Loop):
            found |= dict.fromkeys(_layer_names(each.body))
        elif each.name is not None and not each.unnamed:
            found[_code(each.name.text)] = None
    return found


def _roles() -> str:
    rows = [(_code(role), _code(usual)) for role, usual in ROLES.items()]
    return _table(("slot", "filled by default with"), rows)


# --- recipes -------------------------------------------------------------------------------------


def _recipes() -> str:
    rows = []
    for name, path in builtin_recipes().items():
        values: Any = plain(parse(path.read_text(encoding="utf-8"), path.name))
        rows.append((_code(name), values["description"], values.get("source", "")))
    return _table(("recipe", "what it is", "source"), rows)


# --- expressions ---------------------------------------------------------------------------------


def _functions() -> str:
    rows = []
    for name, (_, least, most, _) in FUNCTIONS.items():
        number = str(least) if least == most else f"{least} to {most}"
        rows.append((_code(name), number, _FUNCTION_MEANINGS[name]))
    return _table(("function", "arguments", "meaning"), rows)


def _variables() -> str:
    return _table(("name", "meaning"), [(_code(name), _VARIABLES[name]) for name in POSITION])


def _initializers() -> str:
    words = {"none": "", "number": "a number", "fan": "`fan_in` or `fan_out`"}
    rows = [
        (_code(kind), words[takes], "" if default is None else _code(default), meaning)
        for kind, (takes, default, meaning) in INITIALIZERS.items()
    ]
    return _table(("initializer", "value", "default", "meaning"), rows)
