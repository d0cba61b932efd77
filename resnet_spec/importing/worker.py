"""What a model computes, in a process of its own: the compiled network, or the source's runtime.

Started by `verify.session`, which asks it by lines of JSON; arrays go through files.
"""

from __future__ import annotations

import gc
import inspect
import json
import math
import os
import re
import sys
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from resnet_spec.importing import exporting, training
from resnet_spec.importing.readers import tensors
from resnet_spec.verify import foreign
from resnet_spec.verify.worker import load_module, run


class Worker:
    """Answers requests about one model."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.model: Any = None
        self.outputs: list[str] = []  # the names of what it gives
        self.asking: set[str] = set()  # classes whose code asks whether it is in training
        self.modules: set[str] = set()  # what was imported before the user's code ran

    def prepare(self) -> None:
        """Import PyTorch, before there is something to run."""
        import torch  # noqa: F401

    def run_compiled(self, source: str, name: str, weights: str, images: str, out: str) -> None:
        """The logits of a compiled PyTorch network with all of its weights, for several batches."""
        import torch

        build = getattr(load_module(Path(source), f"imported_{name}"), name)
        with _undrawn():
            model = build().eval()
        model.load_state_dict(dict(_read(weights)), strict=True, assign=True)
        model.float()
        with torch.no_grad():
            batches = torch.from_numpy(np.load(images))
            np.save(out, np.stack([model(batch).numpy() for batch in batches]))

    def function(self, name: str, size: list[int], out: str, values: str) -> dict[str, Any]:
        """Export what a function of the user's gives, a PyTorch model: this runs its code.

        Gives under `decides` where its code asks for numbers that it computes of the images, of
        which the export knows those for zeros alone, and whether they vary; under `left_out` what
        it does in training alone that is no plain dropout, and under `computed` the weights that
        checkpoints have in another form. Or under `unknown` an operator that has no export, under
        `inputs` the names of several.
        """
        import importlib

        import torch

        gc.freeze()  # what frameworks have is not looked through when the rest is freed
        self.modules = {*sys.modules}
        module, _, function = name.rpartition(":")
        if module.endswith(".py"):
            path = Path(module).resolve()
            sys.path.insert(0, str(path.parent))
            found = load_module(path, path.stem)
        else:
            sys.path.insert(0, os.getcwd())
            found = importlib.import_module(module)
        here = os.getpid()
        model = getattr(found, function)()
        if os.getpid() != here:
            os._exit(0)  # a copy of this process that the function made
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"{function}() gives a {type(model).__name__}, no torch.nn.Module")
        model, computed = _unwrapped(model)
        inputs = _inputs(model)
        if len(inputs) > 1:
            return {"inputs": inputs}
        told = self._export(model.float().eval(), (1, *size), out, values)
        return {**told, "computed": computed}

    def archive(self, path: str, out: str, values: str) -> dict[str, Any]:
        """Export the graph of an archive that was looked through before."""
        import torch

        with _hints_kept():
            program = torch.export.load(path)
        given = [n for n in program.graph.nodes if n.name in program.graph_signature.user_inputs]
        if len(given) > 1:
            return {"inputs": [each.name for each in given]}
        model = foreign.in_single_precision(program.module())
        told = self._export(model, tuple(given[0].meta["val"].shape), out, values)
        return {**told, "decides": {}, "computed": []}  # only the checks of what is given to it

    def _export(self, model: Any, shape: tuple[int, ...], out: str, values: str) -> dict[str, Any]:
        """To ONNX, nothing folded, so that each norm keeps its own numbers; the values apart."""
        import warnings

        import torch

        self.model, self.outputs = model, []
        model.register_forward_hook(self._keep_output)
        left_out = {type(each).__name__ for each in model.modules()} & training.DRAWING
        with (
            training.asking() as self.asking,
            training.dropouts_told(left_out),
            warnings.catch_warnings(record=True) as told,
        ):
            warnings.simplefilter("always")
            try:
                exporting.write_graph(model, shape, out)
            except torch.onnx.errors.OnnxExporterError as error:
                return {"unknown": exporting.unknown(model, shape, str(error))}
        state = {k: v for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}
        tensors.write(Path(values), {name: _array(each) for name, each in state.items()})
        asks = any(each.category.__name__ == "TracerWarning" for each in told)
        return {
            "decides": exporting.asked_of_images(model, shape) if asks else {},
            "asking": sorted(self.asking),
            "learned": _learned(model),
            "left_out": sorted(left_out),
            "outputs": self.outputs,
        }

    def free(self) -> None:
        """Let go of what the user's code has made, as Python does at its end: files close with it.

        First the modules go that it has imported, then, where something else holds their functions,
        what they have under their names.
        """
        self.model = None
        if not self.modules:
            return
        names = {}
        for name in {*sys.modules} - self.modules:
            names[id(getattr(sys.modules.pop(name), "__dict__", None))] = name
        gc.collect()
        for held in gc.get_objects():
            called = names.get(id(held))
            if called and type(held) is dict and held.get("__name__") == called:
                held.update(dict.fromkeys(held.keys() - {"__builtins__", "__name__"}))
        gc.collect()

    def together(self, images: str, out: str) -> dict[str, str]:
        """Whether an image gives the same beside another one as alone, which is what is in `out`.

        Gives `fails` with the reason, where they can't be given together, or `mixes` with what it
        does instead.
        """
        import torch

        first = torch.from_numpy(np.load(images))
        drawn = np.random.default_rng(1).standard_normal(first.shape, dtype=np.float32)
        second = torch.from_numpy(drawn)
        with torch.no_grad():
            try:
                both = self.model(torch.cat([first, second]))
            except Exception as error:  # whatever code of a stranger raises
                return {"fails": exporting.reason(error)}
            alone = torch.cat([torch.from_numpy(np.load(out)), self.model(second)])
        if _alike(both, alone):
            return {}
        with torch.no_grad():
            again = self.model(torch.from_numpy(np.load(images)))
        if _alike(again, alone[:1]):
            return {"mixes": "what it gives for an image depends on the other images of its batch"}
        return {"mixes": "what it gives for one image is another each time: it draws at random"}

    def at_other_sizes(
        self, batches: list[list[list[int]]], outs: list[str]
    ) -> tuple[list[list[int]], list[str]]:
        """Export it for other images: the first batches of one shape for each file that it takes.

        Gives these shapes; none where it takes none of them. Or a size for which an operator has
        no export, with that operator and the layer that has it.
        """
        import torch

        model = self.model
        for shapes in batches:
            try:
                with training.dropouts_told(set()):
                    for shape, out in zip(shapes, outs, strict=True):
                        exporting.write_graph(model, shape, out)
            except torch.onnx.errors.OnnxExporterError as error:
                size = "x".join(map(str, shape[2:]))
                return [], [size, *exporting.unknown(model, tuple(shape), str(error))]
            except Exception:  # whatever code of a stranger raises
                continue
            return shapes, []
        return [], []

    def in_training(self, shape: list[int]) -> dict[str, Any]:
        """What code for images of a shape does in training alone, by the classes of its layers.

        Gives them under `left_out`, under `norms` which keep their statistics; or under `fails` why
        that can't be seen. It is the last of the model.
        """
        model, self.model = self.model, None  # whose memory others need while this process ends
        try:
            norms = training.norms_kept_in_evaluation(model)
            return {
                "left_out": training.differing(model, shape) if self.asking else [],
                "norms": norms,
            }
        except Exception as error:  # whatever code of a stranger raises
            return {"fails": exporting.reason(error)}

    def _keep_output(self, model: Any, images: Any, given: Any) -> Any:
        """The one tensor in what a model gives instead of what holds it."""
        named = dict(foreign.outputs(given))
        self.outputs = list(named)
        return next(iter(named.values())) if len(named) == 1 else given

    def run_exported(self, images: str, out: str) -> None:
        """The output of the model that was exported."""
        import torch

        with torch.no_grad():
            np.save(out, self.model(torch.from_numpy(np.load(images))).numpy())

    def keras(self, path: str, config: str, images: str, out: str) -> None:
        """The output of a model that Keras makes of a configuration, with a file's weights."""
        from resnet_spec.weights import keras_model

        keras_model.prepare()
        import keras

        model = keras.models.model_from_json(Path(config).read_text(encoding="utf-8"))
        model.load_weights(path)
        np.save(out, keras.ops.convert_to_numpy(model(np.load(images), training=False)))

    def onnx(self, path: str, images: str, out: str) -> None:
        """The output of an ONNX file in ONNX Runtime, its graph as it is, in single precision."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Nothing is fused, so nothing is rounded otherwise than the file says.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        graph = foreign.graph_in_single_precision(Path(path)) or path
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0]
        kind = np.float64 if given.type == "tensor(double)" else np.float32
        found = session.run(None, {given.name: np.load(images).astype(kind)})
        np.save(out, found[0])


def _alike(found: Any, wanted: Any) -> bool:
    """Whether two outputs are the same but for rounding."""
    import torch

    apart = 1e-3 * float(wanted.nan_to_num(0, 0, 0).abs().max())  # others tell what is not finite
    return found.shape == wanted.shape and torch.allclose(found, wanted, atol=apart, equal_nan=True)


@contextmanager
def _hints_kept() -> Iterator[None]:
    """Look the types of a class up once: PyTorch does for each of 10,000 parts of an archive."""
    original = typing.get_type_hints
    kept: dict[Any, dict[str, Any]] = {}

    def hints(of: Any, *given: Any, **options: Any) -> dict[str, Any]:
        if of not in kept:
            kept[of] = original(of, *given, **options)
        return kept[of]

    vars(typing)["get_type_hints"] = hints
    try:
        yield
    finally:
        vars(typing)["get_type_hints"] = original


# What NumPy has of the types of safetensors.
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8"}


def _read(weights: str) -> Iterator[tuple[str, Any]]:
    """The tensors of a file of safetensors, in memory once: the library maps the file as well."""
    import torch

    with Path(weights).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start = file.tell()
        for name, entry in header.items():
            if name != "__metadata__":
                file.seek(start + entry["data_offsets"][0])
                value = np.fromfile(file, TYPES[entry["dtype"]], math.prod(entry["shape"]))
                yield name, torch.from_numpy(value.reshape(entry["shape"]))


@contextmanager
def _undrawn() -> Iterator[None]:
    """Leave weights that are replaced as they are: not even their memory is touched then."""
    from torch.nn import init

    drawing = {name: each for name, each in vars(init).items() if re.search(r"[a-z]_$", name)}
    vars(init).update(dict.fromkeys(drawing, lambda tensor, *given, **options: tensor))
    try:
        yield
    finally:
        vars(init).update(drawing)


def _inputs(model: Any) -> list[str]:
    """The names of what a model has to be given."""
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    stated = inspect.signature(model.forward).parameters.values()
    return [each.name for each in stated if each.kind in kinds and each.default is each.empty]


def _unwrapped(model: Any) -> tuple[Any, list[str]]:
    """A model without what is around it for devices, its weights no longer computed anew.

    Gives the names of these weights, too.
    """
    import torch
    from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
    from torch.nn.utils.spectral_norm import SpectralNorm
    from torch.nn.utils.weight_norm import WeightNorm

    around = torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel
    while isinstance(model, around) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, around) else model._orig_mod
    model.eval()  # in training some compute anew what they are computed from
    computed = []
    for path, module in [*model.named_modules()]:
        for name in [*getattr(module, "parametrizations", ())]:
            parametrize.remove_parametrizations(module, name)
            computed.append(f"{path}.{name}")
        for hook in [*module._forward_pre_hooks.values()]:
            if isinstance(hook, WeightNorm | SpectralNorm):
                remove = (
                    remove_weight_norm if isinstance(hook, WeightNorm) else remove_spectral_norm
                )
                remove(module, hook.name)
                computed.append(f"{path}.{hook.name}")
    return model, computed


def _learned(model: Any) -> list[str]:
    """The names of the parameters that training moves: all where they are frozen for evaluation."""
    found = dict(model.named_parameters(remove_duplicate=False))
    return [name for name, each in found.items() if each.requires_grad] or [*found]


def _array(tensor: Any) -> Any:
    """A tensor as NumPy has it, which knows no bfloat16."""
    import torch

    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


if __name__ == "__main__":
    run(Worker, Worker.free)
