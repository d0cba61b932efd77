"""Stand-ins for the frameworks that record what an emitted text does, and the proof by them.

`differences` runs a text without any framework and compares the operations that it performs with
the IR. It shares no reading with the compiler: it knows the IR, not how a text is made of it.
"""

from __future__ import annotations

from resnet_spec.ir import Network
from standins.compare import compared
from standins.expected import expected
from standins.flax_run import run_flax
from standins.keras_run import run_keras
from standins.torch_run import run_torch

RUNS = {"torch": run_torch, "keras": run_keras, "flax": run_flax}


def differences(text: str, network: Network, backend: str, given: bool = False) -> list[str]:
    """Where the text differs from the network, in words; nothing where they are equal.

    `backend` is one of `RUNS`. A text that can't be run differs by the error that it raises. The
    numbers of classes and of input channels are the text's defaults, or `given` to it as
    arguments: so the text of one network can be held against one with other such numbers.
    """
    try:
        run = RUNS[backend](text, expected(network), given)
    except Exception as error:
        place = "".join(f"{note}: " for note in getattr(error, "__notes__", []) if note)
        return [f"{place}{type(error).__name__}: {error}"]
    return compared(run)
