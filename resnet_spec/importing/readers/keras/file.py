"""A `.keras` archive or a legacy `.h5` as a graph: its configuration and its weights, by us.

Nothing in the file runs, and no Keras is needed. What its configuration says that no rule knows is
refused with the name of its layer.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from resnet_spec.diagnostics import counted, quoted
from resnet_spec.importing.errors import Unsupported, unreadable, unsaid
from resnet_spec.importing.readers.keras import layers, topology
from resnet_spec.importing.readers.keras.emitter import Call, Written
from resnet_spec.importing.readers.keras.restated import restated
from resnet_spec.importing.readers.keras.topology import Scope
from resnet_spec.importing.readers.keras.variables import Variables
from resnet_spec.importing.readers.model import FROZEN, LEFT_OUT, Model, listed
from resnet_spec.language.name_resolution import MAX_SIZE
from resnet_spec.weights.checkpoint import BROKEN, CUT_OFF, Checkpoint, MissingPackage

REGULARIZED = (
    "regularizers and constraints of weights are left out: {}; recipes have weight_decay instead"
)
_MAX_CONFIG = 50_000_000  # bytes
_HALF = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16")


class Read(NamedTuple):
    """A model, and the configuration that Keras may run it with."""

    model: Model
    config: str


def read(path: Path, shown: str, size: tuple[int, int, int] = (3, 224, 224)) -> Read:
    """The graph of a file; `size`: channels, rows and columns that the file leaves open.

    Raises `SpecError` (RS901, RS902, RS951 to RS953) and `MissingPackage`.
    """
    try:
        with _opened(path, shown) as (text, version, checkpoint):
            document = _parsed(text, shown)
            return _graph(document, version, checkpoint, path.stat().st_size, size)
    except Unsupported as error:
        unsaid(shown, error)
    except ModuleNotFoundError as error:
        raise MissingPackage(f"reading {quoted(shown)}", error.name or "h5py", "weights") from None


# --- the file ------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path, shown: str) -> Iterator[tuple[Any, str, Checkpoint]]:
    """The configuration, the version of Keras and the tensors of a file."""
    from resnet_spec.weights.formats import hdf5, keras

    if zipfile.is_zipfile(path):
        text, version = _of_archive(path, shown)
        with keras.opened(path, shown) as checkpoint:
            yield text, version, checkpoint
    else:
        with hdf5.opened(path, shown) as checkpoint:
            text, version = _of_hdf5(path)
            yield text, version, checkpoint


def _of_archive(path: Path, shown: str) -> tuple[Any, str]:
    """The two texts beside the weights, whose sizes are those that the archive states."""
    found: list[bytes | None] = []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in ("config.json", "metadata.json"):
                if name not in archive.namelist():
                    found.append(None)
                    continue
                with archive.open(name) as member:
                    found.append(member.read(_MAX_CONFIG + 1))
    except (*BROKEN, NotImplementedError, ValueError) as error:
        message = f"{quoted(shown)} is a broken archive: {str(error).lower()[:120]}"
        unreadable(shown, message, CUT_OFF)
    return found[0], _version(found[1])


def _version(text: bytes | None) -> str:
    try:
        return str(json.loads(text or b"{}")["keras_version"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return ""


def _of_hdf5(path: Path) -> tuple[Any, str]:
    import h5py

    with h5py.File(path, "r") as root:
        found = [root.attrs.get(key) for key in ("model_config", "keras_version")]
    version = found[1].decode("utf-8", "replace") if isinstance(found[1], bytes) else found[1]
    return found[0], str(version or "")


def _parsed(text: Any, shown: str) -> Any:
    if text is None:
        unreadable(
            shown,
            f"{quoted(shown)} holds weights alone: it has no configuration of a model",
            "save the model with model.save('model.keras'), or use 'resnet-spec weights' with a "
            "spec for the weights",
        )
    if not isinstance(text, str | bytes) or len(text) > _MAX_CONFIG:
        unreadable(shown, f"the configuration in {quoted(shown)} is no text, or too long for one")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        unreadable(shown, f"the configuration in {quoted(shown)} is no JSON")


# --- the graph -----------------------------------------------------------------------------------


def _graph(
    document: Any, version: str, checkpoint: Checkpoint, bytes_: int, size: tuple[int, int, int]
) -> Read:
    scope = topology.scope_of(document)
    steps, output = topology.steps_of(scope, "images")
    shape, is_last = _input(scope, steps, size)
    variables = Variables(checkpoint, bytes_)
    major = version.partition(".")[0]
    done = Written(variables, int(major) if major.isdigit() and len(major) < 4 else 2)
    done.ranks["images"] = 4
    turns = any(layer.options.has("dims") for layer in topology.layers_of(scope))
    done.always_last = is_last and not turns
    renamed: dict[str, str] = {}
    for step in steps:
        call = Call(done, step._replace(inputs=tuple(renamed.get(n, n) for n in step.inputs)))
        try:
            made = layers.written(call)
        except Unsupported as error:
            raise Unsupported(error.what, error.place or step.layer.shown, error.help) from None
        renamed[step.output] = made.name
        done.ranks[made.name] = made.rank
    model = Model(
        checkpoint.shown,
        "Keras",
        tuple(done.nodes),
        done.constants,
        done.parameters,
        "images",
        shape,
        renamed.get(output, output),
        tuple(_notes(scope, done)),
        is_last,
    )
    model = model.with_open_sides(_open_sides(scope, is_last))
    return Read(model, json.dumps(restated(scope, shape)))


def _input(
    scope: Scope, steps: list[topology.Step], size: tuple[int, int, int]
) -> tuple[tuple[int, int, int, int], bool]:
    """The shape of a batch of one image, and whether its channels stand last."""
    channels, rows, columns = size
    is_last = not any(
        layer.options.states("data_format", "channels_first") for layer in topology.layers_of(scope)
    )
    turns = [step.layer.options for step in steps if step.inputs == ("images",)]
    if any(each.states("dims", [2, 3, 1]) for each in turns):  # to channels last
        is_last = False
    if any(each.states("dims", [3, 1, 2]) for each in turns):
        is_last = True
    usual = (1, rows, columns, channels) if is_last else (1, channels, rows, columns)
    stated = topology.stated_shape(scope)
    if stated is None:
        return usual, is_last
    if not isinstance(stated, list) or len(stated) != 4:
        raise Unsupported(f"its input is {str(stated)[:80]}, not a batch of images", "the model")
    sizes = [1]
    for given, other in zip(stated[1:], usual[1:], strict=True):
        if given is None:
            sizes.append(other)
        elif type(given) is int and 1 <= given <= MAX_SIZE:
            sizes.append(given)
        else:
            raise Unsupported(f"its input is {str(stated)[:80]}", "the model")
    return (sizes[0], sizes[1], sizes[2], sizes[3]), is_last


def _open_sides(scope: Scope, is_last: bool) -> tuple[bool, bool]:
    """Whether it takes any number of rows, and of columns."""
    stated: Any = topology.stated_shape(scope) or [None] * 4
    rows, columns = stated[1:3] if is_last else stated[2:]
    return rows is None, columns is None


def _notes(scope: Scope, done: Written) -> Iterator[str]:
    every = list(topology.layers_of(scope))
    training = sorted({each.kind for each in every if each.kind in layers.PASSING} - {"Dropout"})
    if training:
        yield LEFT_OUT.format(", ".join(training))
    owners = dict.fromkeys(done.variables.owners.values())
    frozen = [each.shown for each in owners if each.options.states("trainable", False)]
    if 0 < len(frozen) < len(owners):  # all of them are where a model was frozen for evaluation
        yield FROZEN.format(listed(frozen))
    held = {each.shown: each.options.regularizers() for each in every}
    regularized = [f"{shown} ({', '.join(keys)})" for shown, keys in held.items() if keys]
    if regularized:
        yield REGULARIZED.format(listed(regularized))
    half = {policy for each in every if (policy := each.options.policy()) in _HALF}
    if half:
        yield f"it computes in {', '.join(sorted(half))}; here it does in single precision"
    if done.unscaled:
        norms = counted(len(done.unscaled), "norm")
        yield f"{norms} without a scale or a centre: ones or zeros stand for it"
    unused = done.variables.unused()
    if unused:
        names = ", ".join(quoted(each) for each in unused[:4])
        yield f"{len(unused)} tensors of the file are of no layer: {names}"
