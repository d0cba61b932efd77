"""A source of weights, run in a process of its own: a graph of ONNX, a model of Keras or PyTorch.

Answers `open` with the shape of its input, and `run` with a file of arrays: `output`, and every
value on the way that has one of the shapes that are asked for, maps with channels in the second
place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from resnet_spec.verify import worker

Shapes = set[tuple[int, ...]]


class Source(Protocol):
    """A model that can be run; `shape` is that of its input, None where any size will do."""

    shape: list[int | None]
    channels_last: bool

    def values(self, images: np.ndarray) -> Iterator[np.ndarray]:
        """What is computed on the way, and the output at the end."""


class Onnx:
    """A graph, every value of which is an output."""

    def __init__(self, path: Path) -> None:
        import onnx
        import onnxruntime

        model = onnx.load(path)
        self.output = model.graph.output[0].name
        known = {value.name for value in model.graph.output}
        for name in (name for node in model.graph.node for name in node.output):
            if name and name not in known:
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

    def values(self, images: np.ndarray) -> Iterator[np.ndarray]:
        kind = {"tensor(double)": "float64", "tensor(float16)": "float16"}.get(self.type, "float32")
        names = [each.name for each in self.session.get_outputs()]
        found = dict(
            zip(names, self.session.run(names, {self.name: images.astype(kind)}), strict=True)
        )
        output = found.pop(self.output)
        yield from found.values()
        yield output


class Keras:
    """A model of Keras that is made of its own layers."""

    def __init__(self, path: Path) -> None:
        import keras

        self.model = keras.saving.load_model(path, compile=False, safe_mode=True)
        given = self.model.input_shape
        self.shape = list(given) if isinstance(given, tuple) else [None] * 4
        self.channels_last = keras.config.image_data_format() == "channels_last"

    def values(self, images: np.ndarray) -> Iterator[np.ndarray]:
        import keras

        outputs = []
        for layer in getattr(self.model, "layers", []):
            try:
                outputs.append(layer.output)
            except (AttributeError, ValueError):  # of a layer that runs twice, or of none
                continue
        try:
            inner = keras.Model(self.model.inputs, [*outputs, self.model.outputs[0]])
            found = inner(images, training=False)
        except (AttributeError, ValueError, TypeError):  # a model without a graph
            found = [self.model(images, training=False)]
        yield from (keras.ops.convert_to_numpy(each) for each in _flat(found))


class Exported:
    """A program that torch.export saved."""

    channels_last = False

    def __init__(self, path: Path) -> None:
        import torch

        self.module = torch.export.load(path).module()
        given = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        value = given[-1].meta.get("val") if given else None
        sizes = list(value.shape) if value is not None else [None] * 4
        self.shape = [size if isinstance(size, int) else None for size in sizes]

    def values(self, images: np.ndarray) -> Iterator[np.ndarray]:
        import torch

        found: list[np.ndarray] = []

        class Watching(torch.fx.Interpreter):
            def run_node(self, node: torch.fx.Node) -> Any:
                made = super().run_node(node)
                if isinstance(made, torch.Tensor) and node.op.startswith("call"):
                    found.append(made.detach().float().numpy().copy())
                return made

        with torch.no_grad():
            output = Watching(self.module).run(torch.from_numpy(images))
        yield from found
        yield from (each.detach().numpy() for each in _flat(output))


class Script:
    """A TorchScript program."""

    channels_last = False

    def __init__(self, path: Path) -> None:
        import torch

        self.module = torch.jit.load(path, map_location="cpu").eval()
        self.shape: list[int | None] = [None] * 4

    def values(self, images: np.ndarray) -> Iterator[np.ndarray]:
        import torch

        with torch.no_grad():
            yield from (each.numpy() for each in _flat(self.module(torch.from_numpy(images))))


KINDS = {"onnx": Onnx, "keras": Keras, "pt2": Exported, "torchscript": Script}


def _flat(values: Any) -> Iterator[Any]:
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list | tuple):
        for each in values:
            yield from _flat(each)
    else:
        yield values


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
        kept: dict[str, Any] = {}
        value = given
        for number, value in enumerate(self.source.values(given)):
            for found in _as_asked(value, wanted):
                kept[f"value{number}_{len(kept)}"] = found
        np.savez(out, **{"output": value, **kept})
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
