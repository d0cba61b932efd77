"""How far a network with its weights is from their source, and in which stage that begins."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from resnet_spec.diagnostics import Diagnostic, Span, SpecError, expected, quoted
from resnet_spec.ir import Network
from resnet_spec.verify import compare
from resnet_spec.verify.plan import plan_of
from resnet_spec.verify.run import sources_of
from resnet_spec.verify.session import ENVIRONMENT, Process, RunnerError, scratch
from resnet_spec.weights import formats, keras_model
from resnet_spec.weights.against.worker import OUTPUT
from resnet_spec.weights.checkpoint import MissingPackage, read, refused, shape_text
from resnet_spec.weights.formats import exported

if TYPE_CHECKING:
    import numpy as np

_SOURCES = (
    "save the model with torch.export.save or torch.jit.save, or store images with what it made "
    "of them in an .npz, as 'input' and 'output'"
)
_WORKER = "resnet_spec.weights.against.worker"
_BATCH = 2
_IMAGES = ("input", "inputs", "images", "x")
_OUTPUTS = ("output", "outputs", "logits", "probabilities", "y")
_MAX_BYTES = 4_000_000_000  # of stored arrays in the widest type
# What runs a source, by the ending of its name: how it is called, and the packages that it needs.
RUNTIMES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    ".onnx": ("onnx", "ONNX Runtime", ("onnx", "onnxruntime")),
    ".keras": ("keras", "Keras", ("keras",)),
    ".h5": ("keras", "Keras", ("keras",)),
    ".hdf5": ("keras", "Keras", ("keras",)),
    ".pt2": ("pt2", "PyTorch", ("torch",)),
    ".pt": ("torchscript", "PyTorch", ("torch",)),
    ".pth": ("torchscript", "PyTorch", ("torch",)),
    ".npz": ("stored", "what was stored", ("numpy",)),
}


class Comparison(NamedTuple):
    """Differences relative to the largest value of the source's; a stage not seen there is None."""

    runtime: str
    images: tuple[int, ...]
    output: float
    stages: Mapping[str, float | None]
    softmax: bool  # the source gives probabilities, and ours were made into such

    def first(self, tolerance: float) -> str | None:
        """The first stage whose values the source does not have."""
        for name, value in self.stages.items():
            if value is not None and not value <= tolerance:
                return name
        return None


def runtime(name: str) -> tuple[str, str, tuple[str, ...]] | None:
    """What runs a source of this name."""
    return next((each for end, each in RUNTIMES.items() if name.lower().endswith(end)), None)


def missing(name: str) -> list[str]:
    """The packages that running a source needs and that are not installed."""
    found = runtime(name)
    return [each for each in (found[2] if found else ()) if find_spec(each) is None]


def compared(network: Network, state: Mapping[str, Any], path: Path, shown: str) -> Comparison:
    """A network with the weights of a state against a source; raises `SpecError` (RS911)."""
    found = runtime(shown)
    assert found is not None
    kind, label, _ = found
    with scratch() as folder:
        if kind == "stored":
            images, theirs = _stored(path, shown, network)
            ours = _ours(network, state, images, folder)
        else:
            if kind == "pt2":
                exported.check_archive(path, shown)
            with _source(kind, path, shown) as process:
                images = _drawn(_opened(process, path, shown), network, shown)
                ours = _ours(network, state, images, folder)
                theirs = _run(process, images, ours, folder, shown)
    output = _output(theirs, ours["logits"].shape, network, shown)
    return _compared(network, label, images, ours, output, theirs)


def _compared(
    network: Network,
    label: str,
    images: np.ndarray,
    ours: Mapping[str, np.ndarray],
    output: np.ndarray,
    theirs: Mapping[str, np.ndarray],
) -> Comparison:
    logits = ours["logits"].astype("float64")
    output = output.reshape(logits.shape).astype("float64")
    softmax = _is_distribution(output) and not _is_distribution(logits)
    logits = _softmax(logits) if softmax else logits
    values = [value for name, value in theirs.items() if not name.startswith(OUTPUT)]
    stages = {
        stage.name: _nearest(ours[f"stage {stage.name}"], values)
        for stage in network.stages
        if f"stage {stage.name}" in ours
    }
    return Comparison(label, images.shape, compare.relative(logits, output), stages, softmax)


def _output(
    theirs: Mapping[str, np.ndarray], wanted: tuple[int, ...], network: Network, shown: str
) -> np.ndarray:
    """The one output that has as many numbers as the network's logits (N, classes)."""
    outputs = {
        name.removeprefix(OUTPUT): each for name, each in theirs.items() if name.startswith(OUTPUT)
    }
    listed = ", ".join(f"{quoted(n)} {shape_text(v.shape)}" for n, v in list(outputs.items())[:8])
    fitting = [each for each in outputs.values() if each.size == math.prod(wanted)]
    if len(fitting) > 1:
        message = f"{quoted(shown)} has several outputs of the size of the spec's: {listed}"
        _fail(shown, message, "store the images with the one that is meant: --against io.npz")
    if not fitting:
        _fail(
            shown,
            f"the output of {quoted(shown)} has another shape than the spec's "
            f"{shape_text(wanted)}: {listed or 'none'}",
            _classes(outputs, wanted, network),
        )
    return fitting[0]


def _classes(
    outputs: Mapping[str, np.ndarray], wanted: tuple[int, ...], network: Network
) -> str | None:
    """What to do where one output is that of a classifier with another number of classes."""
    given = [
        each.size // each.shape[0] for each in outputs.values() if each.shape[:1] == wanted[:1]
    ]
    if len(given) != 1 or wanted[1:] != (network.classes,):
        return None
    return (
        f"the source has {given[0]} classes: --set classes={given[0]}, with weights of as many; "
        "a head that was begun anew (--reset-head) has nothing to be compared with"
    )


def _nearest(ours: np.ndarray, values: list[np.ndarray]) -> float | None:
    """How far the value is that comes nearest; None where none has the shape."""
    exact = ours.astype("float64")
    alike = (value for value in values if value.shape == ours.shape)
    return min((compare.relative(exact, each.astype("float64")) for each in alike), default=None)


def _is_distribution(values: np.ndarray) -> bool:
    flat = values.reshape(len(values), -1)
    return bool((flat >= 0).all() and (abs(flat.sum(1) - 1) < 1e-3).all())


def _softmax(logits: np.ndarray) -> np.ndarray:
    import numpy as np

    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return found


# - ours -


def _ours(
    network: Network, state: Mapping[str, Any], images: np.ndarray, folder: Path
) -> dict[str, np.ndarray]:
    """The logits and the stages of the network: by PyTorch, or else by what the operations mean."""
    import numpy as np

    weights: dict[str, Any] = {n: np.asarray(value, np.float32) for n, value in state.items()}
    if find_spec("torch") is None:
        from resnet_spec.ir import evaluate

        made = evaluate.outputs(network, weights, images)
        return {"logits": made.logits, **{f"stage {n}": v for n, v in made.stages.items()}}
    plan, _ = plan_of(network, "float32")
    plan.write(folder)
    (folder / "torch.py").write_text(sources_of(network, ["torch"])["torch"], encoding="utf-8")
    np.savez(folder / "weights.npz", **weights)
    np.save(folder / "images.npy", images)
    try:
        with Process("torch", ENVIRONMENT) as process:
            for do, given in (
                ("open", {"folder": str(folder)}),
                ("load", {"weights": "weights.npz"}),
                ("forward", {"images": "images.npy", "training": False, "out": "ours.npz"}),
            ):
                process.ask(do, **given)
                process.answer()
    except RunnerError as error:
        _fail(network.path, f"the network can't be run: {error}")
    with np.load(folder / "ours.npz") as found:
        return {name: found[name] for name in found.files}


# - the source -


@contextmanager
def _source(kind: str, path: Path, shown: str) -> Iterator[Process]:
    try:
        with Process(kind, {**ENVIRONMENT, **keras_model.comparing()}, _WORKER) as process:
            yield process
    except RunnerError as error:
        _name_the_file(path, shown)
        _fail(shown, f"{quoted(shown)} can't be run: {error.message.splitlines()[0][:300]}")


def _name_the_file(path: Path, shown: str) -> None:
    """Raise `SpecError` where what can't be run is a broken file (RS901), or weights alone."""
    try:
        with formats.opened(path, shown) as file:
            if file.format != "PyTorch":
                return
    except (SpecError, ModuleNotFoundError, MissingPackage) as error:
        if isinstance(error, SpecError) and error.diagnostics[0].code == "RS901":
            raise
        return
    _fail(shown, f"{quoted(shown)} holds weights, and no model that could be run", _SOURCES)


def _opened(process: Process, path: Path, shown: str) -> dict[str, int | None]:
    process.ask("open", path=str(path.resolve()))
    found: dict[str, int | None] = process.answer()
    return found


def _run(
    process: Process,
    images: np.ndarray,
    ours: Mapping[str, np.ndarray],
    folder: Path,
    shown: str,
) -> dict[str, np.ndarray]:
    import numpy as np

    np.save(folder / "images.npy", images)
    shapes = sorted({value.shape for name, value in ours.items() if name != "logits"})
    out = folder / "theirs.npz"
    process.ask("run", images=str(folder / "images.npy"), shapes=shapes, out=str(out))
    process.answer()
    with np.load(out) as found:
        return {name: found[name] for name in found.files}


def _drawn(shape: Mapping[str, int | None], network: Network, shown: str) -> np.ndarray:
    """Images for both, of the size that the source asks for, or else of the spec's."""
    import numpy as np

    given = network.input
    size = (shape["h"] or given.height or 1, shape["w"] or given.width or 1)
    _check_images((shape["c"] or given.channels, *size), network, shown, "takes")
    count = (shape["n"] or _BATCH, given.channels, *size)
    return np.random.default_rng(0).standard_normal(count).astype(np.float32)


def _check_images(
    shape: tuple[int, int, int], network: Network, shown: str, does: str = "has"
) -> None:
    """RS911 for images (C, H, W) that a network does not take."""
    given, (channels, height, width) = network.input, shape
    what = f"{quoted(shown)} {does} images of"
    if channels != given.channels:
        _fail(shown, f"{what} {channels} channels, the spec of {given.channels}")
    if (height, width) != (given.height, given.width) and _is_fixed(network):
        _fail(
            shown,
            f"{what} {height}x{width}, the spec of {given.height}x{given.width}",
            f"--set input.height={height} --set input.width={width}",
        )


def _is_fixed(network: Network) -> bool:
    """Whether a network takes images of its own size alone, or is run so."""
    kinds = {operation.primitive.name for _, operation in network.operations()}
    return "flatten" in kinds or find_spec("torch") is None


def _stored(path: Path, shown: str, network: Network) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Images and what the source made of them, from a file of arrays."""
    import numpy as np

    with formats.opened(path, shown) as file:
        size = sum(8 * math.prod(tensor.shape) for tensor in file.tensors)
        if size > _MAX_BYTES:
            refused(shown, f"{quoted(shown)} may take {size:,} bytes")
        arrays = {tensor.name: read(tensor, shown) for tensor in file.tensors}
    images = _one_of(arrays, _IMAGES, shown)
    output = _one_of(arrays, _OUTPUTS, shown)
    if images.ndim != 4:
        _fail(
            shown,
            f"the images in {quoted(shown)} are {shape_text(images.shape)}, not N x C x H x W",
        )
    channels = network.input.channels
    if images.shape[3] == channels != images.shape[1]:
        images = images.transpose(0, 3, 1, 2)
    _check_images(images.shape[1:], network, shown)
    values = {}
    for name, value in arrays.items():
        if value.ndim == 4:
            values[name] = value
            values[f"{name}, channels last"] = value.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images, np.float32), {**values, f"{OUTPUT}output": output}


def _one_of(arrays: Mapping[str, np.ndarray], names: tuple[str, ...], shown: str) -> np.ndarray:
    found = next((arrays[name] for name in names if name in arrays), None)
    if found is None:
        help = expected(names[0], list(arrays), limit=8)
        _fail(shown, f"{quoted(shown)} has no array {quoted(names[0])}", help, code="RS901")
    return found


def _fail(shown: str, message: str, help: str | None = None, code: str = "RS911") -> NoReturn:
    raise SpecError([Diagnostic(code, message, Span(shown), help)])
