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
    """Read a spec and infer its network: shapes (C, H, W), parameter counts, multiply-adds.

    `spec` is a path, or the name of a built-in network. `settings` are changes as for `--set`, of
    the form `key.key=value`. `library` caches what specs have in common; pass the same one to read
    many. The language is described in docs/language.md.

    Raises `SpecError` with all errors of the spec (`diagnostics`), including numbers under `expect`
    that the network does not have, and defaults without effect.
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
    """Compile a spec to source code: texts by path, such as `torch/resnet50.py`. Writes no file.

    `spec` and `settings` are those of `read_network`; `backends` are names such as `torch`,
    `keras`, `flax` and `json`. The result is the same on every machine.

    Raises `SpecError` like `read_network`, for an unknown backend (RS501), and for a network that a
    backend cannot express (RS502, RS503).
    """
    from resnet_spec.codegen.generate import generate

    return generate(read_network(spec, settings), backends)
