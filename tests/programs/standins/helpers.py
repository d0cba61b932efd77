"""The helpers that a backend writes with one fixed text each, read as data.

They are the only part of a text that is trusted instead of run: numeric tests run them in their
framework. Their names with their texts are all that is known of the backends here.
"""

from __future__ import annotations

import functools
from importlib import import_module

TABLES = {
    "torch": (("resnet_spec.backends.torch.helpers", "HELPERS"),),
    "keras": (
        ("resnet_spec.backends.keras.layers", "LAYERS"),
        ("resnet_spec.backends.keras.helpers", "FIXED"),
    ),
}


# Helpers that compute with no values, so that they run as they are.
RUN = ("make_divisible", "add_layer")


@functools.cache
def known(backend: str) -> dict[str, str]:
    """Every fixed helper of a backend by its name: its source."""
    found: dict[str, str] = {}
    for module, table in TABLES[backend]:
        found |= getattr(import_module(module), table)
    return {name: source for name, source in found.items() if name not in RUN}
