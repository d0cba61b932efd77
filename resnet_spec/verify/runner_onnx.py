"""The generated PyTorch model, exported to ONNX and run by ONNX Runtime: evaluation alone."""

from __future__ import annotations

import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from resnet_spec.verify import runner_torch
from resnet_spec.verify.plan import Plan
from resnet_spec.verify.runner_torch import Runner as TorchRunner

set_smooth = runner_torch.set_smooth


class Runner:
    """One network in ONNX. The runtime has no convolution in double precision: it has float32."""

    def __init__(self, plan: Plan, module: types.ModuleType) -> None:
        self.plan = plan
        self.torch = TorchRunner(plan, module)
        self.session: Any = None

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Takes over every parameter and statistic; raises `NotExported`."""
        self.torch.load(weights)
        model = self.torch.model.float().eval()
        names = ["logits", *(f"stage {name}" for name in self.plan.stages)]
        images = torch.zeros(self.plan.batch, *self.plan.input)
        try:
            self.session = _exported(_Outputs(model, self.plan.stages), images, names)
        except Exception as error:
            raise NotExported(self.culprit(model), error) from error

    def forward(self, images: np.ndarray, training: bool) -> dict[str, np.ndarray]:
        """The logits and the output of every stage."""
        assert not training
        names = [output.name for output in self.session.get_outputs()]
        found = self.session.run(names, {"images": images.astype("float32")})
        return dict(zip(names, found, strict=True))

    def culprit(self, model: nn.Module) -> str:
        """The first layer that can't be exported alone."""
        layers = dict(model.named_modules())
        for operation in self.plan.operations:
            if operation.name in layers:
                try:
                    images = torch.zeros(self.plan.batch, *operation.given)
                    _exported(layers[operation.name], images, ["output"])
                except Exception:
                    return f"'{operation.name}' ({operation.primitive})"
        return "an operation"


class NotExported(Exception):
    """PyTorch has no ONNX for an operation, or the runtime does not know it."""

    def __init__(self, culprit: str, error: Exception) -> None:
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        super().__init__(f"{culprit} does not export: {first:.120}")


class _Outputs(nn.Module):
    """The logits and all stages of a model, in a row."""

    def __init__(self, model: nn.Module, stages: tuple[str, ...]) -> None:
        super().__init__()
        self.model: Any = model
        self.stages = stages

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.model.forward_features(x)
        return (self.model(x), *(features[name] for name in self.stages))


def _exported(model: nn.Module, images: Tensor, names: list[str]) -> Any:
    """A runtime for a model; the exporter that traces needs no package but onnx."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = str(Path(folder) / "model.onnx")
        torch.onnx.export(
            model, (images,), path, dynamo=False, input_names=["images"], output_names=names
        )
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
