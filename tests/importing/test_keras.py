"""Models of Keras become specs: each layer that is read, and each that is refused.

The file is read by us, without Keras; here Keras makes the files, and says what they compute. In
double precision nothing is rounded away that is wrong.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from keras_models import randomized, residual

from resnet_spec import cli
from resnet_spec.diagnostics import SpecError
from resnet_spec.importing.readers.keras import file, layers
from resnet_spec.importing.run import Imported, Options, imported
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.weights import keras_model

pytestmark = [pytest.mark.torch, pytest.mark.keras]

TOLERANCE = 1e-12  # relative, in double precision
ROUNDED = 1e-6  # where fixed numbers are written with seven digits


@pytest.fixture(autouse=True)
def double() -> Any:
    with keras_model.precision("float64"):
        yield


def difference(model: Any, found: Imported, size: int | None = None) -> float:
    """How far apart the outputs are in double precision, relative to the largest.

    `size`: rows and columns of the images, where they are others than the spec's.
    """
    import torch

    network = found.network
    if size is not None:
        stated, asked = (f"height: {n}, width: {n}" for n in (network.input.height, size))
        text = found.text.replace(stated, asked)
        network = lower(load("imported.yaml", Library(), text=text.encode()))
        assert network.input.dimensions[1:] == (size, size)
    ours = networks.built(network, "imported").double()
    state = {name: torch.tensor(value) for name, value in found.state.items()}
    ours.load_state_dict(state, strict=True)
    first = np.random.default_rng(1).standard_normal((2, *network.input.dimensions))
    wanted = np.asarray(model(first.transpose(0, 2, 3, 1), training=False))
    with torch.no_grad():
        given = ours(torch.from_numpy(first))
    if any("softmax" in note for note in found.notes):
        given = given.softmax(1)
    result = given.numpy().reshape(wanted.shape)
    assert np.isfinite(wanted).all() and np.abs(wanted).max() > 0
    return float(np.abs(result - wanted).max() / np.abs(wanted).max())


def read(path: Path, library: bool = False, size: int = 224) -> Imported:
    model = file.read(path, path.name, (3, size, size)).model
    return imported(model, Options("imported", "Imported", library), str(path.with_name("n.yaml")))


def saved(model: Any, folder: Path, ending: str) -> Path:
    path = folder / f"model.{ending}"
    model.save(path)
    return path


def brought(model: Any, folder: Path, ending: str = "keras", bound: float = TOLERANCE) -> Imported:
    """A model saved, read and imported, its output the same."""
    path = saved(randomized(model), folder, ending)
    found = read(path)
    assert difference(model, found) < bound, found.text
    return found


def small(size: int | None = 32) -> Any:
    """A residual network of TensorFlow's padding and epsilon, with a softmax."""
    import keras
    from keras import layers as kl

    given = kl.Input((size, size, 3))
    x = kl.Conv2D(8, 3, 2, padding="same", use_bias=False, name="stem")(given)
    x = kl.BatchNormalization(name="stem_bn")(x)
    x = kl.ReLU()(x)
    x = kl.MaxPooling2D(3, 2, padding="same")(x)
    for number, (filters, stride) in enumerate(((8, 1), (16, 2), (16, 1))):
        x = residual(x, filters, stride, f"block{number}")
    x = kl.GlobalAveragePooling2D()(x)
    x = kl.Dropout(0.2)(x)
    return keras.Model(given, kl.Dense(5, activation="softmax", name="predictions")(x))


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_residual_network(ending: str, tmp_path: Path) -> None:
    found = brought(small(), tmp_path, ending)
    assert "padding: same" in found.text and "eps: 0.001" in found.text
    assert "the softmax at its end is left out: networks give logits" in found.notes
    assert "3 biases before norms went into the norms' means" not in " ".join(found.notes)


def single(*build: Callable[[Any], Any], size: tuple[int | None, ...] = (12, 12, 3)) -> Any:
    """A model of layers one after the other, and a classifier."""
    import keras
    from keras import layers as kl

    value = given = kl.Input(size)
    for each in build:
        value = each(value)
    if len(value.shape) == 4:
        value = kl.GlobalAveragePooling2D()(value)
    return keras.Model(given, kl.Dense(4, name="classifier")(value))


def gated(x: Any) -> Any:
    from keras import layers as kl

    gate = kl.GlobalAveragePooling2D()(x)
    gate = kl.Reshape((1, 1, x.shape[-1]))(gate)
    gate = kl.Conv2D(4, 1, activation="swish")(gate)
    gate = kl.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate)
    return kl.Multiply()([x, gate])


def branches(kind: str, **options: Any) -> Callable[[Any], Any]:
    from keras import layers as kl

    def made(x: Any) -> Any:
        first, second = kl.Conv2D(6, 1)(x), kl.Conv2D(6, 3, padding="same")(x)
        return getattr(kl, kind)(**options)([first, second])

    return made


def conv(filters: int = 8, **options: Any) -> Any:
    from keras import layers as kl

    return kl.Conv2D(filters, 3, **options)


LAYERS: dict[str, Callable[[Any], list[Any]]] = {
    "bias and activation": lambda kl: [conv(activation="relu", padding="same")],
    "one-sided padding": lambda kl: [conv(strides=2, padding="same"), conv(dilation_rate=2)],
    "groups": lambda kl: [conv(8), conv(12, groups=4)],
    "even window": lambda kl: [kl.Conv2D(8, 2, padding="same"), kl.AveragePooling2D(2)],
    "depthwise": lambda kl: [kl.DepthwiseConv2D(3, 2, padding="same", depth_multiplier=2)],
    "separable": lambda kl: [
        kl.SeparableConv2D(8, 3, padding="same", depth_multiplier=2, activation="tanh")
    ],
    "zeros around": lambda kl: [kl.ZeroPadding2D(((0, 1), (0, 1))), conv(strides=2)],
    "zeros before a maximum": lambda kl: [
        conv(padding="same"), kl.ZeroPadding2D(1), kl.MaxPooling2D(3, 2)
    ],
    "mean with same padding": lambda kl: [kl.AveragePooling2D(3, 2, padding="same")],
    "keepdims": lambda kl: [conv(), kl.GlobalMaxPooling2D(keepdims=True), kl.Flatten()],
    "flatten": lambda kl: [conv(5, strides=2), kl.Flatten(), kl.Dense(7, activation="relu")],
    "reshaped to a vector": lambda kl: [conv(5, strides=2), kl.Reshape((-1,))],
    "turned before": lambda kl: [conv(5, strides=2), kl.Permute((3, 1, 2)), kl.Flatten()],
    "dense on a map": lambda kl: [conv(5), kl.Dense(6, activation="relu"), conv(3)],
    "norms": lambda kl: [
        conv(), kl.BatchNormalization(scale=False), kl.ReLU(), conv(use_bias=False),
        kl.BatchNormalization(center=False, epsilon=0.01),
    ],
    "norm of a vector": lambda kl: [
        conv(), kl.GlobalAveragePooling2D(), kl.Dense(6), kl.BatchNormalization(), kl.ReLU()
    ],
    "group norm": lambda kl: [conv(), kl.GroupNormalization(4), kl.LeakyReLU(0.1)],
    "group norms of ones and zeros": lambda kl: [
        conv(), kl.GroupNormalization(4, scale=False, center=False), kl.ReLU(),
        conv(), kl.GroupNormalization(-1, center=False), kl.ReLU(),
        conv(), kl.GroupNormalization(-1, scale=False, center=False),
    ],
    "activations": lambda kl: [
        conv(activation="silu"), conv(activation="gelu"), conv(activation="hard_sigmoid"),
        conv(activation="hard_silu"), kl.LeakyReLU(), kl.Activation("sigmoid"),
    ],
    "gate": lambda kl: [conv(), gated],
    "average": lambda kl: [branches("Average")],
    "difference": lambda kl: [branches("Subtract")],
    "concatenation": lambda kl: [branches("Concatenate"), branches("Concatenate", axis=3)],
    "training": lambda kl: [
        kl.RandomFlip("horizontal"), kl.RandomRotation(0.1), kl.RandomZoom(0.1), conv(),
        kl.RandomContrast(0.1), kl.RandomTranslation(0.1, 0.1), kl.SpatialDropout2D(0.2),
        kl.GaussianNoise(0.1), kl.GaussianDropout(0.1), kl.ActivityRegularization(0.1),
        kl.RandomBrightness(0.1),
    ],
}  # fmt: skip


# Keras rounds constants of these to single precision.
SINGLE = ("group norm", "group norms of ones and zeros", "activations")


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, tmp_path: Path) -> None:
    from keras import layers as kl

    brought(single(*LAYERS[name](kl)), tmp_path, bound=ROUNDED if name in SINGLE else TOLERANCE)


@pytest.mark.parametrize("name", ["separable", "depthwise", "flatten", "norms"])
def test_layers_in_a_legacy_file(name: str, tmp_path: Path) -> None:
    from keras import layers as kl

    brought(single(*LAYERS[name](kl)), tmp_path, "h5")


def test_the_order_of_flattened_values_is_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, columns, channels read as channels, rows, columns: what the proof is there to find."""
    from keras import layers as kl

    model = randomized(single(*LAYERS["flatten"](kl)))
    path = saved(model, tmp_path, "keras")

    def wrong(call: Any) -> Any:
        assert not call.is_first()
        return call.node("Flatten", [call.turned(call.value, [0, 3, 1, 2]).name], 2, "", axis=1)

    monkeypatch.setitem(layers.RULES, "Flatten", wrong)
    assert difference(model, read(path)) > 0.1


def test_preprocessing(tmp_path: Path) -> None:
    from keras import layers as kl

    norm = kl.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.04, 0.05, 0.09])
    model = randomized(single(kl.Rescaling(1 / 127.5, -1), norm, conv()))
    path = saved(model, tmp_path, "keras")
    found = read(path)
    assert difference(model, found) < ROUNDED
    assert "Normalization 'normalization' has fixed numbers" in " ".join(found.notes)
    one = randomized(single(kl.Normalization(axis=None, mean=0.5, variance=0.25), conv()))
    assert difference(one, read(saved(one, tmp_path, "keras"))) < ROUNDED
    middle = randomized(single(conv(), kl.Rescaling([1.0, 2, 3, 4, 5, 6, 7, 8]), kl.ReLU()))
    found = read(saved(middle, tmp_path, "keras"))
    assert difference(middle, found) < ROUNDED
    assert "a product and a sum for each channel is a batch norm" in " ".join(found.notes)
    alike = randomized(single(kl.Rescaling([1 / 127.5] * 3, [-1, -1, -1]), conv()))
    found = read(saved(alike, tmp_path, "keras"))
    assert difference(alike, found) < ROUNDED
    assert "{rescale: rescale, factor: 0.00784" in found.text
    assert not any("fixed numbers" in each for each in found.notes)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_preprocessing_that_was_adapted(ending: str, tmp_path: Path) -> None:
    from keras import layers as kl

    norm = kl.Normalization()
    norm.adapt(np.random.default_rng(0).standard_normal((8, 12, 12, 3)) * 3 + 1)
    model = single(norm, conv(), kl.ReLU())
    path = saved(model, tmp_path, ending)
    assert difference(model, read(path)) < ROUNDED


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_models_within_models(ending: str, tmp_path: Path) -> None:
    """Names may come again within; numbers of calls begin elsewhere; weights stand deeper."""
    import keras
    from keras import layers as kl

    inner = kl.Input((None, None, 8))
    body = keras.Model(inner, residual(inner, 8, 1, "a"), name="body")
    tail = keras.Sequential([conv(6, name="a1"), kl.BatchNormalization(), kl.ReLU()], name="tail")
    given = kl.Input((16, 16, 3))
    x = body(kl.Conv2D(8, 3, padding="same", name="stem")(given))
    x = kl.Flatten()(tail(x))
    found = brought(keras.Model(given, kl.Dense(4, name="fc")(x)), tmp_path, ending)
    assert "fc" in found.text


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_model_that_is_called_twice(kind: str, tmp_path: Path) -> None:
    """The last call is the output, whose number begins elsewhere than those of other calls."""
    import keras
    from keras import layers as kl

    parts = [kl.Input((8,)), kl.Dense(8, name="again")]
    body = keras.Sequential(parts, name="body")
    if kind == "functional":
        body = keras.Model(parts[0], parts[1](parts[0]), name="body")
    given = kl.Input((12, 12, 3))
    x = kl.GlobalAveragePooling2D()(kl.Conv2D(8, 3, activation="relu", name="stem")(given))
    x = kl.Dense(8, name="between")(kl.ReLU()(body(x)))
    found = brought(keras.Model(given, body(kl.ReLU()(x))), tmp_path)
    assert found.network.root.parameters == 3 * 72 + 8 * 27 + 8
    assert "'body/again'" in " ".join(found.notes)


def test_the_same_names_in_two_models(tmp_path: Path) -> None:
    import keras
    from keras import layers as kl

    def body(name: str) -> Any:
        return keras.Sequential([conv(4, name="conv"), kl.ReLU(name="act")], name=name)

    model = keras.Sequential(
        [kl.Input((12, 12, 3)), body("one"), body("two"), kl.Flatten(), kl.Dense(3)]
    )
    brought(model, tmp_path)
    brought(model, tmp_path, "h5")


def test_names_that_a_legacy_file_does_not_tell_apart(tmp_path: Path) -> None:
    import keras
    from keras import layers as kl

    within = keras.Sequential([conv(4, name="conv"), kl.ReLU(name="act")], name="within")
    model = keras.Sequential([kl.Input((12, 12, 3)), conv(3, name="conv"), within, kl.Flatten()])
    model.add(kl.Dense(3))
    brought(model, tmp_path)
    told = message(saved(model, tmp_path, "h5"))
    assert "Conv2D 'within/conv': the file has 2 tensors, not one, that may be its kernel" in told


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_sequential_model(ending: str, tmp_path: Path) -> None:
    import keras
    from keras import layers as kl

    stem = [conv(name="conv"), kl.BatchNormalization(name="bn"), kl.ReLU(), kl.MaxPooling2D()]
    model = keras.Sequential([*stem, kl.Flatten(), kl.Dense(3)])
    model.build((None, 12, 12, 3))
    brought(model, tmp_path, ending)


def test_weights_that_are_used_twice(tmp_path: Path) -> None:
    from keras import layers as kl

    shared = conv(3, padding="same", name="again")
    found = brought(single(shared, kl.ReLU(), shared), tmp_path)
    assert "are trained apart: Conv2D 'again'" in " ".join(found.notes)


def test_a_dropout_behind_all_uses_of_a_block_is_the_block_s(tmp_path: Path) -> None:
    from keras import layers as kl

    stages: list[Any] = []
    for filters in (8, 16, 24):
        for _ in range(2):
            stages += conv(filters, padding="same"), kl.ReLU()
        stages += kl.MaxPooling2D(), kl.Dropout(0.25)
    model = single(*stages, size=(16, 16, 3))
    found = brought(model, tmp_path)
    assert found.text.count("rate: 0.25") == 1 and not found.written.left_out
    dropouts = [name for name, op in found.network.operations() if op.primitive.name == "dropout"]
    assert len(dropouts) == 3


def test_dropout_comes_back(tmp_path: Path) -> None:
    from keras import layers as kl

    noise = kl.GaussianNoise(0.1), kl.RandomFlip()
    twice = kl.Dropout(0.5), kl.Flatten(), kl.Dropout(0.2, name="twice")
    model = single(conv(), *noise, kl.Dropout(0.3, name="some"), kl.ReLU(), *twice)
    found = brought(model, tmp_path)
    assert "{dropout: some, rate: 0.3}" in found.text
    assert "{dropout: twice, rate: 0.6}" in found.text
    told = "what is done in training alone is left out: GaussianNoise, RandomFlip"
    assert found.notes == [told]


def test_frozen_layers_are_told(tmp_path: Path) -> None:
    from keras import layers as kl

    def model() -> Any:
        return single(conv(name="one"), kl.BatchNormalization(name="two"), kl.ReLU(), kl.Flatten())

    told = "fixed in the model, and trained in the spec: "
    some = model()
    some.get_layer("two").trainable = False
    notes = brought(some, tmp_path).notes
    assert [each.partition(";")[0] for each in notes] == [f"{told}BatchNormalization 'two'"]
    every = model()
    every.trainable = False
    assert brought(every, tmp_path).notes == brought(model(), tmp_path).notes == []


def test_regularizers_and_constraints_are_told(tmp_path: Path) -> None:
    from keras import layers as kl

    given: dict[str, Any] = {"kernel_regularizer": "l2", "kernel_constraint": "max_norm"}
    convs = [conv(name=name, padding="same", **given) for name in "abcdef"]
    (note,) = brought(single(*convs, kl.Flatten()), tmp_path).notes
    shown = ", ".join(f"Conv2D '{name}' (kernel_regularizer, kernel_constraint)" for name in "abcd")
    told = f"regularizers and constraints of weights are left out: {shown} and 2 more; "
    assert note == f"{told}recipes have weight_decay instead"


def test_channels_first(tmp_path: Path) -> None:
    """Keras flattens such maps as others: with the channels last. TensorFlow runs them on GPUs."""
    import keras
    from keras import layers as kl

    def network(order: str) -> Any:
        axis, stated = (1 if order == "channels_first" else 3), {"data_format": order}
        given = kl.Input((3, 12, 12) if axis == 1 else (12, 12, 3))
        x = kl.BatchNormalization(axis=axis)(conv(8, padding="same", **stated)(given))
        x = kl.MaxPooling2D(2, **stated)(kl.ZeroPadding2D(1, **stated)(kl.ReLU()(x)))
        x = kl.Concatenate(axis=axis)([x, kl.Conv2D(4, 1, **stated)(x)])
        return keras.Model(given, kl.Dense(3)(kl.Flatten(**stated)(x)))

    first, last = randomized(network("channels_first")), network("channels_last")
    last.set_weights(first.get_weights())
    assert difference(last, read(saved(first, tmp_path, "keras"))) < TOLERANCE


def test_half_precision_is_told(tmp_path: Path) -> None:
    import keras

    keras.config.set_dtype_policy("mixed_float16")
    found = read(saved(small(), tmp_path, "keras"))
    assert "it computes in mixed_float16; here it does in single precision" in found.notes


# --- what is refused -----------------------------------------------------------------------------


def refused(model: Any, folder: Path) -> str:
    path = saved(model, folder, "keras")
    with pytest.raises(SpecError) as raised:
        read(path)
    (found,) = raised.value.diagnostics
    assert found.code == "RS953"
    return f"{found.message}; {found.help}" if found.help else found.message


REFUSED: dict[str, tuple[Callable[[Any], list[Any]], str]] = {
    "bounds": (
        lambda kl: [kl.ReLU(max_value=6, name="bounded")],
        "ReLU 'bounded': the language has no operation for bounds from 0.0 to 6.0",
    ),
    "relu6": (
        lambda kl: [kl.Activation("relu6", name="six")],
        "Activation 'six': the language has no operation for bounds from 0.0 to 6.0",
    ),
    "a norm along rows": (
        lambda kl: [kl.BatchNormalization(axis=1, name="rows")],
        "BatchNormalization 'rows': it works along axis 1, the rows of its map, not along channels",
    ),
    "threshold": (lambda kl: [kl.ReLU(threshold=1, name="a")], "ReLU 'a': a threshold of 1"),
    "an activation": (
        lambda kl: [conv(activation="selu", name="c")],
        "Conv2D 'c': the language has no activation 'selu'",
    ),
    "a layer": (
        lambda kl: [kl.Conv2DTranspose(4, 3, name="up")],
        "Conv2DTranspose 'up': the language has no operation for it",
    ),
    "layer norm": (
        lambda kl: [kl.LayerNormalization(name="ln")],
        "LayerNormalization 'ln': the language has no operation for it",
    ),
    "a window": (
        lambda kl: [kl.Conv2D(4, (1, 3), name="wide")],
        "Conv2D 'wide': a window of 1x3: windows are square",
    ),
    "an axis": (
        lambda kl: [kl.BatchNormalization(axis=2, name="bn")],
        "BatchNormalization 'bn': it works along axis 2, not along channels",
    ),
    "a lambda": (
        lambda kl: [kl.Lambda(lambda x: x * 2, name="twice")],
        "Lambda 'twice': code of its own, which is not run",
    ),
    "an upsampling": (
        lambda kl: [kl.UpSampling2D(name="up")],
        "UpSampling2D 'up': the language has no operation for it",
    ),
    "a crop": (
        lambda kl: [kl.Cropping2D(1, name="crop")],
        "Cropping2D 'crop': the language has no operation for it",
    ),
    "a size": (
        lambda kl: [kl.Resizing(8, 8, name="smaller"), conv()],
        "Resizing 'smaller': the language has no operation for it",
    ),
    "rows for columns": (
        lambda kl: [conv(), kl.Permute((2, 1, 3), name="turn"), conv(name="c")],
        "Conv2D 'c': an input whose axes are N x C x W x H, not a map",
    ),
    "training=True": (
        lambda kl: [lambda x: kl.Dropout(0.5, name="always")(x, training=True)],
        "Dropout 'always': it is called with 'training=True'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_language_can_not_say(name: str, tmp_path: Path) -> None:
    from keras import layers as kl

    build, message = REFUSED[name]
    assert refused(single(*build(kl)), tmp_path).startswith(message)


def test_inputs_and_outputs_with_names(tmp_path: Path) -> None:
    import keras
    from keras import layers as kl

    model = single(kl.Identity(), conv())
    named = keras.Model({"image": model.input}, {"class": model.output})
    path = saved(randomized(named), tmp_path, "keras")
    assert difference(model, read(path)) < TOLERANCE


def test_what_rearranged_a_map_is_named(tmp_path: Path) -> None:
    from keras import layers as kl

    parts = [
        conv(padding="same"),
        kl.Reshape((6, 6, 32), name="fold"),
        kl.ReLU(),
        kl.GlobalMaxPooling2D(),
    ]
    said = refused(single(*parts), tmp_path)
    assert "a max over the axes [1, 2] of N x Ha x HbWa x WbC; what it takes is no map" in said
    assert said.endswith("Reshape 'fold' rearranges it")


# --- images of other sizes -----------------------------------------------------------------------


OPEN = (None, None, 3)


@pytest.mark.parametrize("begins", ["pooling", "convolution"])
@pytest.mark.parametrize("kind", ["MaxPooling2D", "AveragePooling2D"])
def test_poolings_are_padded_for_all_sizes(kind: str, begins: str, tmp_path: Path) -> None:
    """Where a pooling's stride is its window, the rule adds nothing for images of even sizes."""
    from keras import layers as kl

    pool = getattr(kl, kind)(2, padding="same")
    layers_ = [pool, conv(4)] if begins == "pooling" else [conv(4, padding="same"), kl.ReLU(), pool]
    model = randomized(single(*layers_, conv(5), size=OPEN))
    found = read(saved(model, tmp_path, "keras"), size=16)
    assert not any("another network" in note for note in found.notes), found.notes
    assert [difference(model, found, size) < TOLERANCE for size in (16, 17)] == [True, True]


@pytest.mark.parametrize("size", [None, 16])
def test_a_block_of_the_library_that_holds_for_even_sizes(size: int | None, tmp_path: Path) -> None:
    """It is the model where the model takes no other sizes; else what differs is told."""
    from keras import layers as kl

    stack = [conv(8, padding="same"), kl.ReLU(), kl.MaxPooling2D(2, padding="same", name="pool")]
    model = randomized(single(*stack, conv(4), size=(size, size, 3)))
    found = read(saved(model, tmp_path, "keras"), library=True, size=16)
    assert "block: conv_stack" in found.text and difference(model, found, 16) < TOLERANCE
    told = [note for note in found.notes if "another network" in note]
    assert told == ([] if size else [
        "for images of 33x31 the spec is another network than the model, in which MaxPooling2D "
        "'pool' is max_pool with ceil True, in the spec max_pool with ceil False: they are one for "
        "images of 16x16"
    ])  # fmt: skip
    assert size or difference(model, found, 17) > 1e-3


@pytest.mark.parametrize("size", [16, 17])
def test_a_block_of_the_library_that_holds_for_all_sizes(size: int, tmp_path: Path) -> None:
    """Means of two rows and columns are cut off by the border as `ceil: true` has it."""
    from keras import layers as kl

    def normed(x: Any, *window: int) -> Any:
        x = kl.ZeroPadding2D()(x) if window[0] == 3 else x
        return kl.BatchNormalization()(kl.Conv2D(8, *window, use_bias=False)(x))

    def block(x: Any) -> Any:
        y = normed(kl.ReLU()(normed(x, 3, 2)), 3, 1)
        x = normed(kl.AveragePooling2D(2, padding="same")(x), 1)
        return kl.ReLU()(kl.Add()([x, y]))

    model = randomized(single(lambda x: kl.ReLU()(normed(x, 3)), block, size=OPEN))
    found = read(saved(model, tmp_path, "keras"), library=True, size=size)
    assert "block: basic" in found.text and "shortcut: avg_pool_shortcut" in found.text, found.text
    assert not any("another network" in note for note in found.notes), found.notes
    assert [difference(model, found, size) < TOLERANCE for size in (16, 17)] == [True, True]


def test_a_convolution_is_padded_for_all_sizes(tmp_path: Path) -> None:
    """Also where the rule adds as much on every side at the one size that the file has."""
    model, other = randomized(small(33)), small(32)
    found = read(saved(model, tmp_path, "keras"))
    assert difference(model, found) < TOLERANCE
    other.set_weights(model.get_weights())
    assert difference(other, found, 32) < TOLERANCE, found.text


def test_rows_that_are_added_on_one_side_are_compared_for_other_sizes(tmp_path: Path) -> None:
    from keras import layers as kl

    one_sided = [kl.ZeroPadding2D(((0, 1), (0, 1)), name="below"), conv(4, strides=2)]
    model = randomized(single(*one_sided, size=OPEN))
    notes = " ".join(read(saved(model, tmp_path, "keras"), size=16).notes)
    assert "for images of 33x31 the spec is another network" in notes and "'below'" in notes


@pytest.mark.parametrize(
    ("stated", "size"), [((None, None), (9, 7)), ((None, 12), (9, 12)), ((12, 12), (12, 12))]
)
def test_sizes_that_are_open(
    stated: tuple[int | None, int | None], size: tuple[int, int], tmp_path: Path
) -> None:
    path = saved(single(conv(4), size=(*stated, 3)), tmp_path, "keras")
    model = file.read(path, path.name, (3, 12, 12)).model
    assert model.for_images_of((9, 7)).shape == (1, *size, 3)
    assert any("images of any size" in note for note in model.notes) == (size != (12, 12))


@pytest.mark.parametrize("order", ["to last", "to first"])
def test_images_that_are_turned_first(order: str, tmp_path: Path) -> None:
    """Whether a model's images have their channels first is told by what it does with them."""
    import keras
    from keras import layers as kl

    keras.utils.set_random_seed(0)
    if order == "to last":
        turned = single(kl.Permute((2, 3, 1)), conv(name="c"), size=(3, 12, 12))
        model = file.read(saved(randomized(turned), tmp_path, "keras"), "m").model
        assert not model.is_channels_last and model.shape == (1, 3, 12, 12)
        found = imported(model, Options("imported", "Imported", False), str(tmp_path / "n.yaml"))
        assert found.network.input.dimensions == (3, 12, 12)
    else:
        first: dict[str, Any] = {"data_format": "channels_first"}
        given = kl.Input((12, 12, 3))
        x = conv(name="c", **first)(kl.Permute((3, 1, 2))(given))
        x = kl.Dense(5, name="d")(kl.GlobalAveragePooling2D(**first)(x))
        model = file.read(saved(keras.Model(given, x), tmp_path, "keras"), "m").model
        assert model.is_channels_last and model.shape == (1, 12, 12, 3)
        imported(model, Options("imported", "Imported", False), str(tmp_path / "n.yaml"))


def test_a_class_of_its_own(tmp_path: Path) -> None:
    import keras

    @keras.saving.register_keras_serializable("mine")
    class Conv2D(keras.layers.Conv2D):  # type: ignore[misc]
        """Bears the name of one of Keras'."""

    told = refused(single(Conv2D(4, 3, name="own")), tmp_path)
    assert told.startswith("Conv2D 'own': a class of 'test_keras' that is not Keras' own") or (
        "that is not Keras' own: its code is not run" in told
    )


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    import keras
    from keras import layers as kl

    one, two = kl.Input((8, 8, 3), name="one"), kl.Input((8, 8, 3), name="two")
    told = refused(keras.Model([one, two], conv()(kl.Add()([one, two]))), tmp_path)
    assert told == "the model: several inputs: 'one', 'two'"
    x = conv(name="a")(one)
    told = refused(keras.Model(one, [x, conv(name="b")(x)]), tmp_path)
    assert told == "the model: several outputs: 'a', 'b'"


def changed(path: Path, change: Callable[[Any], None]) -> Path:
    """The archive with another configuration."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    document = json.loads(members["config.json"])
    change(document)
    members["config.json"] = json.dumps(document).encode()
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    return path


def layer_of(document: Any, name: str) -> Any:
    return next(each for each in document["config"]["layers"] if each["name"] == name)


def message(path: Path) -> str:
    with pytest.raises(SpecError) as raised:
        read(path)
    return str(raised.value)


def with_filters(stated: int | None) -> Callable[[Any], None]:
    return lambda d: layer_of(d, "block0_conv1")["config"].update(filters=stated)


CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "an option": (
        lambda d: layer_of(d, "block0_conv1")["config"].update(rotation=3),
        "Conv2D 'block0_conv1': its option 'rotation' is not known here",
    ),
    **{
        f"filters {stated}": (
            with_filters(stated),
            f"Conv2D 'block0_conv1': its 'filters' is {shown}, not a whole number from 1 to 65,536",
        )
        for stated, shown in ((10**12, "1000000000000"), (-3, "-3"), (0, "0"), (None, "null"))
    },
    "a kernel": (
        lambda d: layer_of(d, "block0_conv1")["config"].update(kernel_size=10**12),
        "its 'kernel_size' is 1000000000000, not two whole numbers from 1 to 65,536",
    ),
    "another size": (
        lambda d: layer_of(d, "block0_conv1")["config"].update(filters=9),
        "Conv2D 'block0_conv1': its kernel has 3x3x8x8 values; its configuration asks for 3x3x?x9",
    ),
    "another source": (
        lambda d: layer_of(d, "block2_conv1")["inbound_nodes"][0]["args"][0]["config"].update(
            keras_history=["block0_act2", 0, 0]
        ),
        "",
    ),
    "a circle": (
        lambda d: layer_of(d, "block0_conv1")["inbound_nodes"][0]["args"][0]["config"].update(
            keras_history=["block0_bn1", 0, 0]
        ),
        "takes what follows from it",
    ),
    "a layer that is not there": (
        lambda d: layer_of(d, "block0_conv1")["inbound_nodes"][0]["args"][0]["config"].update(
            keras_history=["nothing", 0, 0]
        ),
        "it names 'nothing', which gives nothing",
    ),
    "an input that is not there": (
        lambda d: d["config"]["layers"].pop(0),
        "is none of its layers",
    ),
    "a module": (
        lambda d: layer_of(d, "block0_conv1").update(module="os"),
        "Conv2D 'block0_conv1': a class of 'os' that is not Keras' own: its code is not run",
    ),
    "a model's module": (
        lambda d: d.update(module="mine", class_name="Model"),
        "Model 'the model': a class of 'mine' that is not Keras' own",
    ),
    "no layers": (lambda d: d["config"].update(layers=[]), "its configuration lists no layers"),
    "a stranger's slope": (
        lambda d: layer_of(d, "block0_act2")["config"].update(negative_slope=float("inf")),
        "ReLU 'block0_act2': its 'negative_slope' is Infinity, not a number",
    ),
    "a side branch": (
        lambda d: layer_of(d, "block0_act2")["inbound_nodes"].append(
            layer_of(d, "block0_add")["inbound_nodes"][0]
        ),
        "",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_configuration_that_was_changed(name: str, tmp_path: Path) -> None:
    change, expected = CHANGES[name]
    path = changed(saved(small(), tmp_path, "keras"), change)
    assert expected in message(path)


def test_weights_that_stand_elsewhere(tmp_path: Path) -> None:
    """The name of a layer that the file states beside its weights is another one's."""
    import h5py

    path = saved(small(), tmp_path, "keras")
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    held = io.BytesIO(members["model.weights.h5"])
    with h5py.File(held, "r+") as root:
        pair = [root["layers/conv2d_1/vars"], root["layers/conv2d_2/vars"]]
        names = [each.attrs["name"] for each in pair]
        for each, name in zip(pair, names[::-1], strict=True):
            each.attrs["name"] = name
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, held.getvalue() if name == "model.weights.h5" else data)
    assert "where its weights should be in the file are those of 'block0_conv2'" in message(path)


def test_weights_without_a_configuration(tmp_path: Path) -> None:
    model = small()
    model.save_weights(tmp_path / "a.weights.h5")
    assert "holds weights alone: it has no configuration" in message(tmp_path / "a.weights.h5")


def without(path: Path, name: str) -> Path:
    """The archive without one of its members."""
    with zipfile.ZipFile(path) as old:
        members = {each: old.read(each) for each in old.namelist() if each != name}
    with zipfile.ZipFile(path, "w") as new:
        for each, data in members.items():
            new.writestr(each, data)
    return path


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("config.json", "RS951: 'model.keras' holds weights alone: it has no configuration"),
        ("model.weights.h5", "RS901: 'model.keras' has no weights: there is no 'model.weights.h5'"),
    ],
)
def test_an_archive_that_lacks_something(
    member: str, expected: str, command: Command, tmp_path: Path
) -> None:
    without(saved(small(), tmp_path, "keras"), member)
    code, told = command("model.keras")
    assert code == 1 and expected in told


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_model_that_was_not_built(ending: str, tmp_path: Path) -> None:
    import keras
    from keras import layers as kl

    model = keras.Sequential([conv(), kl.GlobalMaxPooling2D(), kl.Dense(4)])
    said = message(saved(model, tmp_path, ending))
    assert "has a model without weights" in said


def test_progress_is_told_at_a_terminal(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(small(), tmp_path, "keras")
    assert "…" not in command("model.keras")[1]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    told = command("model.keras", "--force")[1]
    assert "reading model.keras …" in told and "running both networks …" in told


def test_a_tensor_that_would_fill_the_memory(tmp_path: Path) -> None:
    """A file of HDF5 states sizes that it does not hold."""
    import h5py
    from keras import layers as kl

    path = saved(single(conv(4), kl.Flatten()), tmp_path, "h5")
    with h5py.File(path, "r+") as root:
        group = root["model_weights/classifier/classifier"]
        del group["kernel"]
        group.create_dataset("kernel", (10**9, 4), "float32", chunks=(1000, 4))
    assert "would grow beyond all that the file holds" in message(path)


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    import keras

    keras.config.set_dtype_policy("float32")
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        code = cli.main(["import", *words, "--no-library", "--out", "mine.yaml"])
        done = capsys.readouterr()
        return code, done.out + done.err

    return run


Command = Callable[..., tuple[int, str]]


def test_the_command(command: Command, tmp_path: Path) -> None:
    saved(randomized(small(None)), tmp_path, "keras")
    code, told = command("model.keras", "--input", "3x32x32", "--weights", "mine.keras")
    assert code == 0 and "same graph: " in told and "same logits: " in told, told
    assert cli.main(["check", "mine.yaml"]) == 0


@pytest.mark.parametrize("ending", ["keras", pytest.param("h5", marks=pytest.mark.slow)])
def test_keras_runs_what_was_understood(ending: str, command: Command, tmp_path: Path) -> None:
    """Models within models, layers of one input, half precision and what training alone has."""
    import keras
    from keras import layers as kl

    keras.config.set_dtype_policy("mixed_float16")
    inner = kl.Input((None, None, 4))
    body = keras.Model(inner, residual(inner, 4, 1, "a"), name="body")
    tail = keras.Sequential([kl.SeparableConv2D(6, 3), kl.LeakyReLU(), kl.Dropout(0.5)], name="t")
    stem = [kl.RandomFlip(), kl.Rescaling(2.0, -1), kl.Conv2D(4, 3, name="stem")]
    model = keras.Sequential([kl.Input((12, 12, 3)), *stem, body, tail, kl.Flatten(), kl.Dense(3)])
    code, told = command(saved(randomized(model), tmp_path, ending).name)
    assert code == 0 and "same logits: " in told, told


def test_the_user_s_backend_of_keras_does_not_matter(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's means of windows that are cut off by the border are others than TensorFlow's."""
    from keras import layers as kl

    saved(randomized(single(kl.AveragePooling2D(3, 2, padding="same"))), tmp_path, "keras")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    code, told = command("model.keras")
    assert code == 0 and "same logits: " in told, told


@pytest.mark.parametrize(
    ("installed", "backend"),
    [
        ({"tensorflow", "jax", "torch"}, "tensorflow"),
        ({"jax", "torch"}, "jax"),
        ({"torch"}, "openvino"),
    ],
)
def test_keras_runs_on_the_first_backend_that_is_installed(
    installed: set[str], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "openvino")
    monkeypatch.setattr(
        keras_model, "find_spec", lambda name: object() if name in installed else None
    )
    assert keras_model.comparing() == {"KERAS_BACKEND": backend}


def test_the_logits_are_compared_with_keras(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epsilon that is read as another one is no other graph, but other numbers."""
    saved(randomized(small()), tmp_path, "keras")
    right = layers.RULES["BatchNormalization"]

    def wrong(call: Any) -> Any:
        made = right(call)
        for node in call.written.nodes:
            if node.kind == "BatchNormalization":
                node.attributes["epsilon"] = 0.1
        return made

    monkeypatch.setitem(layers.RULES, "BatchNormalization", wrong)
    code, told = command("model.keras")
    assert code == 1 and "computes something else" in told
    assert not (tmp_path / "mine.yaml").exists()


def test_what_keras_can_not_run_is_told(command: Command, tmp_path: Path) -> None:
    """TensorFlow has no convolution whose channels stand first on a CPU."""
    from keras import layers as kl

    first = conv(4, data_format="channels_first")
    flat = kl.Flatten(data_format="channels_first")
    saved(single(first, flat, size=(3, 12, 12)), tmp_path, "keras")
    code, told = command("model.keras")
    assert code == 0 and "logits not compared: Keras can't run it here: " in told, told
