"""Compiled PyTorch networks with weights by which nothing is hidden, and their exports."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from resnet_spec.codegen.generate import generate
from resnet_spec.importing import sources
from resnet_spec.importing.run import Imported, Options, imported
from resnet_spec.ir import Network

# A network of two stages: of which block, and with how many filters each.
SMALL = """\
spec_version: 1
name: small
description: A small network
input: {{channels: 3, height: 32, width: 32}}
classes: 10
stem:
  - {{conv: conv1, filters: 8, kernel: 3}}
  - {{norm: bn1}}
  - {{act: act1}}
stages:
  - {{name: layer1, block: {0}, repeat: 2, filters: {1}}}
  - {{name: layer2, block: {0}, repeat: 2, filters: {2}, stride: 2}}
head:
  - {{global_avg_pool: avgpool}}
  - {{linear: fc, features: classes}}
"""


def lines(text: str) -> int:
    """The lines of a spec, but for the rules that lead from a model's names to its own."""
    return len(text.partition("\nreferences:\n")[0].splitlines())


def built(network: Network, name: str = "source") -> Any:
    """The compiled model of a network, in evaluation, with weights that all make a difference.

    What begins as zero or one is drawn, and statistics are those of no fresh norm.
    """
    import torch

    text = next(iter(generate(network, ("torch",)).values()))
    spec = importlib.util.spec_from_loader(f"{name}_{network.name}", None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    exec(compile(text, network.name, "exec"), module.__dict__)
    torch.manual_seed(0)
    return randomized(getattr(module, network.name)())


def randomized(model: Any) -> Any:
    """A model in evaluation whose norms scale and shift, and none of whose tensors is all zero."""
    import torch

    draw = torch.Generator().manual_seed(0)
    norms = [m for m in model.modules() if getattr(m, "running_var", None) is not None]
    # A little less than one, or a tenth in a thousand: deep networks keep their values finite.
    largest = 1.0 if len(norms) < 1000 else 0.1
    with torch.no_grad():
        for layer in norms:
            layer.running_mean.normal_(0, 0.1, generator=draw)
            layer.running_var.uniform_(0.5, 1.5, generator=draw)
            if layer.affine:
                layer.weight.uniform_(0.4 * largest, largest, generator=draw)
                layer.bias.normal_(0, 0.1, generator=draw)
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.05, generator=draw)
    return model.eval()


def exported(model: Any, shape: tuple[int, ...], path: Path, folds: bool = True) -> Path:
    """A model as ONNX by the exporter that traces; `folds`: norms into convolutions."""
    import torch

    kept: dict[str, Any] = {
        "training": torch.onnx.TrainingMode.PRESERVE,
        "do_constant_folding": False,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(shape),), str(path), dynamo=False, **({} if folds else kept)
        )
    return path


def logits(model: Any, shape: tuple[int, ...]) -> Any:
    """What a model of single precision makes of images by a fixed seed, in double precision.

    In single precision, one thread and two make 1.3e-4 of a difference in the 420 layers of
    resnetrs420 alone.
    """
    import torch

    images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = model.double()(images.double())
    model.float()
    return found


def distance(found: Imported, model: Any, shape: tuple[int, ...]) -> float:
    """How far the imported network's logits are from the model's, relative to the largest."""
    import torch

    ours = built(found.network, "imported")
    state = {name: torch.tensor(value) for name, value in found.state.items()}
    ours.load_state_dict(state, strict=True)
    given, wanted = logits(ours, shape), logits(model, shape)
    if any("softmax" in note for note in found.notes):
        given = given.softmax(dim=1)
    assert torch.isfinite(wanted).all() and wanted.abs().max() > 0
    return float((given - wanted).abs().max() / wanted.abs().max())


Bring = Callable[[str], Imported]


def bringing(text: str, side: int, library: bool = True) -> Bring:
    """Imports functions of a module, or an archive, in the working folder, at a size of images."""
    Path("mynets.py").write_text(text, encoding="utf-8")

    def bring(name: str) -> Imported:
        with ExitStack() as within:
            shown = name if name.endswith(".pt2") else f"mynets.py:{name}"
            folder = Path(tempfile.mkdtemp(dir="."))
            source = sources.read(shown, (3, side, side), folder, within)
            options = Options("net", "Net", library=library)
            return imported(source.model, options, "net.yaml", examined=source.examined)

    return bring
