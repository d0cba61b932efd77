"""A PyTorch model as a graph of ONNX, and what its code does that no graph shows.

In the process of `worker` alone.
"""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from resnet_spec.importing.readers.model import ADAPTIVE_POOL


def _adaptive_pool(graph: Any, values: Any, output_size: Any) -> Any:
    """Means of parts of any map, for which ONNX has no operator but where it is all of the map."""
    import torch
    from torch.onnx import symbolic_helper

    sizes = symbolic_helper._maybe_get_const(output_size, "is")
    if not isinstance(sizes, list):
        raise torch.onnx.errors.SymbolicValueError(
            "operator adaptive_avg_pool2d with sizes that are not known", values
        )
    if [*sizes] == [1, 1]:
        return graph.op("GlobalAveragePool", values)
    made = graph.op(ADAPTIVE_POOL, values, sizes_i=[*sizes])
    given = symbolic_helper._get_tensor_sizes(values)
    return made.setType(values.type().with_sizes([*given[:-2], *sizes]))


OWN_DIVISOR = " with a divisor of its own"


def _avg_pool(graph: Any, *given: Any) -> Any:
    """Means of windows; PyTorch's own form drops the divisors that a call may have instead."""
    import torch
    from torch.onnx import symbolic_helper

    values, *options = given
    kinds: Any = ("is", "is", "is", "i", "i", "i")
    found = [symbolic_helper._parse_arg(*each) for each in zip(options, kinds, strict=True)]
    kernel, stride, padding, ceil, counted, divisor = found
    if _is_own(divisor, kernel):
        raise torch.onnx.errors.SymbolicValueError(f"operator avg_pool2d{OWN_DIVISOR}", values)
    return graph.op(
        "AveragePool",
        values,
        ceil_mode_i=ceil,
        count_include_pad_i=counted,
        kernel_shape_i=_both(kernel),
        pads_i=_both(padding) * 2,
        strides_i=_both(stride or kernel),
    )


def _is_own(divisor: int | None, kernel: Sequence[int]) -> bool:
    """Whether it is another one than the number of places of a window."""
    return divisor not in (None, math.prod(_both(kernel)))


def _has_own_divisor(values: Any, kernel: Sequence[int], *given: Any) -> bool:
    """The same of a call of PyTorch's operator."""
    return len(given) > 4 and _is_own(given[4], kernel)


def _both(sizes: Sequence[int]) -> list[int]:
    """Rows and columns, of which PyTorch takes one for both."""
    return [*sizes] * (2 // len(sizes))


def write_graph(model: Any, shape: Sequence[int], out: str) -> None:
    """What a model does to a batch of images of a shape (N, C, H, W), as ONNX without weights."""
    import torch
    from torch.onnx.utils import register_custom_op_symbolic

    register_custom_op_symbolic("aten::adaptive_avg_pool2d", _adaptive_pool, 9)
    register_custom_op_symbolic("aten::avg_pool2d", _avg_pool, 10)
    with torch.no_grad():
        torch.onnx.export(
            model,
            (torch.zeros(*shape),),
            out,
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            export_params=False,
            custom_opsets={ADAPTIVE_POOL.partition(":")[0]: 1},
        )


def reason(error: Exception) -> str:
    """What an error says, and where in the user's code it was."""
    text = " ".join(str(error).split()) or type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    places = [_place(each) for each in frames if _is_users(each)]
    return f"{places[-1]}: {text[:120]}" if places else text[:120]


def _place(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _is_users(frame: traceback.FrameSummary) -> bool:
    """Whether a frame is of code that is neither PyTorch's nor ours."""
    import torch

    path = Path(frame.filename)
    ours = Path(torch.__file__).parent, Path(__file__).parents[1]
    return path.exists() and not any(path.is_relative_to(each) for each in ours)


def watched(see: Callable[[Any, Any, Any], None]) -> Any:
    """Within it each operator that runs is seen, with what it takes and gives."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, types: Any, given: Any = (), options: Any = None
        ) -> Any:
            made = function(*given, **(options or {}))
            see(function, (given, options), made)
            return made

    watching: Any = Watching
    return watching()


_MARK = "is_of_images"


def asked_of_images(model: Any, shape: tuple[int, ...]) -> dict[str, bool]:
    """Where a model's code makes a Python number of what it computes of the images.

    With whether that is another one for zeros, for an image, for its negative, for its pixels.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    found: dict[str, set[Any]] = {}

    def see(function: Any, given: Any, made: Any) -> None:
        if not any(getattr(each, _MARK, False) for each in tree_leaves(given)):
            return
        if function is torch.ops.aten._local_scalar_dense.default:
            frames = [each for each in traceback.extract_stack() if _is_users(each)]
            found.setdefault(_place(frames[-1]) if frames else "", set()).add(made)
        for each in tree_leaves(made):
            if isinstance(each, torch.Tensor):
                setattr(each, _MARK, True)

    image = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
    for images in (0 * image, image, -image, 128 + 64 * image):
        setattr(images, _MARK, True)
        with watched(see), torch.no_grad():
            model(images)
    return {place: len(numbers) > 1 for place, numbers in found.items() if place}


def unknown(model: Any, shape: tuple[int, ...], error: str) -> list[str]:
    """The operator that an error of the exporter names, and the layer that has it, if it is found.

    Without an operator, what the error says.
    """
    import torch

    match = re.search(rf"operator '?(?:aten::)?(\w+)({OWN_DIVISOR})?", error)
    if match is None:
        return [error.splitlines()[0], ""]
    operator = match[1]
    within: list[tuple[str, str]] = []
    found: list[str] = []

    def see(function: Any, given: Any, made: Any) -> None:
        if not function._schema.name.endswith(f"::{operator}"):
            return
        if within and (not match[2] or _has_own_divisor(*given[0])):
            name, kind = within[-1]
            found.append(f"{kind} {name!r}" if name else kind)

    run = model
    if isinstance(model, torch.fx.GraphModule):
        run = _by_layers(model, within).run
    with layers(model, within), watched(see), torch.no_grad():
        run(torch.zeros(shape))
    return [f"{operator.strip('_')}{match[2] or ''}", next(iter(found), "")]


@contextmanager
def layers(
    model: Any, within: list[tuple[str, str]], moved: Callable[[str], object] = lambda name: None
) -> Iterator[None]:
    """Within it the name and the class of the layer that runs stand at the end of `within`.

    `moved` is told before each change: the name of a layer that is called, "" where one ends.
    """
    from torch.nn.modules import module as hooks

    names = {id(each): name for name, each in model.named_modules()}

    def enter(module: Any, given: Any) -> None:
        name = names.get(id(module), "")
        moved(name)
        within.append((name, type(module).__name__))

    def leave(module: Any, given: Any, made: Any) -> None:
        moved("")
        within.pop()

    handles = (
        hooks.register_module_forward_pre_hook(enter),
        hooks.register_module_forward_hook(leave),
    )
    try:
        yield
    finally:
        for each in handles:
            each.remove()


def _by_layers(graph: Any, within: list[tuple[str, str]]) -> Any:
    """What runs a graph's nodes, with the layer of each at the end of `within`."""
    from torch.fx import Interpreter

    class Running(Interpreter):
        def run_node(self, n: Any) -> Any:
            name, kind = next(reversed(n.meta.get("nn_module_stack", {}).values()), ("", "model"))
            within.append((name, str(kind).rpartition(".")[2]))
            made = super().run_node(n)
            within.pop()
            return made

    running: Any = Running
    return running(graph)
