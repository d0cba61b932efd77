"""What random networks are emitted as is what their specs say, without a framework."""

from __future__ import annotations

from typing import Any

import networks
import texts
from hypothesis import assume, given
from standins import differences

from resnet_spec.diagnostics import SpecError


@given(networks.networks())
def test_random_networks_are_what_their_specs_say(spec: dict[str, Any]) -> None:
    try:
        network = networks.read(spec)
        emitted = texts.texts_of(network)
    except SpecError:
        assume(False)  # other tests look at what is refused
    for backend, text in emitted.items():
        assert differences(text, network, backend) == []
