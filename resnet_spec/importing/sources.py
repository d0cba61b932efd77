"""Where a model comes from: which reader has it, and who computes its output for the proof."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from resnet_spec.diagnostics import SpecError, quoted
from resnet_spec.disk.regular import open_regular
from resnet_spec.importing.errors import Unsupported, unreadable, unsaid
from resnet_spec.importing.proof import (
    DECIDES,
    MAX_ELEMENTS,
    NotRun,
    Runtime,
    images_for,
    installed,
    pixels_for,
    process_of,
)
from resnet_spec.importing.readers import onnx_file, tensors
from resnet_spec.importing.readers.model import LEFT_OUT, Model, listed
from resnet_spec.importing.sizes import NUMBER, multiples, others
from resnet_spec.verify.session import RunnerError
from resnet_spec.weights import formats
from resnet_spec.weights.checkpoint import CUT_OFF, MissingPackage
from resnet_spec.weights.formats import exported, other_files

KNOWN = (
    "ONNX (.onnx), Keras (.keras, and .h5 of a whole model), torch.export (.pt2), and "
    "module:function of a PyTorch model"
)
LIMIT = 600.0  # seconds; the largest networks take some tens
WEIGHTS_ALONE = (
    "{!r} finds the built-in network that weights are of; a PyTorch model is imported by its "
    "function: module:function"
)
COMPUTED = (
    "checkpoints that the model gets later can't be converted: these weights are computed from "
    "theirs: {}"
)
ONE_WAY = (
    "its code decides at {} by a value of the images: the spec has the way that it took for zeros"
)
ALONE = "it takes one image at a time, and two at once fail ({}); the spec takes batches"
UNSEEN = "its training can't be seen ({}): what only that does in {} is left out"
KEPT = "norms that use their running statistics in training, too, are others in the spec: {}"
_UNKNOWN = "{}: it can't be read, since PyTorch's exporter has no form for it"
NO_FORM = (
    "for images of {} PyTorch's exporter has no form for {}{}: "
    "there the spec may be another network"
)
_ONNX = b"\x08"  # its first field, the version
_OF_KERAS = frozenset({"config.json", "metadata.json", "model.weights.h5"})
_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF"
_FUNCTION = re.compile(r"(?P<module>[\w.]+|[^:]+\.py):(?P<function>[A-Za-z_]\w*)")
Size = tuple[int, int, int]


class Source(NamedTuple):
    """A model that was read, and what runs it.

    `examined` gives the model with what its process found of it since then.
    """

    model: Model
    runtime: Runtime
    examined: Callable[[], Model]


def runs_code(name: str) -> bool:
    """Whether a model's name is that of a function, whose code reading it runs."""
    return _FUNCTION.fullmatch(name) is not None and not Path(name).exists()


def read(
    name: str,
    size: Size,
    folder: Path,
    within: ExitStack,
    limit: float = LIMIT,
    meanwhile: Callable[[], object] = lambda: None,
) -> Source:
    """A model by what it is called on the command line; `size` is of images it leaves open.

    `within` ends the process that goes on to examine the model. `limit`: seconds that code of a
    stranger may take each time that it is asked. What is needed later can be done `meanwhile`,
    where a process has to export the model first. Raises `SpecError` (RS901, RS902, RS951 to
    RS953), `MissingPackage` and `RunnerError`, as does what it gives.
    """
    examined = name, folder, within, limit, meanwhile
    if runs_code(name):
        return _Examining(*examined).read("function", name=name, size=size)
    path = Path(name)
    if path.is_dir():
        _refuse_folder(path, name)
    head = _head(path, name)
    if head.startswith(_ONNX):
        return _of_onnx(path, onnx_file.read(path, name, size[1:]), folder)
    if head.startswith(_HDF5) or (head.startswith(_ZIP) and _is_keras(path)):
        return _of_keras(path, name, size, folder)
    if head.startswith(_ZIP):
        _check_archive(path, name)
        return _Examining(*examined).read("archive", path=str(path.resolve()))
    if path.suffix == ".py":
        unreadable(name, f"{quoted(name)} is no model", f"name its function: {name}:FUNCTION")
    if head.startswith(b"\x80") or head[8:9] == b"{":  # a pickle, safetensors
        _refuse_weights(path, name)
    other = other_files.told(path, name)
    what, hint = (other.what, other.help) if other else ("no model", None)
    unreadable(name, f"{quoted(name)} is {what}", hint or f"these can be read: {KNOWN}")


def _refuse_folder(path: Path, name: str) -> NoReturn:
    """RS951 for a folder, which is no model, with what stands in it."""
    found = other_files.folder(path, name)
    hint = f"name a file: {KNOWN}"
    if found.weights == name:
        hint = (
            "save the model as .keras, or convert it: python -m tf2onnx.convert "
            f"--saved-model {name} --output net.onnx"
        )
    elif found.weights:
        match = f"resnet-spec weights match {found.weights}"
        hint = f"{WEIGHTS_ALONE.format(match)}"
    unreadable(name, f"{quoted(name)} is {found.what}, no model with its graph", hint)


def _refuse_weights(path: Path, name: str) -> NoReturn:
    """RS951 for a file of weights, or for what it is in their stead."""
    try:
        with formats.opened(path, name):
            pass
    except SpecError as error:
        _as_model(error, name)
    except (MissingPackage, ModuleNotFoundError):
        pass
    hint = WEIGHTS_ALONE.format("resnet-spec weights match")
    unreadable(name, f"{quoted(name)} is a file of weights alone: it has no graph", hint)


def _as_model(error: SpecError, name: str) -> NoReturn:
    """What is told of a file as one of weights, as of one that is to be a model."""
    found = error.diagnostics[0]
    if found.code != "RS901":
        raise error
    unreadable(name, found.message, found.help)


def _check_archive(path: Path, name: str) -> None:
    """RS951 for an archive that is no program of torch.export, or one that can't be trusted."""
    try:
        kind = formats.format_of(path, name)
    except SpecError as error:
        _as_model(error, name)
    if kind in ("pytorch", "npz"):
        _refuse_weights(path, name)
    exported.check_archive(path, name)


def _is_keras(path: Path) -> bool:
    """Whether an archive is one of Keras, by the names in it; it may lack what is needed."""
    try:
        with zipfile.ZipFile(path) as archive:
            return not _OF_KERAS.isdisjoint(archive.namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        return False


def _of_keras(path: Path, name: str, size: Size, folder: Path) -> Source:
    """A model of Keras, which runs as far as its configuration was understood."""
    from resnet_spec.importing.readers.keras import file

    model, config = file.read(path, name, size)

    def output() -> Any:
        restated = folder / "model.json"
        restated.write_text(config, encoding="utf-8")
        # Keras tells by the ending how weights are kept.
        weights = folder / ("model.keras" if zipfile.is_zipfile(path) else "model.h5")
        weights.symlink_to(path.resolve())
        with process_of("keras") as process:
            asked = {"path": str(weights), "config": str(restated), **_files(model, folder)}
            process.ask("keras", **asked)
            try:
                process.answer()
            except RunnerError as error:  # older files, and types of maps, that it reads no more
                raise NotRun(f"Keras can't run it here: {_plain(error.message)}") from None
        return np.load(folder / _OUTPUT)

    return Source(model, Runtime(("keras",), output), lambda: model)


def _plain(reason: str) -> str:
    """What a framework says, without colours, without where in itself it was."""
    text = " ".join(re.sub(r"\x1b\[[\d;]*m|\{\{.*?\}\}", "", reason).split())
    text = re.split(r" \[Op:| Arguments received", text)[0]
    return text.rpartition(".call(). ")[2].strip()[:200]


def _head(path: Path, shown: str) -> bytes:
    """How a file begins."""
    try:
        with open_regular(path) as file:
            head = file.read(16)
    except FileNotFoundError:
        unreadable(shown, f"there is no file {quoted(shown)}", f"these can be read: {KNOWN}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        unreadable(shown, f"cannot read {quoted(shown)}: {reason.lower()}")
    if not head:
        unreadable(shown, f"{quoted(shown)} is empty", CUT_OFF)
    return head


# --- who computes --------------------------------------------------------------------------------


_OUTPUT = "wanted.npy"
_PIXELS, _OF_PIXELS = "pixels.npy", "of_pixels.npy"


def _files(model: Model, folder: Path) -> dict[str, str]:
    """Where a process finds the images, and where its output is to be."""
    images = folder / "theirs.npy"
    np.save(images, images_for(model))
    return {"images": str(images), "out": str(folder / _OUTPUT)}


def _of_onnx(path: Path, model: Model, folder: Path) -> Source:
    """A graph of ONNX, which ONNX Runtime runs in a process of its own."""

    def output() -> Any:
        with process_of("onnx") as process:
            process.ask("onnx", path=str(path), **_files(model, folder))
            try:
                process.answer()
            except RunnerError as error:  # newer versions and operators that it does not know
                raise NotRun(f"ONNX Runtime can't run it: {_plain(error.message)}") from None
        return np.load(folder / _OUTPUT)

    return Source(model, Runtime(("onnxruntime",), output), lambda: model)


class _Examining:
    """A PyTorch model in a process of its own, which runs it while its graph is understood."""

    def __init__(
        self,
        shown: str,
        folder: Path,
        within: ExitStack,
        limit: float,
        meanwhile: Callable[[], object],
    ) -> None:
        for package in ("torch", "onnx"):
            if not installed(package):
                raise MissingPackage("reading a PyTorch model", package, package)
        self.shown, self.folder, self.limit, self.meanwhile = shown, folder, limit, meanwhile
        self.process = within.enter_context(process_of("torch"))

    def read(self, do: str, **asked: object) -> Source:
        """Its graph and its weights; what else is asked for, it does meanwhile."""
        path, values = self.folder / "exported.onnx", self.folder / "exported"
        self.process.ask(do, out=str(path), values=str(values), **asked)
        self.meanwhile()
        told = self._answer()
        if "unknown" in told:
            operator, place = told["unknown"]
            unsaid(self.shown, Unsupported(_UNKNOWN.format(operator), place or "the model"))
        _check_inputs(told.get("inputs", ()), self.shown)
        _check_outputs(told["outputs"], self.shown)
        _check_decisions(told["decides"], self.shown)
        model = onnx_file.read(path, self.shown, values=tensors.mapped(values))
        model = model._replace(format="PyTorch", notes=(*model.notes, *_notes(told)))
        model = model._replace(learned=frozenset(told["learned"]))
        self.told = told
        pixels = None
        runs = math.prod(model.shape) <= MAX_ELEMENTS
        if runs:
            files = _files(model, self.folder)
            self.process.ask("run_exported", **files)
            if do == "function":
                self._ask_of_code(model, files)
                pixels = self._of_pixels
        self.process.ask_no_more()
        runtime = Runtime(("torch",), lambda: np.load(self.folder / _OUTPUT), pixels)
        if pixels:
            return Source(model, runtime, lambda: self._examined(model))
        if runs:
            self._answer()
        self.process.close()  # it has more in memory than code that makes a model
        model = _without(
            model, told, {"fails": "a map would take more than 1 GiB"} if not runs else {}
        )
        return Source(model, runtime, lambda: model)

    def _ask_of_code(self, model: Model, files: Mapping[str, str]) -> None:
        pixels = {"images": str(self.folder / _PIXELS), "out": str(self.folder / _OF_PIXELS)}
        np.save(pixels["images"], pixels_for(model))
        self.process.ask("together", **files)
        self.process.ask("run_exported", **pixels)
        outs = [str(path) for path in self._elsewhere()]
        size, channels = model.image_size, model.shape[:2]
        tried = [*others(size), multiples(size)]
        batches = [[[*channels, *each] for each in sizes] for sizes in tried]
        self.process.ask("at_other_sizes", batches=batches, outs=outs)
        self.process.ask("in_training", shape=model.shape)

    def _of_pixels(self) -> Any:
        return np.load(self.folder / _OF_PIXELS)

    def _examined(self, model: Model) -> Model:
        self._answer()
        model = _taking_several(model, self._answer())
        self._answer()
        model = self._in_training(self._at_other_sizes(model))
        self.process.close()  # the proof needs the memory
        return model

    def _elsewhere(self) -> list[Path]:
        return [self.folder / f"elsewhere{place}.onnx" for place in range(NUMBER)]

    def _at_other_sizes(self, model: Model) -> Model:
        """A model with what it is for images of other sizes, if it takes any."""
        try:
            shapes, failed = self.process.answer(self.limit)
        except (RunnerError, TimeoutError):  # what it does to them is its own affair
            self.process.kill()
            return model
        if failed:
            size, operator, place = failed
            note = NO_FORM.format(size, operator, f" in {place}" if place else "")
            return model._replace(notes=(*model.notes, note))
        paths = self._elsewhere()[: len(shapes)]
        read = (onnx_file.read(path, model.shown, values=model.constants) for path in paths)
        elsewhere = tuple(each._replace(learned=model.learned) for each in read)
        return model._replace(elsewhere=elsewhere, takes_one_size=not shapes)

    def _in_training(self, model: Model) -> Model:
        """A model with what it does in training alone, as far as that is seen."""
        try:
            told = self.process.answer(self.limit)
        except (RunnerError, TimeoutError):  # what it does then is its own affair, too
            self.process.kill()
            told = {"fails": "it gives no answer"}
        return _without(model, self.told, told)

    def _answer(self) -> Any:
        """An answer, if there is one in so many seconds."""
        shown = quoted(self.shown)
        try:
            return self.process.answer(self.limit)
        except TimeoutError:
            unreadable(
                self.shown,
                f"{shown} gave no answer within {self.limit:g} seconds",
                f"give it more time: --time-limit {2 * self.limit:g}",
            )
        except RunnerError as error:
            unreadable(self.shown, f"{shown} gave no model: {error.message.strip()}")


def _notes(told: Mapping[str, Any]) -> list[str]:
    """What is to be told of an export."""
    notes = [ONE_WAY.format(place) for place in told["decides"]]
    if told["computed"]:
        notes.append(COMPUTED.format(", ".join(told["computed"][:4])))
    return notes


def _without(model: Model, exported: Mapping[str, Any], trained: Mapping[str, Any]) -> Model:
    """A model with a note of what it does in training alone, which the spec has not."""
    notes, names = [*model.notes], {*exported["left_out"], *trained.get("left_out", ())}
    if exported["asking"] and "fails" in trained:
        notes.append(UNSEEN.format(trained["fails"], ", ".join(exported["asking"])))
    if trained.get("norms"):
        notes.append(KEPT.format(listed([*map(quoted, trained["norms"])])))
    if names:
        notes.append(LEFT_OUT.format(", ".join(sorted(names))))
    return model._replace(notes=tuple(notes))


def _taking_several(model: Model, told: Mapping[str, str]) -> Model:
    """A model with a note where it can't take two images at once; RS953 where they are mixed."""
    if "mixes" in told:
        unsaid(model.shown, Unsupported(told["mixes"], "the model"))
    if "fails" not in told:
        return model
    return model._replace(notes=(*model.notes, ALONE.format(told["fails"])))


def _check_decisions(asked: Mapping[str, bool], shown: str) -> None:
    """RS953 for code whose numbers or conditions are others for other images."""
    places = [place for place, varies in asked.items() if varies]
    if places:
        what = f"its code decides or computes at {', '.join(places[:4])} by values of the images"
        unsaid(shown, Unsupported(f"{what}, outside of PyTorch's tensors", "the model", DECIDES))


def _check_inputs(names: Sequence[str], shown: str) -> None:
    """RS953 for a model that takes more than images."""
    if names:
        what = f"several inputs: {listed([*map(quoted, names)])}"
        unsaid(shown, Unsupported(what, "the model", "wrap it in a module that takes images alone"))


def _check_outputs(names: Sequence[str], shown: str) -> None:
    """RS953 for a model that gives several tensors, or none."""
    if len(names) == 1:
        return
    given = listed([*map(quoted, names)])
    what = f"several outputs: {given}" if names else "no tensor as its output"
    unsaid(shown, Unsupported(what, "the model", "wrap it in a module that gives the logits alone"))
