"""`nnx.Module` and its containers: attributes, paths and modes, as Flax 0.12 has them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from standins.channels_last import ChannelsLast
from standins.graph import Drawn
from standins.run import Difference, Run

# Attributes of the real nnx.Module, of which no layer may have the names.
_OF_MODULES = """
    deterministic eval iter_children iter_modules perturb set_attributes sow train
    use_running_average
"""
_MODES = ("use_running_average", "deterministic")
_OF_DICTS = "clear get items keys pop popitem setdefault update values"
_OF_LISTS = "append clear count extend index insert pop remove reverse"


class Array(ChannelsLast):
    """A value, which nothing changes in place.

    It has no `max`: the gradient of that is wrong where XLA rounds a value anew.
    """

    def mean(self, axis: int | tuple[int, ...], keepdims: bool = False) -> Array:
        axes = {self.axis(each) for each in ((axis,) if isinstance(axis, int) else axis)}
        if axes == {0} and keepdims and len(self.dimensions) == 3:
            return self.made("channel_avg_pool", shape=(1, *self.dimensions[1:]))
        if axes != {1, 2}:
            raise Difference(f"the mean over {axis}, which is no operation of the IR")
        shape = (self.channels, 1, 1) if keepdims else (self.channels,)
        return self.made("global_avg_pool", shape=shape, keep_map=keepdims)


class Variable:
    """An array of a layer: its shape in Flax's order of axes, and how it is drawn."""

    def __init__(self, shape: tuple[int, ...], drawn: Drawn) -> None:
        self.shape, self.drawn = shape, drawn


class Param(Variable):
    """One that is trained."""


class BatchStat(Variable):
    """A running statistic."""


class Rngs:
    """A source of random numbers: each layer that draws needs it."""


def is_data(value: Any) -> bool:
    return isinstance(value, Module | Variable)


class Module:
    """A module: what is assigned to it is data or static, once for all."""

    _path = ""  # from the network, known once it is built
    _taken: ClassVar[frozenset[str]] = frozenset(_OF_MODULES.split())
    _run: ClassVar[Run]

    def __init_subclass__(cls) -> None:
        call = cls.__dict__.get("__call__")
        if call is not None:
            setattr(cls, "__call__", _noted(call))  # noqa: B010

    def __setattr__(self, name: str, value: Any) -> None:
        is_mode = isinstance(value, bool)  # which `train` and `eval` set
        if (name in self._taken and not is_mode) or callable(getattr(type(self), name, None)):
            raise Difference(f"the layer {name!r} hides an attribute of its module")
        if isinstance(value, list | tuple | dict) and _holds_data(value):
            raise ValueError(f"Found data on value of type {type(value)} assigned to '{name}'")
        before = self.__dict__.get(name, value)
        if is_data(value) and not is_data(before):
            raise ValueError(f"Cannot assign data value to static attribute '{name}'")
        self.__dict__[name] = value

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        own = object.__getattribute__(self, "__dict__")
        if name in own and callable(value) and not isinstance(value, Module | type):
            path = object.__getattribute__(self, "_path")
            return _Function(f"{path}.{name}" if path else name, value)
        return value

    # - what is within -

    def _children(self) -> list[tuple[str, Any]]:
        own = object.__getattribute__(self, "__dict__")
        return [each for each in own.items() if not each[0].startswith("_")]

    def _nodes(self, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
        """All that holds data, each with its path; the innermost first, as Flax has it."""
        built: list[tuple[tuple[str, ...], Any]] | None = self.__dict__.get("_built")
        if built is not None and not path:
            return built
        found: list[tuple[tuple[str, ...], Any]] = []
        for name, value in sorted(each for each in self._children() if is_data(each[1])):
            inner = (*path, name)
            found += value._nodes(inner) if isinstance(value, Module) else [(inner, value)]
        return [*found, (path, self)]

    def _build(self) -> None:
        """Tells every module its path, and notes what there is for good: asking is quick then."""
        seen: set[int] = set()
        nodes = self._nodes()
        self.__dict__["_built"] = nodes
        for path, node in nodes:
            if id(node) in seen:
                raise Difference(f"{'.'.join(path)} has several names")
            seen.add(id(node))
            if isinstance(node, Module):
                node.__dict__["_path"] = ".".join(path)

    # - modes -

    def train(self, **attributes: Any) -> None:
        self._set(False)

    def eval(self, **attributes: Any) -> None:
        self._set(True)

    def _set(self, evaluates: bool) -> None:
        for own, names in self._with_modes:
            own.update(dict.fromkeys(names, evaluates))

    @functools.cached_property
    def _with_modes(self) -> list[tuple[dict[str, Any], list[str]]]:
        """Where modes are kept; once it runs, a network gets no other modules."""
        every = [object.__getattribute__(node, "__dict__") for _, node in self._nodes()]
        found = ((own, [name for name in _MODES if name in own]) for own in every)
        return [each for each in found if each[1]]


def _holds_data(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value
    return any(is_data(each) for each in inner)


def _noted(call: Callable[..., Any]) -> Callable[..., Any]:
    """The innermost module says where an error is."""

    @functools.wraps(call)
    def noted(self: Module, *arguments: Any, **options: Any) -> Any:
        try:
            return call(self, *arguments, **options)
        except Exception as error:
            if not hasattr(error, "__notes__"):
                error.add_note(self._path)
            raise

    return noted


class _Function:
    """A function that is an attribute of a module: a layer, too, where it is called."""

    def __init__(self, path: str, function: Callable[..., Any]) -> None:
        self.path, self.function = path, function

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        made = self.function(*arguments, **options)
        if isinstance(made, Array) and made is not arguments[0]:  # an identity is none
            made.run.layers.append((self.path, made.number))
        return made


class List(Module):
    """Modules with the paths 0, 1, …"""

    _taken = Module._taken | frozenset(_OF_LISTS.split())

    def __init__(self, values: Iterable[Any] = ()) -> None:
        for number, value in enumerate(values):
            setattr(self, str(number), value)

    def __class_getitem__(cls, item: Any) -> type:
        return cls

    def __len__(self) -> int:
        return len(self._children())

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, str(number)) for number in range(len(self)))

    def __getitem__(self, index: int) -> Any:
        return getattr(self, str(index))


class Dict(Module):
    """Modules by their names."""

    _taken = Module._taken | frozenset(_OF_DICTS.split())

    def __init__(self, values: dict[str, Any] | None = None, **others: Any) -> None:
        for name, value in {**(values or {}), **others}.items():
            setattr(self, name, value)

    def __class_getitem__(cls, item: Any) -> type:
        return cls

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError as error:
            raise KeyError(name) from error

    def __contains__(self, name: str) -> bool:
        return hasattr(self, name)


class Sequential(List):
    def __call__(self, x: Any) -> Any:
        for layer in self:
            x = layer(x)
        return x


class SequentialDict(Module):
    def __init__(self, layers: Iterable[tuple[str, Any]]) -> None:
        named = dict(layers)
        self.names = tuple(named)
        for name, layer in named.items():
            setattr(self, name, layer)

    def __call__(self, x: Any) -> Any:
        for name in self.names:
            x = getattr(self, name)(x)
        return x
