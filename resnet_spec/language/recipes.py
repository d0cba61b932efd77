"""The `training` section of a spec: a recipe by name, with changes, to one checked set of values.

Imported only for specs that have the section.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from pathlib import Path
from types import SimpleNamespace

from resnet_spec.diagnostics import Report, SpecError, fail, quoted
from resnet_spec.language import identifiers, validate
from resnet_spec.language.library import RECIPES, Library
from resnet_spec.language.merge import MAX_CHAIN, merge, without, written_out
from resnet_spec.language.nodes import Mapping, Node
from resnet_spec.language.scalars import plain_text
from resnet_spec.language.syntax import Recipe

# What a recipe's file says of itself, besides the keys that a trainer follows.
_OWN_KEYS = ("name", "description", "source", "extends")


def read(node: Node, folder: Path, library: Library, report: Report) -> Recipe | None:
    """The recipe of a network, every key with its value; None after reporting errors."""
    before = len(report.diagnostics)
    given = written_out(node)
    model = validate.validate("TrainingModel", given, "'training'", report)
    if not isinstance(given, Mapping):
        return None
    base = _base(given, folder, library, report)
    if model is None or len(report.diagnostics) > before:
        return None
    whole = given if base is None else merge(without(base, _OWN_KEYS), given, report)
    values = validate.validate("TrainingModel", whole, "'training'", report)
    if values is None:
        return None
    _check(values, whole, report)
    description = plain_text(base.get("description")) if base is not None else None
    source = plain_text(base.get("source")) if base is not None else None
    return Recipe(_settings(values), model.recipe, description, source)


def _base(given: Mapping, folder: Path, library: Library, report: Report) -> Mapping | None:
    """The recipe that the section names; None without one, or with a wrong one, which is told."""
    name = plain_text(given.get("recipe"))
    if name is None:
        return None
    try:
        found = library.find_recipe(name, folder, given.span_of("recipe"))
        return _recipe(found, library, report)
    except SpecError as error:
        report.extend(error)
        return None


def check_file(path: Path, library: Library) -> None:
    """Raise `SpecError` with everything that is wrong in a recipe's file."""
    report = Report()
    merged = _recipe(path, library, report)
    if not report.diagnostics:
        values = validate.validate("RecipeModel", merged, "the recipe", report)
        assert values is not None
        _check(values, merged, report)
    report.raise_if_any()


def _recipe(path: Path, library: Library, report: Report, chain: tuple[Path, ...] = ()) -> Mapping:
    """The tree of a recipe's file, `extends` resolved; raises `SpecError` where it is none."""
    _, node = library.read(path)
    if not isinstance(node, Mapping):
        fail("RS103", f"a recipe must be a mapping, not {validate.kind_of(node)}", node.span)
    model = validate.validate("RecipeModel", node, "the recipe", report)
    if model is None:
        return node
    span = node.span_of("name")
    identifiers.check_identifier(model.name, span, "a recipe")
    if model.name != path.stem:
        message = f"this file holds the recipe {quoted(model.name)}, but is called"
        fail("RS105", f"{message} {quoted(path.name)}", span, f"call it {model.name}.yaml")
    if model.extends is None:
        return node
    span = node.span_of("extends")
    near = path.parent.parent if path.parent.name == RECIPES else path.parent
    found = library.find_recipe(model.extends, near, span)
    if found in (*chain, path) or len(chain) > MAX_CHAIN:
        fail("RS107", f"the recipe {quoted(model.name)} extends itself", span)
    base = _recipe(found, library, report, (*chain, path))
    return merge(without(base, _OWN_KEYS), node, report)


def _settings(values: SimpleNamespace) -> MappingOf[str, object]:
    """The values that a trainer follows, in the order of the language's tables."""
    return {key: getattr(values, key) for key in keys() if getattr(values, key) is not None}


def keys() -> dict[str, str]:
    """The keys that a trainer follows, with their meanings."""
    table = validate.model_table("TrainingModel")["keys"]
    return {key: meaning for key, meaning in table.items() if key != "recipe"}


# --- what one key means for another --------------------------------------------------------------


def _check(values: SimpleNamespace, node: Mapping, report: Report) -> None:
    """RS109 for values that do not fit together."""

    def add(key: str, message: str, help: str) -> None:
        report.add("RS109", message, node.span_of(key), help)

    whole = f"the length of {values.length:,} {values.unit}"
    milestones = values.milestones
    if values.schedule == "step" and not milestones:
        add("schedule", "the schedule 'step' needs 'milestones'", "milestones: [30, 60]")
    if sorted(set(milestones)) != milestones:
        add("milestones", "'milestones' must increase", f"milestones: {sorted(set(milestones))}")
    if values.schedule == "step" and milestones and milestones[-1] >= values.length:
        add("milestones", f"the milestone {milestones[-1]:,} is beyond {whole}", _UNITS)
    if values.warmup >= values.length:
        add(
            "warmup",
            f"a warm-up of {values.warmup:,} {values.unit} leaves nothing of {whole}",
            _UNITS,
        )
    if values.schedule == "one_cycle" and not values.warmup:
        add("schedule", "the schedule 'one_cycle' needs a 'warmup'", "warmup: 30% of the length")
    if values.optimizer == "sgd" and values.nesterov and not values.momentum:
        add("nesterov", "'nesterov' needs a 'momentum'", "momentum: 0.9")
    if values.scales[0] > values.scales[1]:
        add("scales", "'scales' must increase", f"scales: {sorted(values.scales)}")
    if len(values.mean) != len(values.std):
        message = f"'mean' lists {len(values.mean)} and 'std' {len(values.std)} values"
        add("std", message, "give one mean and one std for each channel, or none at all")
    if 0 in values.std:
        add(
            "std",
            "a standard deviation can't be 0",
            "leave both lists empty to measure them",
        )


_UNITS = "'length', 'milestones' and 'warmup' are all in the unit that 'unit' sets"
