"""resnet-spec: compile a YAML description of a residual network to PyTorch and Keras source.

Nothing is imported until it is used: `import resnet_spec` costs next to nothing. `typing` is not
either: with `python -m resnet_spec` Python looks into the working folder first, and a `typing.py`
of a stranger may lie there, until `__main__` takes the folder off the path.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import PurePosixPath
    from typing import Any

    from resnet_spec.diagnostics import Diagnostic, SpecError
    from resnet_spec.ir import Network
    from resnet_spec.language.library import Library

__version__ = "0.1.0"

__all__ = [
    "Diagnostic",
    "Library",
    "Network",
    "SpecError",
    "__version__",
    "compile_spec",
    "read_network",
]

_HOMES = {
    "Diagnostic": "resnet_spec.diagnostics",
    "Library": "resnet_spec.language.library",
    "Network": "resnet_spec.ir",
    "SpecError": "resnet_spec.diagnostics",
}


def __getattr__(name: str) -> "Any":
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return __all__


def read_network(
    spec: str, settings: "Sequence[str]" = (), library: "Library | None" = None
) -> "Network":
    """The network of a spec, given by path or by the name of a built-in one.

    `settings` are changes of the form `key.key=value`. Raises `SpecError` with every mistake, a
    number under `expect` that is not the network's and a default without effect among them.
    """
    from resnet_spec.diagnostics import SpecError
    from resnet_spec.language.library import Library
    from resnet_spec.language.load import load
    from resnet_spec.lower import lower
    from resnet_spec.lower.unused import findings

    loaded = load(spec, library or Library(), settings)
    network = lower(loaded)
    found = findings(loaded, network)
    if found:
        raise SpecError(found)
    return network


def compile_spec(
    spec: str, backends: "Sequence[str]" = ("torch", "keras"), settings: "Sequence[str]" = ()
) -> "dict[PurePosixPath, str]":
    """The generated sources of a spec by their path, `torch/resnet50.py`; nothing is written.

    Raises `SpecError` like `read_network`, and for an unknown backend.
    """
    from resnet_spec.codegen.generate import generate

    return generate(read_network(spec, settings), backends)
