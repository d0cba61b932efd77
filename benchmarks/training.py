"""A step of training under the compiled trainer: compiled networks beside hand-written ones.

    python benchmarks/training.py torch        beside torchvision's and timm's network
    python benchmarks/training.py tensorflow   beside that of keras.applications
    python benchmarks/training.py jax
    python benchmarks/training.py flax         beside one that is written by hand, in flax_resnet.py

All of a run have the same weights, batch, recipe, precision and layout, which their first losses
show. They run on a GPU where the framework finds one: in bfloat16, PyTorch with channels last and
torch.compile. --processor counts the time of all cores instead of the clock's: what else a busy
machine does is left out then, and waiting as well.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / each) for each in ("support", "published")]

import zoo  # noqa: E402 - stands in the folder of the tests
from measure import Comparison, interleaved, report  # noqa: E402 - sorted with the line above

from resnet_spec.codegen.generate import generate  # noqa: E402
from resnet_spec.ir import Network  # noqa: E402
from resnet_spec.language.library import Library  # noqa: E402
from resnet_spec.language.load import load  # noqa: E402
from resnet_spec.language.renames import renamed  # noqa: E402
from resnet_spec.lower import lower  # noqa: E402

NETWORKS = {
    "torch": "resnet50",
    "tensorflow": "keras_resnet50",
    "jax": "keras_resnet50",
    "flax": "resnet50",
}
OURS = "compiled"
CLASSES = 1000
RATE = 1e-3  # of a network that sees one batch again and again
SAME_LOSS = {"float32": 1e-3, "bfloat16": 3e-2}

Step = Callable[[], float]  # trains once, gives the loss, and so waits for the device


def main(words: list[str]) -> None:
    options = parse(words)
    network = lower(load(options.network or NETWORKS[options.engine], Library()))
    with tempfile.TemporaryDirectory() as folder:
        if options.engine == "torch":
            device, precision, steps = torch_steps(network, Path(folder), options)
        elif options.engine == "flax":
            device, precision, steps = flax_steps(network, options)
        else:
            os.environ["KERAS_BACKEND"] = options.engine
            device, precision, steps = keras_steps(network, Path(folder), options)
        check_same(steps, SAME_LOSS[precision])
        shape = f"{options.batch} images of {options.size}x{options.size}"
        print(f"{network.name}, {shape}, {precision}, {options.engine} on {device}")
        clock = time.process_time if options.processor else time.perf_counter
        medians = interleaved(steps, options.repetitions, clock)
    print(report(medians, [Comparison(OURS, other, 1.0) for other in steps if other != OURS]))
    if options.json:
        speeds = {name: options.batch / seconds for name, seconds in medians.items()}
        facts = {"network": network.name, "precision": precision, "device": device}
        text = json.dumps({**facts, "batch": options.batch, "images_per_second": speeds})
        options.json.write_text(text, encoding="utf-8")


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", choices=NETWORKS)
    parser.add_argument("--network", help="a spec that names published networks")
    parser.add_argument("--text", help="of flax: a file in place of what is compiled")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--json", type=Path, help="a file for the images a second")
    parser.add_argument("--processor", action="store_true", help="measure time of the processor")
    return parser.parse_args(words)


def check_same(steps: Mapping[str, Step], tolerance: float) -> None:
    """The first losses agree, or these are not the same networks."""
    losses = {name: step() for name, step in steps.items()}
    if max(losses.values()) - min(losses.values()) > tolerance * abs(losses[OURS]):
        sys.exit(f"not the same network: the first losses are {losses}")


def compiled(
    network: Network, backend: str, folder: Path
) -> tuple[ModuleType, Any, dict[str, Any]]:
    """The trainer of a network, the function that builds it, and its recipe."""
    for path, text in generate(network, [backend], trainer=True).items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    sys.path.insert(0, str(folder / backend))
    trainer = importlib.import_module("train")
    recipe = importlib.import_module("common").parse([network.name], "", {}).recipe
    build = getattr(importlib.import_module(network.name), network.name)
    fixed = {"learning_rate": RATE, "schedule": "constant", "warmup": 0, "loss_weights": []}
    return trainer, build, {**recipe, **fixed}


def batch_of(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Noise (n, H, W, 3) and targets (n, classes)."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((options.batch, options.size, options.size, 3))
    targets = np.eye(CLASSES)[rng.integers(0, CLASSES, options.batch)]
    return images.astype(np.float32), targets.astype(np.float32)


# --- PyTorch -------------------------------------------------------------------------------------


def torch_steps(
    network: Network, folder: Path, options: argparse.Namespace
) -> tuple[str, str, dict[str, Step]]:
    """The device, the precision, and a step of each network."""
    import torch

    train, build, recipe = compiled(network, "torch", folder)
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    args = importlib.import_module("common").parse([network.name], "", train.FLAGS)
    args.precision = "bf16" if cuda else "fp32"
    place = train.Place(args)
    layout = place.layout
    models = {OURS: build()}
    for published in network.references:
        if published.library in ("torchvision", "timm"):
            model = zoo.published_model(published)
            names = {renamed(name, published.rename): name for name in model.state_dict()}
            state = {names[name]: value for name, value in models[OURS].state_dict().items()}
            model.load_state_dict(state)
            models[published.library] = model
    images, targets = (torch.from_numpy(values).to(device) for values in batch_of(options))
    images = images.permute(0, 3, 1, 2).contiguous(memory_format=layout)

    def step_of(model: Any) -> Step:
        model = model.to(device, memory_format=layout).train()
        optimizer, _ = train.make_optimizer(model, recipe)
        model = torch.compile(model) if cuda else model
        given = [(images, targets)], recipe["clip_norm"], place
        return lambda: float(train.update(model, optimizer, *given)[0])

    name = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} threads"
    steps = {name: step_of(model) for name, model in models.items()}
    return name, "bfloat16" if cuda else "float32", steps


# --- Keras ---------------------------------------------------------------------------------------


def keras_steps(
    network: Network, folder: Path, options: argparse.Namespace
) -> tuple[str, str, dict[str, Step]]:
    """The device, the precision, and a step of each network."""
    import keras

    gpu = gpu_of(options.engine)
    if gpu:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    train, build, recipe = compiled(network, "keras", folder)
    (published,) = (r for r in network.references if r.library == "keras.applications")
    shape = (options.size, options.size, 3)
    ours, theirs = build(CLASSES, shape), zoo.keras_application(published, shape)
    for layer in theirs.layers:
        if layer.weights:
            name = renamed(layer.name, published.rename).replace(".", "_")
            layer.set_weights(ours.get_layer(name).get_weights())
    rng, number = np.random.default_rng(0), options.batch
    images = rng.integers(0, 256, (number, options.size, options.size, 3), np.uint8)
    labels, chances = rng.integers(0, CLASSES, number), np.eye(number, 9, dtype=np.float32)

    def step_of(raw: Any) -> Step:
        model = train.make_ready(raw, recipe)
        return lambda: float(model.train_on_batch((images, chances), labels)[0])

    steps = {OURS: step_of(ours), published.library: step_of(theirs)}
    return gpu or f"{os.cpu_count()} cores", "bfloat16" if gpu else "float32", steps


def gpu_of(engine: str) -> str:
    """The name of the first GPU; empty where there is none."""
    if engine in ("jax", "flax"):
        import jax

        return str(jax.devices()[0].device_kind) if jax.default_backend() == "gpu" else ""
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(found[0])["device_name"] if found else "")


# --- Flax ----------------------------------------------------------------------------------------


def flax_steps(network: Network, options: argparse.Namespace) -> tuple[str, str, dict[str, Step]]:
    """The device, the precision, and a step of each network, with optax's SGD in float32."""
    import flax_resnet
    import parity
    from flax import nnx

    text = Path(options.text).read_text(encoding="utf-8") if options.text else None
    module = parity.run(text or parity.source_of(network, "flax"), f"compiled_{network.name}")
    ours = getattr(module, network.name)(CLASSES, rngs=nnx.Rngs(0))
    theirs = flax_resnet.ResNet50(CLASSES, rngs=nnx.Rngs(0))
    take_over(theirs, ours, network)
    batch = batch_of(options)
    steps = {OURS: flax_step(ours, batch), "by hand": flax_step(theirs, batch)}
    return gpu_of("flax") or f"{os.cpu_count()} cores", "float32", steps


def take_over(theirs: Any, ours: Any, network: Network) -> None:
    """Gives the network by hand the weights of ours: both say where each of them stands."""
    from flax import nnx
    from flax_resnet import BottleneckBlock

    def under(layer: Any, owned: Any) -> None:
        nnx.update(layer, nnx.state(owned, nnx.Param))

    for layer, owned in (("conv_init", "conv1"), ("bn_init", "bn1"), ("head", "fc")):
        under(getattr(theirs, layer), getattr(ours, owned))
    stages = (getattr(ours, stage.name) for stage in network.stages)
    pairs = zip(theirs.blocks, (block for stage in stages for block in stage), strict=True)
    for block, own in pairs:
        assert isinstance(block, BottleneckBlock)
        for number in (1, 2, 3):
            under(getattr(block, f"conv{number}"), getattr(own, f"conv{number}"))
            under(getattr(block, f"norm{number}"), getattr(own, f"bn{number}"))
        if block.projects:
            under(block.conv_proj, own.downsample[0])
            under(block.norm_proj, own.downsample[1])


def flax_step(model: Any, batch: tuple[np.ndarray, np.ndarray]) -> Step:
    """A step of a model, compiled as a whole."""
    import optax
    from flax import nnx

    optimizer = nnx.Optimizer(model, optax.sgd(RATE, momentum=0.9), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any, images: Any, targets: Any) -> Any:
        def loss_of(model: Any) -> Any:
            return optax.softmax_cross_entropy(model(images), targets).mean()

        loss, gradients = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, gradients)
        return loss

    return lambda: float(step(model, optimizer, *batch))


if __name__ == "__main__":
    main(sys.argv[1:])
