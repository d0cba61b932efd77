"""An unpickler that runs nothing: what is no tensor becomes a placeholder that does nothing.

Checkpoints of training hold more than weights: arguments, numpy's scalars, paths. A pickle names a
class or function for each, which reading would import and call; here only those are called that
make tensors, and no module is imported.
"""

from __future__ import annotations

import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

# Whoever asks for these wants a program run; such a file is not read past its mistake.
# fmt: off
_PROGRAMS = frozenset((
    "_io", "asyncio", "builtins.__import__", "builtins.compile", "builtins.eval", "builtins.exec",
    "builtins.getattr", "builtins.open", "code", "codeop", "ctypes", "imp", "importlib", "io",
    "multiprocessing", "nt", "os", "pdb", "pickle", "posix", "pty", "runpy", "shutil", "socket",
    "subprocess", "sys", "threading", "timeit", "torch.hub", "torch.jit", "torch.load",
    "webbrowser",
))
# fmt: on
# What Python 2, whose names old protocols have, called some.
_RENAMED = {"__builtin__": "builtins", "commands": "subprocess", "copy_reg": "copyreg"}
_TENSORS = ("_rebuild_tensor_v2", "_rebuild_parameter")
# What a pickle needs to put objects together, of which nobody need be told.
_PLUMBING = (
    "copyreg._reconstructor",
    "builtins.object",
    "_codecs.encode",
)
_MAX_BYTES = 20_000_000  # of a pickle, whose tensors stand beside it


class AsksForProgram(pickle.UnpicklingError):
    """A pickle that would run a program; `what` is what it asks for."""

    def __init__(self, what: str) -> None:
        super().__init__(f"asks for {what}")
        self.what = what


class Placeholder:
    """Stands for an object that was not made; takes whatever a pickle does with it.

    What a pickle gives it as its attributes it keeps, so that the tensors among them can be found.
    """

    __slots__ = ("kept",)
    what = ""
    kept: dict[str, Any]

    def __new__(cls, *_: Any, **__: Any) -> Placeholder:
        made = object.__new__(cls)
        made.kept = {}
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Placeholder:
        return self

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.kept = {str(name): value for name, value in state.items()}

    def _ignore(self, *_: Any) -> None:
        pass

    __setitem__ = append = extend = add = update = _ignore


class _Default(dict[Any, Any]):
    """A `defaultdict` without its factory."""

    def __init__(self, *_: Any) -> None:
        super().__init__()


class _Maker:
    """A function of PyTorch that makes a tensor; nothing can be attached to it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        pass


def check_sizes(file: Any) -> None:
    """Raise `UnpicklingError` for a pickle that states more than it holds.

    To keep a value under number N, Python takes memory for N of them.
    """
    start = file.tell()
    data = file.read(_MAX_BYTES + 1)
    file.seek(start)
    if len(data) > _MAX_BYTES:
        raise pickle.UnpicklingError(f"more than {_MAX_BYTES:,} bytes beside the tensors")
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(data):
            raise pickle.UnpicklingError("it states more values than it holds")


def checked(module: str, name: str) -> str:
    """The dotted name of what a pickle asks for; raises `AsksForProgram` for what runs programs."""
    what = f"{_RENAMED.get(module, module)}.{name}"
    parts = what.split(".")
    if any(".".join(parts[:length]) in _PROGRAMS for length in (1, 2)):
        raise AsksForProgram(what)
    return what


def placeholder(what: str) -> type[Placeholder]:
    """The class that stands for one of a name."""
    return type("Placeholder", (Placeholder,), {"what": what, "__slots__": ()})


def pickle_module(skipped: set[str]) -> Any:
    """What `torch.load` takes as `pickle_module`; `skipped` gets the names of what is passed over.

    Raises `AsksForProgram` where a pickle asks for what runs programs.
    """
    import torch

    made: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("collections", "defaultdict"): _Default,
        ("torch", "Size"): _Maker(tuple),
    }
    for name in _TENSORS:
        made["torch._utils", name] = _Maker(getattr(torch._utils, name))

    class Unpickler(pickle.Unpickler):
        def __init__(self, file: Any, **options: Any) -> None:
            check_sizes(file)
            super().__init__(file, **options)

        def find_class(self, module: str, name: str) -> Any:
            what = checked(module, name)
            if (module, name) not in made:
                made[module, name] = placeholder(what)
                if what not in _PLUMBING:
                    skipped.add(what)
            return made[module, name]

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return SimpleNamespace(__name__="inert", Unpickler=Unpickler, load=load)
