"""A source of weights, run in a process of its own: a graph of ONNX, a model of Keras or PyTorch.

Answers `open` with the shape of its input, and `run` with a file of arrays: each output under
`output NAME`, and every value on the way that has one of the shapes that are asked for, maps with
channels in the second place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from resnet_spec.verify import foreign, worker

Shapes = set[tuple[int, ...]]
Outputs = dict[str, np.ndarray]
OUTPUT = "output "  # before the name of one


class Source(Protocol):
    """A model that can be run; `shape` is that of its input, None where any size will do."""

    shape: list[int | None]
    channels_last: bool

    def run(self, images: np.ndarray) -> tuple[list[np.ndarray], Outputs]:
        """What is computed on the way, and the outputs by their names."""


class Onnx:
    """A graph, every value of which is an output."""

    def __init__(self, path: Path) -> None:
        import onnx
        import onnxruntime

        data = foreign.graph_in_single_precision(path)
        model = onnx.load(path) if data is None else onnx.load_from_string(data)
        self.outputs = [value.name for value in model.graph.output]
        for name in (name for node in model.graph.node for name in node.output):
            if name and name not in self.outputs:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        given = self.session.get_inputs()[0]
        self.name, self.type = given.name, given.type
        self.shape = [size if isinstance(size, int) else None for size in given.shape]
        self.channels_last = _is_last(self.shape)

    def run(self, images: np.ndarray) -> tuple[list[np.ndarray], Outputs]:
        kind = "float64" if self.type == "tensor(double)" else "float32"
        names = [each.name for each in self.session.get_outputs()]
        found = dict(
            zip(names, self.session.run(names, {self.name: images.astype(kind)}), strict=True)
        )
        outputs = {name: found.pop(name) for name in self.outputs}
        return list(found.values()), outputs


class Keras:
    """A model of Keras that is made of its own layers."""

    def __init__(self, path: Path) -> None:
        import keras

        self.model = keras.saving.load_model(path, compile=False, safe_mode=True)
        given = self.model.input_shape
        self.shape = list(given) if isinstance(given, tuple) else [None] * 4
        self.channels_last = keras.config.image_data_format() == "channels_last"

    def run(self, images: np.ndarray) -> tuple[list[np.ndarray], Outputs]:
        import keras

        within = []
        for layer in getattr(self.model, "layers", []):
            try:
                within.append(layer.output)
            except (AttributeError, ValueError):  # of a layer that runs twice, or of none
                continue
        try:
            inner = keras.Model(self.model.inputs, [within, self.model.output])
            found, given = inner(images, training=False)
        except (AttributeError, ValueError, TypeError):  # a model without a graph
            found, given = [], self.model(images, training=False)
        array = keras.ops.convert_to_numpy
        values = [array(each) for _, each in foreign.outputs(found)]
        return values, {name: array(each) for name, each in foreign.outputs(given)}


class Exported:
    """A program that torch.export saved."""

    channels_last = False

    def __init__(self, path: Path) -> None:
        import torch

        self.module = foreign.in_single_precision(torch.export.load(path).module())
        given = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        value = given[-1].meta.get("val") if given else None
        sizes = list(value.shape) if value is not None else [None] * 4
        self.shape = [size if isinstance(size, int) else None for size in sizes]

    def run(self, images: np.ndarray) -> tuple[list[np.ndarray], Outputs]:
        import torch

        found: list[np.ndarray] = []

        class Watching(torch.fx.Interpreter):
            def run_node(self, node: torch.fx.Node) -> Any:
                made = super().run_node(node)
                if isinstance(made, torch.Tensor) and node.op.startswith("call"):
                    found.append(made.detach().float().numpy().copy())
                return made

        with torch.no_grad():
            given = Watching(self.module).run(torch.from_numpy(images))
        return found, {name: each.float().numpy() for name, each in foreign.outputs(given)}


class Script:
    """A TorchScript program."""

    channels_last = False

    def __init__(self, path: Path) -> None:
        import torch

        self.module = torch.jit.load(path, map_location="cpu").eval().float()
        self.shape: list[int | None] = [None] * 4

    def run(self, images: np.ndarray) -> tuple[list[np.ndarray], Outputs]:
        import torch

        with torch.no_grad():
            given = self.module(torch.from_numpy(images))
        return [], {name: each.float().numpy() for name, each in foreign.outputs(given)}


KINDS = {"onnx": Onnx, "keras": Keras, "pt2": Exported, "torchscript": Script}


def _is_last(shape: Sequence[int | None]) -> bool:
    """Whether the channels of images are in the last place: they are few."""
    few = (1, 3, 4)
    return len(shape) == 4 and shape[3] in few and shape[1] not in few


class Worker:
    """Answers requests about one source."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.source: Any = None

    def open(self, path: str) -> dict[str, Any]:
        """The shape of the input, by the names of its axes; None where any size will do."""
        self.source = KINDS[self.kind](Path(path))
        shape = list(self.source.shape)
        if len(shape) != 4:
            raise ValueError(f"its input has {len(shape)} axes, where images have 4")
        order = "nhwc" if self.source.channels_last else "nchw"
        return dict(zip(order, shape, strict=True))

    def run(self, images: str, shapes: list[list[int]], out: str) -> int:
        """Runs the source on a file of images, channels in the second place; how much it kept."""
        given = np.load(images)
        if self.source.channels_last:
            given = np.ascontiguousarray(given.transpose(0, 2, 3, 1))
        wanted = {tuple(shape) for shape in shapes}
        values, outputs = self.source.run(given)
        found = (each for value in values for each in _as_asked(value, wanted))
        kept = {f"value {number}": each for number, each in enumerate(found)}
        named = {f"{OUTPUT}{name}": each for name, each in outputs.items()}
        np.savez(out, **dict[str, Any](named | kept))
        return len(kept)


def _as_asked(value: Any, wanted: Shapes) -> Iterator[np.ndarray]:
    """A value with a shape that is asked for, its channels moved to the second place."""
    value = np.asarray(value)
    if value.shape in wanted:
        yield value
    if value.ndim == 4 and (moved := value.transpose(0, 3, 1, 2)).shape in wanted:
        yield moved


if __name__ == "__main__":
    worker.run(Worker)
