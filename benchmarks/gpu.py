"""All that is measured on a GPU, in one run: python benchmarks/gpu.py --out gpu.json

- steps-torch, steps-jax, steps-flax: training of ResNet-50 on one batch, images a second: PyTorch
  beside torchvision and timm, in bfloat16 with channels last and torch.compile; Keras on JAX beside
  keras.applications; Flax beside one by hand
- loading: JPEGs read by all cores beside torchvision's loader
- trainer: the compiled trainer on JPEGs, and on noise, which needs no reading
- equality: logits in single precision without TF32 beside double precision on the CPU, and beside
  torchvision's
- fashion: ResNet-18 on Fashion-MNIST, its accuracy and seconds; FASHION_MNIST names another folder

Each runs in a process of its own, one after the other, so none holds memory that another needs.
What fails is told in the file, and the others go on; a file of the same machine keeps the measures
that are not named. --tiny has sizes that a CPU ends in minutes, and noise in place of
Fashion-MNIST; it shows that all of it runs, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "support")]

from resnet_spec.codegen.generate import generate  # noqa: E402 - found by the line above
from resnet_spec.language.library import Library  # noqa: E402
from resnet_spec.language.load import load  # noqa: E402
from resnet_spec.lower import lower  # noqa: E402

PACKAGES = ("torch", "torchvision", "timm", "keras", "jax", "flax", "grain", "pillow", "numpy")
ENGINES = ("torch", "jax", "flax")


@dataclass(frozen=True)
class Sizes:
    """How much is measured; `side` is that of the images of the steps."""

    batch: int
    side: int
    repetitions: int
    images: int
    steps: int
    epochs: int
    network: str
    spec: tuple[str, ...]


WHOLE = Sizes(256, 224, 20, 50_000, 400, 20, "resnet50", ())
SMALL = ("input.height=32", "input.width=32")
TINY = Sizes(8, 32, 1, 64, 2, 0, "resnet8_mlperf_tiny", SMALL)


def main(words: list[str]) -> int:
    options = parse(words)
    sizes = TINY if options.tiny else WHOLE
    found: dict[str, Any] = {"tiny": options.tiny, "machine": machine()}
    if options.out.is_file():
        before = json.loads(options.out.read_text(encoding="utf-8"))
        found = before if before.items() >= found.items() else found
    for name in options.measures:
        print(f"{name} ...", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                found[name] = MEASURES[name](Path(folder), sizes)
            except (RuntimeError, OSError, ValueError, LookupError) as error:
                found[name] = {"failed": " ".join(str(error).split())[-500:]}
        print(json.dumps(found[name], indent=1), flush=True)
        options.out.write_text(f"{json.dumps(found, indent=1)}\n", encoding="utf-8")
    return 1 if any("failed" in found[name] for name in options.measures) else 0


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measures", nargs="*", help="default: all")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--tiny", action="store_true", help="sizes for a CPU")
    options = parser.parse_args(words)
    if wrong := set(options.measures) - MEASURES.keys():
        parser.error(f"there is no measure {min(wrong)}; there are: {', '.join(MEASURES)}")
    options.measures = options.measures or list(MEASURES)
    return options


def machine() -> dict[str, Any]:
    """On what it runs, and with which versions."""
    import torch

    cuda = torch.cuda.is_available()
    names = {each.name for each in metadata.distributions()}
    return {
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES if name in names},
    }


def run(*words: object, backend: str = "tensorflow") -> str:
    """What a program of Python prints; raises `RuntimeError` with the end of what went wrong."""
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path}
    environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"status {done.returncode}")
    return done.stdout


def measured(folder: Path, *words: object) -> dict[str, Any]:
    """What a benchmark beside this one writes down."""
    out = folder / "found.json"
    run(*words, "--json", out)
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


# --- measures ------------------------------------------------------------------------------------


def steps(engine: str, folder: Path, sizes: Sizes) -> dict[str, Any]:
    shape = ("--batch", sizes.batch, "--size", sizes.side)
    words = (HERE / "training.py", engine, *shape, "--repetitions", sizes.repetitions)
    return measured(folder, *words)


def loading(folder: Path, sizes: Sizes) -> dict[str, Any]:
    workers = os.cpu_count() or 1
    words = ("--images", sizes.images, "--workers", workers, "--batch", min(32, sizes.images // 2))
    return measured(folder, HERE / "loading.py", *words, "--repetitions", min(5, sizes.repetitions))


def trainer(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """The median images a second of a run, its first tenth left out."""
    from loading import write_images

    write_images(folder / "images", sizes.images)
    name = sizes.network
    program = compiled(folder, name, "training=imagenet_modern", *sizes.spec)
    cuda = machine()["gpu"] is not None
    fast = ("--precision", "bf16", "--compile") if cuda else ()
    size = ("--train-size", sizes.side, "--repeats", 1, "--warmup", 0)
    found = {}
    for kind, data in (("JPEGs", folder / "images"), ("noise", "synthetic")):
        out = folder / kind
        flags = ("--batch-size", sizes.batch, "--max-steps", sizes.steps, "--log-every", 1)
        run(program, name, "--data", data, "--out", out, *flags, *size, *fast)
        found[kind] = speed(out)
    precision = "bfloat16" if cuda else "float32"
    return {"network": name, "precision": precision, "images_per_second": found}


def speed(out: Path) -> float:
    """The median images a second that a run told."""
    import statistics

    lines = [json.loads(line) for line in (out / "metrics.jsonl").open(encoding="utf-8")]
    speeds = [float(line["images_per_second"]) for line in lines if "images_per_second" in line]
    return statistics.median(speeds[len(speeds) // 10 :])


def equality(folder: Path, sizes: Sizes) -> dict[str, Any]:
    return dict(json.loads(run("-c", EQUALITY, HERE.parent / "tests", sizes.batch, sizes.side)))


# In a process of its own: the network of this project and torchvision's, with the same weights.
EQUALITY = """
import json, sys
tests, batch, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sys.path[:0] = [f"{tests}/support"]
import parity, reference, torch
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
torch.manual_seed(0)
network = lower(load("resnet50", Library()))
ours = parity.run(parity.source_of(network, "torch"), "compiled_resnet50").resnet50().eval()
theirs = reference.torchvision().models.resnet50().eval()
theirs.load_state_dict(ours.state_dict())
images = torch.randn(min(batch, 16), 3, side, side)
device = "cuda" if torch.cuda.is_available() else "cpu"
with torch.inference_mode():
    whole = ours.double()(images.double())
    single = [each.float().to(device)(images.to(device)).double().cpu() for each in (ours, theirs)]
scale = whole.abs().max()
found = {
    "to double precision": float((single[0] - whole).abs().max() / scale),
    "to torchvision": float((single[0] - single[1]).abs().max() / scale),
}
print(json.dumps(found))
"""


def fashion(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """ResNet-18 as for CIFAR: a first convolution of 3x3 on the images as they are."""
    name, data = "resnet18", os.environ.get("FASHION_MNIST", "fashion-mnist")
    changes = ["stem=[{conv: conv1, filters: 64, kernel: 3}, {norm: bn1}, act]"]
    length = ("--length", sizes.epochs)
    if not sizes.epochs:
        name, data, length = sizes.network, "synthetic", ("--max-steps", sizes.steps)
        changes = ["input.channels=1", *sizes.spec]
    program = compiled(folder, name, "training=fashion_mnist", *changes)
    fast = ("--precision", "bf16", "--compile") if machine()["gpu"] else ()
    started = time.perf_counter()
    run(program, name, "--data", data, "--out", folder / "run", *length, *fast)
    seconds = time.perf_counter() - started
    last = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    accuracy = 100 * (1 - json.loads(last)["val_error"])
    return {"network": name, "accuracy_percent": accuracy, "seconds": seconds}


def compiled(folder: Path, name: str, *settings: str) -> Path:
    """The PyTorch trainer with a network beside it."""
    network = lower(load(name, Library(), settings))
    for path, text in generate(network, ["torch"], trainer=True).items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder / "torch" / "train.py"


MEASURES: dict[str, Callable[[Path, Sizes], dict[str, Any]]] = {
    **{f"steps-{engine}": functools.partial(steps, engine) for engine in ENGINES},
    "loading": loading,
    "trainer": trainer,
    "equality": equality,
    "fashion": fashion,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
