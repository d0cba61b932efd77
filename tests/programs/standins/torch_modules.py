"""`nn.Module` and its containers: names, registration, look-up, as PyTorch has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

from standins.run import Difference, refuse_truths
from standins.torch_tensors import Parameter, Tensor

# Attributes of the real nn.Module that stand for something, so that no layer may have their names.
_OF_MODULES = """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double
    dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter
    get_submodule half ipu load_state_dict modules mtia named_buffers named_children named_modules
    named_parameters parameters register_backward_hook register_buffer register_forward_hook
    register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu
    zero_grad _apply _backward_hooks _buffers _call_impl _forward_hooks _forward_pre_hooks _get_name
    _load_from_state_dict _modules _named_members _parameters _save_to_state_dict _version
"""
ATTRIBUTES = frozenset(_OF_MODULES.split())
OF_LISTS = frozenset({"append", "extend", "insert", "pop"})
OF_DICTS = frozenset({"clear", "items", "keys", "pop", "update", "values"})


class Built(NamedTuple):
    """A whole network: all modules, and every parameter and statistic by its dotted name."""

    modules: tuple[Module, ...]
    state: dict[str, Parameter]


class Module:
    """A module: what is assigned to it is registered by its name."""

    _path = ""  # from the network, known once it is built
    training = True
    _taken: frozenset[str] = ATTRIBUTES

    def __init__(self) -> None:
        self.__dict__["_modules"] = {}
        self.__dict__["_parameters"] = {}

    # - names -

    def _is_taken(self, name: str) -> bool:
        return name in self._taken or name in self.__dict__ or hasattr(type(self), name)

    def add_module(self, name: str, module: Module | None) -> None:
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{module!r} is not a Module subclass")
        if not isinstance(name, str):
            raise TypeError(f"module name should be a string. Got {name!r}")
        if name not in self._modules and self._is_taken(name):
            raise KeyError(f"attribute '{name}' already exists")
        if "." in name:
            raise KeyError(f'module name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError('module name can\'t be empty string ""')
        self._modules[name] = module

    register_module = add_module

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module | Parameter) and "_modules" not in self.__dict__:
            raise AttributeError("cannot assign module before Module.__init__() call")
        modules = self.__dict__.get("_modules", {})
        if isinstance(value, Module):
            if name in self._taken or hasattr(type(self), name):
                raise Difference(f"the layer {name!r} hides an attribute of its module")
            self.__dict__.pop(name, None)
            modules[name] = value
        elif isinstance(value, Parameter):
            self._parameters[name] = self.__dict__[name] = value
        elif name in modules:
            if value is not None:
                raise TypeError(f"cannot assign {value!r} as child module '{name}'")
            modules[name] = None
        else:
            self.__dict__[name] = value

    def __getattr__(self, name: str) -> Any:
        modules = self.__dict__.get("_modules", {})
        if name in modules:
            return modules[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def get_submodule(self, target: str) -> Module:
        module: Any = self
        for atom in target.split(".") if target else ():
            module = getattr(module, atom)
            if not isinstance(module, Module):
                raise AttributeError(f"`{atom}` is not an nn.Module")
        return module  # type: ignore[no-any-return]

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        if not target:
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        above, _, name = target.rpartition(".")
        parent = self.get_submodule(above)
        if (strict or hasattr(parent, name)) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> Parameter:
        above, _, name = target.rpartition(".")
        found = getattr(self.get_submodule(above), name)
        if not isinstance(found, Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return found

    # - what is within -

    def children(self) -> Iterator[Module]:
        return (module for module in self._modules.values() if module is not None)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((name, each) for name, each in self._modules.items() if each is not None)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterable[Module]:
        built = self.__dict__.get("_built")
        return built.modules if built else (module for _, module in self.named_modules())

    def _build(self) -> Built:
        """Name all modules below for good, which makes what asks for them quick."""
        named = tuple(self.named_modules())
        for path, module in named:
            module._path = path
        self.__dict__["_built"] = Built(tuple(module for _, module in named), dict(self._tensors()))
        return self._built  # type: ignore[no-any-return]

    def _tensors(self) -> Iterator[tuple[str, Parameter]]:
        for path, module in self.named_modules():
            for name, parameter in module._parameters.items():
                yield f"{path}.{name}" if path else name, parameter

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        built = self.__dict__.get("_built")
        state = built.state.items() if built else self._tensors()
        return ((name, each) for name, each in state if each.trainable)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        if not recurse:
            return (each for each in self._parameters.values() if each.trainable)
        return (each for _, each in self.named_parameters())

    def apply(self, function: Callable[[Module], None]) -> Self:
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def train(self, mode: bool = True) -> Self:
        for module in self.modules():
            module.__dict__["training"] = mode
        return self

    def eval(self) -> Self:
        return self.train(False)

    # - the run -

    def hooked(self) -> Tensor | None:
        """What a hook was given in the last call, as it is now; None where that never was."""
        found, number = self.__dict__.get("_hooked", (None, None))
        if found is not None and found.seen() != number:
            found.run.note(f"{self._path}: what a hook was given has changed in place since")
        return found  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Any:
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing "forward"')

    def __call__(self, x: Tensor) -> Any:
        try:
            found = self.forward(x)
            self.__dict__["_hooked"] = (found, getattr(found, "number", None))
            return found
        except Exception as error:
            if not hasattr(error, "__notes__"):
                error.add_note(self._path)  # the innermost module says where
            raise


class Sequential(Module):
    _taken = ATTRIBUTES | OF_LISTS

    def __init__(self, *members: Any) -> None:
        super().__init__()
        named = enumerate(members)
        if len(members) == 1 and isinstance(members[0], dict):
            named = members[0].items()  # type: ignore[assignment]
        for name, member in named:
            self.add_module(str(name), member)

    def append(self, module: Module) -> Self:
        self.add_module(str(len(self)), module)
        return self

    def forward(self, x: Tensor) -> Tensor:
        for member in self._modules.values():
            x = member(x)
        if self._path in x.run.expected.operations:  # of several modules that are one layer
            x.run.layers.append((self._path, x.number))
        return x

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: int) -> Module:
        return list(self._modules.values())[index]  # type: ignore[no-any-return]


class ModuleList(Sequential):
    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__(*(modules or ()))

    def extend(self, modules: Iterable[Module]) -> Self:
        for module in modules:
            self.append(module)
        return self

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError('Module [ModuleList] is missing "forward"')


class ModuleDict(Module):
    _taken = ATTRIBUTES | OF_DICTS

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        for name, module in (modules or {}).items():
            self[name] = module

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def keys(self) -> Iterable[str]:
        return self._modules.keys()  # type: ignore[no-any-return]

    def values(self) -> Iterable[Module]:
        return self._modules.values()  # type: ignore[no-any-return]

    def items(self) -> Iterable[tuple[str, Module]]:
        return self._modules.items()  # type: ignore[no-any-return]


class SequentialDict(ModuleDict):
    def forward(self, x: Tensor) -> Tensor:
        for member in self.values():
            x = member(x)
        return x


class Leaf(Module):
    """A layer of the framework; the classes of the text have no others below."""

    def __post_init__(self) -> None:
        """What a dataclass calls after it has set its fields."""
        Module.__init__(self)
        refuse_truths(self)

    def forward(self, x: Tensor) -> Tensor:
        made = self.value(x)
        x.run.layers.append((self._path, made.number))
        return made

    def value(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def expects(self, x: Tensor, channels: int) -> None:
        if x.channels != channels:
            raise Difference(f"takes {channels} channels, but is given {x.channels}")
