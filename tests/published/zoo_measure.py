"""Measures networks of the zoo: the work of one process, which zoo_table.py starts and watches.

    python tests/published/zoo_measure.py GIGABYTES

A line of the standard input is JSON with the name of a network and the row that is known of it. For
each, a line of JSON is printed after each step, the last of them with `"done": true`.
"""

from __future__ import annotations

import functools
import gc
import json
import mmap
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "support"))
    import environment

    environment.prepare()

import numpy as np
import parity
import zoo
from zoo_record import OTHERS, Against, Count, Difference, Names, Row, digests_of

from resnet_spec.backends.keras.variables import layer_name
from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Network, Published, evaluate
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.language.renames import renamed
from resnet_spec.lower import lower
from resnet_spec.weights import keras_model as keras_model_of

BATCH = 2
# The first size that the network allows; 64 is less than every network of photographs was made for.
# Average pooling for strides wants even maps in the stages: 63 and 95 become 16 and 24.
EVEN = ((64, 64), (128, 128), (256, 256))
ODD = ((65, 75), (63, 95), (33, 43))
# What a change of the images by their last bit may come to, in units of the last bit of the logits.
MAGNIFIED = 500
# The variances of a convolution's weights, times their number for an output, that are tried then.
GAINS = (1.0, 0.5, 0.25)
LIBRARIES = ("torch", "timm", "torchvision", "keras", "tensorflow", "flax", "jax", "numpy")
# Of more operations, JAX compiles each alone, which it does once for all that are alike.
COMPILED = 1000
# Their work depends on the size of the map, so Keras has to know it.
FIXED = {"adaptive_avg_pool", "flatten"}

Report = Callable[[Row], None]
Size = tuple[int, int]


class Plan(NamedTuple):
    """At which sizes and in which precision a network is measured."""

    network: Network
    sizes: list[Size]
    precision: str

    def images(self, size: Size) -> np.ndarray:
        """A batch (N, C, H, W)."""
        batch = parity.images(BATCH, self.network.input.channels, *size)
        return batch.astype(self.precision)


def measure(
    name: str,
    gigabytes: float,
    row: Row | None = None,
    report: Report = lambda row: None,
    others: Container[str] = OTHERS,
) -> Row:
    """Everything that the page says of a network; each step is reported, failures are noted.

    What a given row has stays, if it was measured in these surroundings. `others` is what PyTorch
    is compared with.
    """
    network, here = parity.network_of(name), surroundings()
    if row is None or not row.environment.items() <= here.items():
        row = Row(digests_of(network), {"ir": parity.ir_counts(network)})
    row.environment = here
    plan = plan_of(name, network, gigabytes)
    steps: list[Callable[[], None]] = []
    if "keras" in others and "keras" not in row.backends:
        from_keras = [r for r in network.references if r.library == "keras.applications"]
        steps += [functools.partial(compare_keras, plan, each, row) for each in from_keras]
        if len(from_keras) < max(1, len(network.references)):
            steps.append(functools.partial(compare_torch, plan, row, report))
    if "flax" in others and "flax" not in row.backends:
        steps.append(functools.partial(compare_flax, name, plan, row))
    for step in steps:
        try:
            step()
        except Exception as error:  # whatever a framework raises is a result, too
            row.failures.append(f"{type(error).__name__}: {error}")
        report(row)
    return row


# --- the plan ------------------------------------------------------------------------------------


def plan_of(name: str, network: Network, gigabytes: float) -> Plan:
    """Sizes that the network allows, and double precision where the memory suffices."""
    _, height, width = network.input.dimensions
    smaller = min(64, height)
    even = [(smaller, smaller), *EVEN, (height, width)]
    odd = ODD if smaller == 64 else ODD[::-1]
    sizes = [
        found
        for sizes in (even, odd)
        if (found := next((size for size in sizes if allows(name, network, size)), None))
    ]
    fits = all(need(resized(name, size), 8) <= gigabytes for size in sizes)
    return Plan(network, sizes, "float64" if fits else "float32")


def resized(name: str, size: Size) -> Network:
    """The network for images of another size."""
    height, width = size
    return lower(load(name, Library(), (f"input.height={height}", f"input.width={width}")))


def allows(name: str, network: Network, size: Size) -> bool:
    """Whether the very same network takes images of a size."""
    try:
        return resized(name, size).root.parameters == network.root.parameters
    except SpecError:
        return False


def need(network: Network, item: int) -> float:
    """Gigabytes that a comparison takes at the most, with numbers of `item` bytes.

    The frameworks' own, twice the weights (one model is made while another is there still), some
    copies of the largest of them on its way, and every operation's output, which Keras keeps until
    the last.
    """
    weights = sum(parity.ir_counts(network))
    operations = [operation for _, operation in network.operations()]
    largest = max(parameter.size for each in operations for parameter in each.parameters)
    outputs = sum(each.output.elements for each in operations)
    return 1.5 + (2 * weights + 4 * largest + BATCH * outputs) * item / 2**30


# --- PyTorch, then Keras -------------------------------------------------------------------------


def compare_torch(plan: Plan, row: Row, report: Report) -> None:
    """Published PyTorch networks, ours, and our Keras model, with one in memory at a time.

    The weights are those of the first reference, where there is one.
    """
    import torch

    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "state.pt"
        logits: dict[Size, np.ndarray] = {}
        references = [r for r in plan.network.references if r.library != "keras.applications"]
        for published in references or (None,):
            found, state = torch_side(plan, published, row)
            if not logits:
                logits = found
                torch.save(state, kept)
            del state
            gc.collect()
        report(row)
        torch.serialization.set_default_mmap_options(mmap.MAP_SHARED)  # the system may drop it
        state = torch.load(kept, mmap=True)
        row.counts["keras"], found = keras_side(plan, state, row)
        del state
    row.backends["keras"] = [
        Difference(*size, plan.precision, parity.difference(found[size], logits[size]))
        for size in plan.sizes
    ]


def torch_side(
    plan: Plan, published: Published | None, row: Row
) -> tuple[dict[Size, np.ndarray], dict[str, Any]]:
    """Logits of our PyTorch model with a reference's weights, or its own; and these weights."""
    import torch

    dtype = getattr(torch, plan.precision)
    if published is None:
        with parity.undrawn():
            ours = parity.build(plan.network, "torch").to(dtype).eval()
        parity.randomize(ours)
        tame(plan, ours, ours)
        soften(plan, ours)
        row.counts["torch"] = torch_count(ours)
        return {size: run(ours, plan.images(size)) for size in plan.sizes}, ours.state_dict()
    against = Against(published.library, published.model)
    row.references.append(against)
    theirs, state = zoo.published_state(published, dtype)
    against.count = torch_count(theirs)
    ours = skeleton(plan.network)
    row.counts["torch"] = torch_count(ours)
    against.names = fit(ours, theirs.state_dict(), state)
    zoo.load_strictly(ours, state)
    tame(plan, ours.eval(), theirs)
    logits = {}
    for size in plan.sizes:
        batch = plan.images(size)
        logits[size] = run(ours, batch)
        against.differences.append(distance(plan, size, logits[size], theirs, batch))
    return logits, ours.state_dict()


def tame(plan: Plan, ours: Any, drawn: Any) -> None:
    """Draws smaller weights for `drawn`, which ours shares, while ours would magnify rounding.

    A residual sum grows with each block, and a gate of large numbers is decided by their last bits.
    """
    for gain in GAINS:
        if not any(magnifies(ours, plan.images(size)) for size in plan.sizes):
            return
        parity.randomize(drawn, gain=gain)


def magnifies(model: Any, batch: np.ndarray) -> bool:
    """Whether a change of the images by their last bit shows in the logits."""
    changed = np.nextafter(batch, np.inf, dtype=batch.dtype)
    moved = parity.difference(run(model, changed), run(model, batch))
    return bool(moved > MAGNIFIED * np.finfo(batch.dtype).eps)


def soften(plan: Plan, model: Any) -> None:
    """Makes a classifier unsure that gives probabilities: one and zeros would hide all the rest."""
    names = [name for name, _ in plan.network.operations()]
    operations = [operation.primitive.name for _, operation in plan.network.operations()]
    if operations[-2:] != ["linear", "softmax"]:
        return
    classifier = model.get_submodule(names[-2])
    while any(run(model, plan.images(size)).max() > 0.5 for size in plan.sizes):
        for tensor in classifier.state_dict().values():
            tensor.div_(4)


def skeleton(network: Network) -> Any:
    """Our PyTorch model without memory for its weights."""
    import torch

    with torch.device("meta"):
        return parity.build(network, "torch")


def fit(ours: Any, theirs: Mapping[str, Any], renamed_state: Mapping[str, Any]) -> Names:
    """How a checkpoint fits our model: every name and every shape."""
    shapes = shapes_of(ours.state_dict())
    if shapes_of(theirs) == shapes:
        return "direct"
    return "renamed" if shapes_of(renamed_state) == shapes else "reshaped"


def shapes_of(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint."""
    return {name: tuple(value.shape) for name, value in state.items()}


def run(model: Any, batch: np.ndarray) -> np.ndarray:
    """Logits of a PyTorch model."""
    import torch

    with torch.inference_mode():
        logits: np.ndarray = model(torch.from_numpy(batch)).numpy()
    return logits


def distance(
    plan: Plan, size: Size, found: np.ndarray, theirs: Any, batch: np.ndarray
) -> Difference:
    """Of our logits from a reference's; also without its casts to single precision."""
    with casts() as count:
        expected = run(theirs, batch)
    without = None
    if count and plan.precision == "float64":
        with casts(left_out=True):
            without = parity.difference(found, run(theirs, batch))
    return Difference(*size, plan.precision, parity.difference(found, expected), without)


@contextmanager
def casts(left_out: bool = False) -> Iterator[list[int]]:
    """Notes calls of `Tensor.float()` on doubles; with `left_out` they change nothing."""
    import torch

    found: list[int] = []
    original = torch.Tensor.float

    def cast(tensor: Any, *arguments: Any, **options: Any) -> Any:
        if tensor.dtype == torch.float64:
            found.append(tensor.numel())
            if left_out:
                return tensor
        return original(tensor, *arguments, **options)

    torch.Tensor.float = cast  # type: ignore[assignment, method-assign]
    try:
        yield found
    finally:
        torch.Tensor.float = original  # type: ignore[method-assign]


def torch_count(model: Any) -> Count:
    """Trainable parameters, and statistics that a checkpoint keeps."""
    trainable = {name for name, _ in model.named_parameters()}
    statistics = sum(
        value.numel()
        for name, value in model.state_dict().items()
        if name not in trainable and not name.endswith("num_batches_tracked")
    )
    return parity.torch_counts(model)[0], statistics


def keras_side(
    plan: Plan, state: Mapping[str, Any], row: Row
) -> tuple[Count, dict[Size, np.ndarray]]:
    """Our Keras model's count, and its logits with the weights of our PyTorch model."""
    with keras_model_of.precision(plan.precision):
        logits: dict[Size, np.ndarray] = {}
        used = {operation.primitive.name for _, operation in plan.network.operations()}
        for size in plan.sizes:
            if not logits or used & FIXED:
                shape = size if used & FIXED else (None, None)
                model = keras_model(plan.network, shape, row)
                values = {name: value.numpy() for name, value in state.items()}
                carried = keras_model_of.assign(plan.network, model, values)
                assert carried == len(model.weights), "a layer of ours has no weights"
            given = plan.images(size).transpose(0, 2, 3, 1)
            logits[size] = parity.keras_to_torch(model(given, training=False))
        return parity.keras_counts(model), logits


def keras_model(network: Network, size: tuple[int | None, int | None], row: Row) -> Any:
    """Our Keras model; what was there before is given up.

    Keras goes back from the output through all layers by recursion; the row notes where that needs
    more than Python usually allows.
    """
    import keras

    keras.backend.clear_session()
    shape = (*size, network.input.channels)
    before = sys.getrecursionlimit()
    try:
        with parity.undrawn():
            return parity.build(network, "keras", input_shape=shape)
    except RecursionError:
        row.deep = True
        sys.setrecursionlimit(100_000)
        with parity.undrawn():
            return parity.build(network, "keras", input_shape=shape)
    finally:
        sys.setrecursionlimit(before)


# --- Keras, then PyTorch -------------------------------------------------------------------------


def compare_keras(plan: Plan, published: Published, row: Row) -> None:
    """A network of keras.applications, whose weights go to our Keras model and on to PyTorch."""
    import torch

    against = Against(published.library, published.model)
    row.references.append(against)
    with keras_model_of.precision(plan.precision):
        for size in plan.sizes:
            ours = keras_model(plan.network, size, row)
            theirs = zoo.keras_application(published, (*size, plan.network.input.channels))
            against.count, against.names = parity.keras_counts(theirs), "renamed"
            row.counts["keras"] = parity.keras_counts(ours)
            carry_layers(theirs, ours, published)
            batch = plan.images(size)
            given = batch.transpose(0, 2, 3, 1)
            expected, found = (np.asarray(m(given, training=False)) for m in (theirs, ours))
            against.differences.append(
                Difference(*size, plan.precision, parity.difference(found, expected))
            )
            model = parity.build(plan.network, "torch").to(getattr(torch, plan.precision)).eval()
            row.counts["torch"] = torch_count(model)
            model.load_state_dict(zoo.state_of_keras(plan.network, ours), strict=False)
            between = parity.difference(found, run(model, batch))
            row.backends.setdefault("keras", []).append(Difference(*size, plan.precision, between))


def carry_layers(theirs: Any, ours: Any, published: Published) -> None:
    """Random weights for each layer of the published model and for ours of the same name."""
    generator = np.random.default_rng(0)
    carried = 0
    for layer in theirs.layers:
        values = parity.random_values(layer, generator)
        if values:
            layer.set_weights(values)
            ours.get_layer(layer_name(renamed(layer.name, published.rename))).set_weights(values)
            carried += len(values)
    assert carried == len(ours.weights), "a layer of ours has no weights"


# --- PyTorch, Flax and numpy ---------------------------------------------------------------------


def compare_flax(name: str, plan: Plan, row: Row) -> None:
    """Our Flax model and the definitions in numpy against our PyTorch model, by random weights.

    They are compared at the odd size alone: JAX compiles each network anew for each.
    """
    size = plan.sizes[-1]
    logits, state = torch_side(plan._replace(sizes=[size]), None, row)
    values = {key: value.numpy() for key, value in state.items()}
    found = {
        "flax": flax_side(plan, values, size, row),
        "numpy": evaluate.outputs(resized(name, size), values, plan.images(size)).logits,
    }
    for other, value in found.items():
        between = parity.difference(value, logits[size])
        row.backends[other] = [Difference(*size, plan.precision, between)]


def flax_side(plan: Plan, values: Mapping[str, np.ndarray], size: Size, row: Row) -> np.ndarray:
    """Logits of our Flax model with some weights; their names and shapes are those of the IR."""
    import jax
    from flax import nnx

    jax.config.update("jax_enable_x64", plan.precision == "float64")
    model = parity.flax_model(plan.network, values)
    row.counts["flax"] = parity.flax_counts(model)
    model.eval()
    given = plan.images(size).transpose(0, 2, 3, 1)
    deep = sum(1 for _ in plan.network.operations()) > COMPILED
    found = model(given) if deep else nnx.jit(lambda model, images: model(images))(model, given)
    logits = parity.flax_to_torch(found)
    del model, found
    jax.clear_caches()
    return logits


# --- the process ---------------------------------------------------------------------------------


def surroundings() -> dict[str, str]:
    """What results depend on beside the code: versions, and the kind of machine."""
    import torch

    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def version(package: str) -> str:
    """The installed version of a distribution, under whichever of its names."""
    for name in (package, f"{package}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"


def serve(gigabytes: float) -> None:
    """Measures what the standard input names; nothing else gets to the standard output."""
    limit = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def report(row: Row, done: bool = False) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        line = {"row": asdict(row), "done": done, "peak": peak}
        print(json.dumps(line), file=results, flush=True)

    for line in sys.stdin:
        request = json.loads(line)
        row = Row.from_json(request["row"])
        report(measure(request["name"], gigabytes, row, report), done=True)


if __name__ == "__main__":
    serve(float(sys.argv[1]))
