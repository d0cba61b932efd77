"""Flax NNX on JAX: one module with a class for each block and for the network."""

from __future__ import annotations

from functools import partial
from typing import Any

from resnet_spec.backends.flax.shared import CLASSES
from resnet_spec.backends.flax.writer import MODULES, Style, Writer
from resnet_spec.codegen import layout, python
from resnet_spec.codegen.class_module import ClassBackend, Writers
from resnet_spec.codegen.definitions import definitions
from resnet_spec.ir import Network
from resnet_spec.specialize import Program


class FlaxBackend(ClassBackend):
    """Writes `flax/<name>.py`."""

    name = "flax"
    framework = "Flax"
    imports = """\
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
"""
    definitions = definitions(__file__)
    names = (*("self", "rngs", "features", "attributes", "path", "module"), *CLASSES)
    modules = MODULES

    def writers(self, program: Program) -> Writers:
        return partial(Writer, style=Style.of(program))

    def view(self, program: Program) -> dict[str, Any]:
        return {
            **super().view(program),
            "shared": Style.of(program).statements(),
            "ordered": python.stands_as_it_runs(program.network, within_blocks=False),
            "order": _order(program.network),
        }


def _order(network: Network) -> list[str]:
    """The attribute with the names of what runs one after the other."""
    items = tuple(("", python.string(name)) for name in python.outer_names(network))
    listed = layout.Bracket("(", items, ")" if len(items) > 1 else ",)", display=True)
    return layout.statement("order = ", listed, indent=4)


backend = FlaxBackend()
