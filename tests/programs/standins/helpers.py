"""The helpers that a backend writes with one fixed text each, read as data.

They are the only part of a text that is trusted instead of run: numeric tests run them in their
framework. Their names with their texts are all that is known of the backends here.
"""

from __future__ import annotations

import functools
from importlib import import_module

from resnet_spec.codegen.definitions import definitions

# Helpers that compute with no values, so that they run as they are.
RUN = ("make_divisible", "add_layer", "get_layer")


@functools.cache
def known(backend: str) -> dict[str, str]:
    """Every fixed helper of a backend by its name: its source."""
    file = import_module(f"resnet_spec.backends.{backend}").__file__
    assert file is not None
    return {name: source for name, source in definitions(file).items() if name not in RUN}
