"""Networks drawn at random: IR, PyTorch and Keras are one network, in clean code."""

from __future__ import annotations

from typing import Any

import numpy as np
import parity
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from networks import networks, read

from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Network

SLOW_TO_DRAW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def drawn(spec: dict[str, Any]) -> Network:
    """The network of a spec; specs with shapes that don't fit are not looked at."""
    try:
        network = read(spec)
        parity.source_of(network, "keras")
        return network
    except SpecError as error:
        codes = {diagnostic.code for diagnostic in error.diagnostics}
        event(f"invalid: {', '.join(sorted(codes))}")
        # What the strategy can't foresee: windows larger than a map, groups that don't divide,
        # a convolution with both a stride and a dilation, which Keras lacks.
        assert codes <= {"RS104", "RS403", "RS405", "RS502"}, error
        assume(False)
        raise


@settings(suppress_health_check=SLOW_TO_DRAW)
@given(networks())
def test_the_text_of_a_random_network_is_clean(spec: dict[str, Any]) -> None:
    network = drawn(spec)
    texts = {backend: parity.source_of(network, backend) for backend in ("torch", "keras")}
    assert parity.complaints(texts) == ""


@pytest.mark.torch
@pytest.mark.keras
@settings(suppress_health_check=SLOW_TO_DRAW)
@given(networks())
def test_a_random_network_is_the_same_in_both_backends(double: None, spec: dict[str, Any]) -> None:
    network = drawn(spec)
    pair = parity.pair(network)
    assert parity.torch_counts(pair.torch) == parity.ir_counts(network)
    assert parity.keras_counts(pair.keras) == parity.ir_counts(network)

    images = parity.images(2, *network.input.dimensions)
    from_torch, from_keras = pair.outputs(images)
    assert from_torch["logits"].shape == (2, *network.root.output.dimensions)
    for stage in network.stages:
        if stage.feature:
            assert from_torch[stage.name].shape == (2, *stage.output.dimensions)
    worst = {name: parity.difference(from_torch[name], from_keras[name]) for name in from_torch}
    assert max(worst.values()) < parity.tolerance(network), worst

    # Both are what their operations are defined to be.
    values = pair.value(images)
    beside = {name: parity.difference(value, values[name]) for name, value in from_torch.items()}
    assert max(beside.values()) < 1e-10, beside

    # Nothing that the backward pass needs was changed in place.
    pair.torch.train()
    loss = pair.torch(parity.tensor(images)).square().sum()
    loss.backward()
    gradients = [p.grad for p in pair.torch.parameters() if p.grad is not None]
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients)
