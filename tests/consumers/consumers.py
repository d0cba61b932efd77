"""What the tests of all consumers share: networks with their maps, and steps that are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import parity
import texts


def backbone(name: str) -> tuple[Any, Any]:
    """A PyTorch network with random weights, in evaluation, and images that it takes."""
    network = texts.network_of(name)
    model = parity.build(network, "torch").eval()
    # A thousand blocks that each add to their input would leave the range of the numbers.
    parity.randomize(model, gain=min(2.0, 200 / network.root.size))
    return model, parity.tensor(parity.images(2, network.input.channels, 64, 96), model)


def hooked(model: Any, names: list[str], run: Callable[[], Any]) -> dict[str, Any]:
    """What hooks on modules were given in a run, as it is after the run."""
    import torch

    found: dict[str, Any] = {}

    def hook(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: found.update({name: output})

    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def modules_of(model: Any) -> list[str]:
    return [each["module"] for each in model.feature_info]


def training_step(model: Any, loss_of: Callable[[Any], Any], seed: int = 0) -> dict[str, Any]:
    """One step of SGD: the loss, every gradient, and everything that the step has changed."""
    import torch

    torch.manual_seed(seed)
    model.train()
    loss = loss_of(model)
    loss.backward()
    gradients = {f"gradient of {n}": p.grad for n, p in model.named_parameters()}
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    return {"loss": loss.detach(), **gradients, **model.state_dict()}


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """How far two steps are apart, by the name of what they have in common; largest first."""
    assert ours.keys() == theirs.keys()
    apart = {name: _difference(ours[name].double(), theirs[name].double()) for name in ours}
    return dict(sorted(apart.items(), key=lambda each: -each[1]))


def _difference(one: Any, other: Any) -> float:
    """As `parity.difference`, of tensors: there are many."""
    assert one.shape == other.shape
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-30))
