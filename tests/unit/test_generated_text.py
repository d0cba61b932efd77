"""The text of generated code: clean, self-contained, and the same everywhere."""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import parity
import pytest

PAPER = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
SPECS = (*PAPER, *sorted(str(path) for path in parity.SPECS.glob("*.yaml")))
BACKENDS = ("torch", "keras", "flax")
# What a generated module may import beside its framework.
STANDARD = {"collections", "dataclasses", "functools", "math", "typing"}
BELOW = {"flax": ("jax",)}  # what a framework stands on


@functools.cache
def source(spec: str, backend: str) -> str:
    return parity.source_of(parity.network_of(spec), backend)


def test_ruff_has_nothing_to_say() -> None:
    texts = {
        f"{Path(spec).stem}_{backend}": source(spec, backend)
        for spec in SPECS
        for backend in BACKENDS
    }
    assert parity.complaints(texts) == ""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("spec", SPECS)
def test_a_module_imports_its_framework_alone(spec: str, backend: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse(source(spec, backend))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and node.level == 0
            imported.add(node.module.split(".")[0])
    assert backend in imported
    assert imported <= {backend, *BELOW.get(backend, ()), *STANDARD}


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_function_and_class_says_what_it_is(backend: str) -> None:
    for spec in SPECS:
        for node in ast.parse(source(spec, backend)).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                assert ast.get_docstring(node), f"{spec}: {node.name}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_length_does_not_grow_with_depth(backend: str) -> None:
    """ResNet-20 (n = 3) and ResNet-1202 (n = 200) differ in numbers alone."""
    text = (parity.SPECS / "option_a.yaml").read_text()
    assert text.count("repeat: 3") == 3
    lengths = {}
    for n in (3, 18, 200):
        network = parity.network_of_text(text.replace("repeat: 3", f"repeat: {n}"))
        convolutions = [o for _, o in network.operations() if o.primitive.name == "conv"]
        assert len(convolutions) == 6 * n + 1
        lengths[n] = len(parity.source_of(network, backend).splitlines())
    assert len(set(lengths.values())) == 1, lengths


def test_what_no_spec_uses_is_not_there() -> None:
    """No argument, option or helper function that this network does without."""
    text = source("resnet50", "torch")
    for word in ("groups", "dilation", "attention", "always_project", "base_width", "DropPath"):
        assert word not in text
    text = source("resnet50", "keras")
    for word in ("groups", "dilation", "attention", "softmax", "make_divisible", "bias_init"):
        assert word not in text


NEGATED = """\
spec_version: 1
name: negated
description: A network that subtracts
input: {channels: 3, height: 8, width: 8}
classes: 4
blocks:
  minus:
    description: The input less what a convolution makes of it
    layers:
      - {conv: conv, filters: in_channels, kernel: 3}
      - {rescale: minus, factor: -1, offset: 0.0, as: residual}
      - {add: [residual, x]}
stages:
  - {name: layer1, block: minus}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""


@pytest.mark.parametrize("backend", ["keras", "flax"])
def test_a_negation_is_one(backend: str) -> None:
    """PyTorch has it as a layer, by its name."""
    text = parity.source_of(parity.network_of_text(NEGATED), backend)
    assert "residual = -residual\n" in text and "0.0 -" not in text


BRANCHES = """\
spec_version: 1
name: branches
description: A network of blocks with conditions
input: {channels: 3, height: 8, width: 8}
classes: 4
blocks:
  optional:
    description: An optional convolution and activation
    args: {wide: false, last: true}
    layers:
      - {conv: conv1, filters: 4, kernel: 3, when: wide}
      - {norm: bn1, when: wide}
      - {act: act1, when: wide}
      - {norm: bn2, when: wide}
      - {act: act2, when: last}
      - {conv: conv3, filters: 4, kernel: 3}
stem:
  - {conv: conv, filters: 4, kernel: 3}
stages:
  - {name: layer1, block: optional}
  - {name: layer2, block: optional, wide: true}
  - {name: layer3, block: optional, wide: true, last: false}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""


def test_an_activation_works_in_place_where_its_input_is_always_new() -> None:
    """Where `act2` runs without `bn2`, its input is the block's, which hooks may have kept."""
    text = parity.source_of(parity.network_of_text(BRANCHES), "torch")
    assert "self.act1 = nn.ReLU(inplace=True)\n" in text
    assert "self.act2 = nn.ReLU()\n" in text


# Run in a process of its own, where hashes, folder and locale differ.
DIGESTS = textwrap.dedent(
    """
    import hashlib
    import sys
    from resnet_spec.codegen.generate import generate
    from resnet_spec.language.library import Library
    from resnet_spec.language.load import load
    from resnet_spec.lower import lower

    for name in sys.argv[1:]:
        with open(name, "rb") as file:
            network = lower(load("given.yaml", Library(), text=file.read()))
        for path, text in sorted(generate(network, ["torch", "keras", "json"]).items()):
            print(path, hashlib.sha256(text.encode()).hexdigest())
    """
)


def test_output_is_the_same_everywhere(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    # Networks with many blocks, helper functions and initializers, where an order could slip.
    files = [str(parity.SPECS / f"{name}.yaml") for name in ("primitives", "resnest", "inits")]
    found = set()
    for seed, folder, locale in (
        ("0", root, "C"),
        ("1", tmp_path, "C.UTF-8"),
        ("4711", Path("/"), "tr_TR.UTF-8"),
    ):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "LC_ALL": locale,
            "TZ": "Asia/Kathmandu",
            "PYTHONPATH": str(root),
        }
        done = subprocess.run(
            [sys.executable, "-c", DIGESTS, *files],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1
    assert len(found.pop().splitlines()) == 3 * len(files)
