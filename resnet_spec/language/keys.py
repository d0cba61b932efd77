"""The language as pydantic models: which keys there are, what they take, what they mean.

The models are the source of the JSON Schema, of the language reference and of the validator: what
pydantic makes of them is kept in `spec_schema.json`, so that reading a spec does not have to import
pydantic and build them, which takes longer than compiling. Values that hold expressions stay nodes,
so that every later message can point at them.
"""

from __future__ import annotations

import functools
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from resnet_spec.language.name_resolution import MAX_SIZE
from resnet_spec.primitives import PRIMITIVES, ROLES, Primitive


class Raw:
    """Marks a field whose node is kept, because it holds expressions."""


def _mapping_of(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"type": "object", "additionalProperties": schema})


def _list_of(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"type": "array", "items": schema})


def definition(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


EXPRESSION_SCHEMA = definition("Expression")

ExpressionNode = Annotated[Any, Raw, WithJsonSchema(EXPRESSION_SCHEMA)]
ExpressionsNode = Annotated[Any, Raw, _mapping_of(EXPRESSION_SCHEMA)]
LayersNode = Annotated[Any, Raw, _list_of(definition("Layer"))]
StagesNode = Annotated[Any, Raw, _list_of(definition("Stage"))]
BlocksNode = Annotated[Any, Raw, _mapping_of(definition("InlineBlock"))]
ArgumentsNode = Annotated[Any, Raw, _mapping_of(definition("Argument"))]
BindingsNode = Annotated[Any, Raw, _mapping_of(definition("Binding"))]
DefaultsNode = Annotated[Any, Raw, WithJsonSchema(definition("Defaults"))]
PatternNode = Annotated[Any, Raw, WithJsonSchema(definition("Name"))]
ReferenceNode = Annotated[Any, Raw, WithJsonSchema({"type": "string"})]
InputsNode = Annotated[
    Any,
    Raw,
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
InitializerNode = Annotated[Any, Raw, WithJsonSchema(definition("Initializer"))]
TrainingNode = Annotated[Any, Raw, WithJsonSchema(definition("TrainingChoice"))]

Size = Annotated[int, Field(strict=True, ge=1, le=MAX_SIZE)]
Count = Annotated[int, Field(strict=True, ge=0)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
BelowOne = Annotated[float, Field(strict=True, ge=0, le=0.99999, allow_inf_nan=False)]
Amount = Annotated[float, Field(strict=True, ge=0, le=1_000, allow_inf_nan=False)]
Duration = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]
Switch = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, max_length=2_000, pattern=r"[^\s\x1c-\x1f]")]
ShortText = Annotated[str, Field(strict=True, max_length=200)]


class Model(BaseModel):
    """Every key is known, every value has its own type."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputModel(Model):
    """The shape of one image."""

    channels: Size = Field(default=3, description="3 for RGB, 1 for grey images")
    height: Size = Field(default=224, description="rows")
    width: Size = Field(default=224, description="columns")


class ExpectModel(Model):
    """Numbers that are checked at every compile."""

    parameters: Count | None = Field(None, description="trainable parameters")
    statistics: Count | None = Field(None, description="values updated without a gradient")
    macs: Count | None = Field(None, description="multiply-adds of convolutions and linear layers")


class ReferenceModel(Model):
    """Another network that this one equals, weight for weight."""

    library: Literal["timm", "torchvision", "keras.applications"] | None = Field(
        None, description="where it is published; without it, it is the model that was imported"
    )
    model: ShortText = Field(description="its name there")
    rename: dict[str, str] | None = Field(
        None,
        description="prefixes of its layer names, with counters in braces, and the prefixes here "
        "that replace them; the first match is used",
    )


class ArgumentModel(Model):
    """An argument of a block, written out."""

    type: Literal["int", "float", "bool"] | None = Field(None, description="type of its values")
    default: ExpressionNode = Field(None, description="value if none is given")
    only: Literal["first"] | None = Field(
        None,
        description="'first': only the first of repeated blocks gets the value, the others the "
        "default; a list or an expression over the position gives every block its own",
    )
    description: ShortText | None = Field(None, description="what it means")


class BlockModel(Model):
    """A block: a small graph of primitive operations, with arguments and slots."""

    block: ShortText = Field(description="name of the block and of its file")
    class_name: ShortText | None = Field(None, description="name of the PyTorch class")
    description: Text = Field(description="docstring of the generated class or function")
    source: ShortText | None = Field(None, description="paper or URL that it comes from")
    args: ArgumentsNode = Field(None, description="arguments: a type, a default, or both")
    slots: BindingsNode = Field(None, description="places that another block fills")
    let: ExpressionsNode = Field(None, description="named expressions over the arguments")
    layers: LayersNode = Field(description="operations in order; `x` is the block's input")


class InlineBlockModel(Model):
    """A block within a network's file; its name is its key."""

    class_name: ShortText | None = Field(None, description="name of the PyTorch class")
    description: Text = Field(description="docstring of the generated class or function")
    source: ShortText | None = Field(None, description="paper or URL that it comes from")
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
    source: ShortText | None = Field(None, description="paper or URL that it comes from")
    family: ShortText | None = Field(None, description="heading under which `list` shows it")
    extends: ShortText | None = Field(None, description="spec that this one changes")
    references: list[ReferenceModel] | None = Field(
        None, description="published networks that this one equals, or the model it is of"
    )
    input: InputModel = Field(
        default_factory=lambda: InputModel(),  # noqa: PLW0108 - mypy knows no class as a factory
        description="shape of one image",
    )
    classes: Size = Field(1000, description="number of classes; `classes` in expressions")
    let: ExpressionsNode = Field(None, description="named constants")
    defaults: DefaultsNode = Field(
        None,
        description="defaults of norm and act, of primitives and of blocks",
    )
    numerics: Literal["idiomatic", "exact"] = Field(
        "idiomatic",
        description="in Keras and Flax: their own layers, or ones that train and round like "
        "PyTorch's",
    )
    blocks: BlocksNode = Field(None, description="blocks that this spec defines")
    stem: LayersNode = Field(None, description="layers before the stages")
    stages: StagesNode = Field(description="repeated blocks; each output is a feature map")
    head: LayersNode = Field(None, description="layers after the stages, to the logits")
    expect: ExpectModel | None = Field(None, description="numbers checked at every compile")
    training: TrainingNode = Field(
        None, description="how it is trained: the name of a recipe, or keys that change one"
    )


class TrainingKeys(Model):
    """What a trainer follows: the keys of a compiled recipe and the flags of the trainers."""

    length: Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)] = Field(
        90, description="length of training, in units"
    )
    unit: Literal["epochs", "steps"] = Field(
        "epochs", description="unit of length, milestones and warmup"
    )
    batch_size: Size = Field(256, description="images per step, over all devices")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="in PyTorch's form")
    learning_rate: Amount = Field(0.1, description="maximum of the schedule")
    momentum: BelowOne = Field(0.9, description="for sgd")
    nesterov: Switch = Field(False, description="for sgd: Nesterov momentum")
    beta1: BelowOne = Field(0.9, description="for adamw: decay of the first moment")
    beta2: BelowOne = Field(0.999, description="for adamw: decay of the second moment")
    epsilon: Share = Field(1e-8, description="for adamw: added to the denominator")
    weight_decay: Share = Field(1e-4, description="sgd: added to the gradient; adamw: decoupled")
    no_decay: list[Literal["norm", "bias"]] = Field(
        [], max_length=2, description="kinds of parameters without weight decay"
    )
    clip_norm: Amount = Field(0.0, description="maximum norm of all gradients; 0: no clipping")
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = Field(
        "cosine", description="of the learning rate, after the warm-up"
    )
    milestones: list[Duration] = Field(
        [], max_length=100, description="for step: when the rate is multiplied by factor"
    )
    factor: Share = Field(0.1, description="for step")
    final_rate: Share = Field(
        0.0, description="for cosine and one_cycle: the last rate, relative to learning_rate"
    )
    warmup: Duration = Field(0, description="length of the warm-up, in units")
    warmup_start: Share = Field(0.0, description="the first rate, relative to learning_rate")
    warmup_shape: Literal["linear", "constant"] = Field(
        "linear", description="constant: the rate stays at its start during the warm-up"
    )
    patience: Duration = Field(
        0, description="stop after so many evaluations without a lower error; 0: never"
    )
    label_smoothing: BelowOne = Field(
        0.0, description="share of the target spread over all classes"
    )
    class_weights: Literal["equal", "balanced"] = Field(
        "equal", description="in the loss; balanced: every class has the same total weight"
    )
    mixup: Amount = Field(0.0, description="alpha of mixup; 0: none")
    cutmix: Amount = Field(0.0, description="alpha of CutMix; 0: none; with both, one at random")
    erasing: Share = Field(0.0, description="probability of random erasing; 0: never")
    ema: BelowOne = Field(
        0.0, description="decay of the averaged weights, after the warm-up; 0: none"
    )
    ema_steps: Size = Field(1, description="steps between updates of the averages")
    crop: Literal["none", "pad", "resized", "scaled"] = Field(
        "none", description="how training images are cropped to the input size"
    )
    padding: Annotated[int, Field(strict=True, ge=0, le=1_000)] = Field(
        4, description="for pad: pixels on each side, before a random crop"
    )
    min_area: Share = Field(0.08, description="for resized: smallest share of the image's area")
    scales: list[Size] = Field(
        [256, 480],
        min_length=2,
        max_length=2,
        description="for scaled: range of the shorter side, before a random crop",
    )
    train_size: Annotated[int, Field(strict=True, ge=0, le=MAX_SIZE)] = Field(
        0, description="for resized and scaled: size of training images; 0: the input size"
    )
    augment: Literal["none", "trivial"] = Field(
        "none", description="trivial: TrivialAugment, one of fourteen operations at random"
    )
    repeats: Size = Field(
        1, description="repeated augmentation: how often an image is seen in a row"
    )
    flip: Switch = Field(False, description="flip half of the training images horizontally")
    resize: Annotated[int, Field(strict=True, ge=0, le=MAX_SIZE)] = Field(
        0,
        description="shorter side of image files before the evaluation crop; 0: for pad the input "
        "size, else the input size / 0.875",
    )
    mean: list[Share] = Field(
        [0.485, 0.456, 0.406],
        max_length=16,
        description="per channel, from 0 to 1; empty: measured on the training images",
    )
    std: list[Share] = Field(
        [0.229, 0.224, 0.225], max_length=16, description="per channel, like mean"
    )


class TrainingModel(TrainingKeys):
    """A recipe by name, with changes."""

    recipe: ShortText | None = Field(
        None, description="recipe to change: a name, or a file next to the spec"
    )


class RecipeModel(TrainingKeys):
    """A recipe of training, for specs to name."""

    name: ShortText = Field(description="name of the recipe and of its file")
    description: Text = Field(description="one sentence: what it is for")
    source: ShortText | None = Field(None, description="paper or URL that it comes from")
    extends: ShortText | None = Field(None, description="recipe that this one changes")


class LayerModel(Model):
    """What every layer may say."""

    from_: ReferenceNode = Field(None, alias="from", description="input; default: previous output")
    as_: PatternNode = Field(None, alias="as", description="name of the output")
    when: ExpressionNode = Field(
        None, description="condition, evaluated at compile time; if false, the input passes through"
    )
    else_: PatternNode = Field(
        None,
        alias="else",
        description="with 'when': the value that passes through instead of the input",
    )


class CallModel(LayerModel):
    """A block or a slot within a block; further keys are the block's arguments and slots."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: PatternNode = Field(None, description="name of the layer, default: the block's")
    repeat: ExpressionNode = Field(None, description="number of copies, one after the other")
    names: PatternNode = Field(None, description="names of the repeated blocks, default '{i}'")


class BlockCallModel(CallModel):
    """Use of a block."""

    block: ShortText = Field(description="name of the block, such as bottleneck")


class SlotCallModel(CallModel):
    """Use of a slot."""

    slot: ShortText = Field(description="the slot")


class StageModel(BlockCallModel):
    """A stage of the network."""

    name: PatternNode = Field(description="name of the stage")
    feature: bool = Field(True, strict=True, description="whether its output is a feature map")


class LoopModel(Model):
    """A static loop, unrolled while compiling."""

    for_: ShortText = Field(alias="for", description="name of the counter, which starts at 0")
    count: ExpressionNode = Field(description="number of iterations")
    layers: LayersNode = Field(description="the repeated layers")


class RoleModel(LayerModel):
    """A slot that every block has; its attributes are those of the primitive that fills it."""

    model_config = ConfigDict(extra="allow", frozen=True)


@functools.cache
def layer_model(key: str) -> type[Model]:
    """The model of a layer that opens with `key`: a primitive or a role."""
    if key in ROLES:
        fields: dict[str, Any] = {key: (PatternNode, Field(None, description="name of the layer"))}
        return create_model(_title(key), __base__=RoleModel, **fields)
    primitive = PRIMITIVES[key]
    fields = _fields(primitive)
    return create_model(_title(key), __base__=LayerModel, __doc__=primitive.description, **fields)


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
        if not attribute.required:
            text = f"{text}; default {attribute.default}"
        # `defaults` may give what is required, so its absence is found out later.
        fields[attribute.name] = (kind, Field(None, description=text))
    return fields


MODELS: tuple[type[Model], ...] = (
    NetworkModel,
    BlockModel,
    InlineBlockModel,
    ArgumentModel,
    LayerModel,
    BlockCallModel,
    SlotCallModel,
    StageModel,
    LoopModel,
    TrainingModel,
    RecipeModel,
)


def tables() -> dict[str, dict[str, Any]]:
    """What `spec_schema.json` holds: for each model its keys and its schema for the core."""
    return {model.__name__: _table(model) for model in MODELS}


def _table(model: type[BaseModel]) -> dict[str, Any]:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    return {
        "keys": {key: field.description for key, field in fields.items()},
        "raw": [key for key, field in fields.items() if Raw in field.metadata],
        "nested": {
            key: _table(nested)
            for key, field in fields.items()
            if (nested := nested_model(field.annotation)) is not None
        },
        "schema": _plain_schema(model.__pydantic_core_schema__),
    }


def nested_model(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation: `M`, `M | None`, `list[M] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (nested_model(inner) for inner in getattr(annotation, "__args__", ()))
    return next((model for model in found if model is not None), None)


def _plain_schema(schema: Any) -> Any:
    """A core schema as literals: models become typed dictionaries, what only classes need goes."""
    if isinstance(schema, list):
        return [_plain_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "model":
        fields = {}
        for name, field in schema["schema"]["fields"].items():
            inner = field["schema"]
            key = field.get("validation_alias", name)
            fields[key] = {
                "type": "typed-dict-field",
                "schema": _plain_schema(inner),
                "required": inner["type"] != "default",
            }
        extra = schema["config"].get("extra_fields_behavior", "forbid")
        return {"type": "typed-dict", "fields": fields, "extra_behavior": extra}
    if "default_factory" in schema:
        schema = {**schema, "default": schema["default_factory"]().model_dump()}
    dropped = ("metadata", "default_factory", "default_factory_takes_data", "ref", "config")
    return {key: _plain_schema(value) for key, value in schema.items() if key not in dropped}


def rendered_tables() -> str:
    """The text of the file `spec_schema.json`."""
    return json.dumps(tables(), indent=1) + "\n"
