"""Time and memory of `resnet-spec import` for ResNet-152, from each source of PyTorch.

    python benchmarks/imports.py [repetitions]

Runs the `resnet-spec` that is installed for this Python. Memory is the resident memory of all of
its processes at once, for which Linux is asked; pages that two of them share count in both.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

PROGRAM = [str(Path(sys.executable).with_name("resnet-spec"))]
SECONDS, TIMES_THE_MODEL = 10.0, 4.0
SOURCES = ("net.onnx", "net.pt2", "trained.py:net")
INTERVAL = 0.05  # seconds between two looks at the memory

# With statistics of no fresh norm, so that none is taken for one that does nothing.
TRAINED = """
import torch
from torch import nn
from resnet152 import resnet152

def net() -> nn.Module:
    torch.manual_seed(0)
    model = resnet152()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.4, 1.0)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()
"""
EXPORT = """
import sys, torch
sys.path.insert(0, ".")
from trained import net
model, images = net(), (torch.zeros(1, 3, 224, 224),)
torch.onnx.export(model, images, "net.onnx", dynamo=False)
torch.export.save(torch.export.export(model, images), "net.pt2")
"""


class Used(NamedTuple):
    """What a command took: seconds by the clock and of the processors, and bytes at the most."""

    seconds: float
    processor: float
    memory: int


def used_by(command: list[str], folder: Path) -> Used:
    """What a command and the processes that it starts take; ends this program when it fails."""
    started, before, memory = time.perf_counter(), sum(os.times()[2:4]), 0
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        while process.poll() is None:
            memory = max(memory, resident(process.pid))
            time.sleep(INTERVAL)
        if process.returncode:
            log.seek(0)
            sys.exit(f"{' '.join(command)}: {log.read().decode(errors='replace')}")
    return Used(time.perf_counter() - started, sum(os.times()[2:4]) - before, memory)


def resident(process: int) -> int:
    """The bytes of a process and its children that are in memory; none of one that has ended."""
    folder = Path("/proc", str(process))
    try:
        pages = int((folder / "statm").read_text().split()[1])
        children = [each.read_text() for each in folder.glob("task/*/children")]
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(
        resident(int(child)) for text in children for child in text.split()
    )


def prepare(folder: Path) -> int:
    """Put the network, as each source has it, into a folder; gives the bytes of its weights."""
    compiled = [*PROGRAM, "compile", "resnet152", "--backend", "torch", "--out", "compiled"]
    used_by(compiled, folder)
    (folder / "compiled" / "torch" / "resnet152.py").rename(folder / "resnet152.py")
    (folder / "trained.py").write_text(TRAINED, encoding="utf-8")
    used_by([sys.executable, "-c", EXPORT], folder)
    return (folder / "net.onnx").stat().st_size


def imported(source: str, folder: Path) -> Used:
    """What the import of a source takes."""
    words = ["import", source, "--out", "net.yaml", "--weights", "net.safetensors", "--force"]
    return used_by([*PROGRAM, *words], folder)


def main(repetitions: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        size = prepare(folder)
        for source in SOURCES:
            print(report(source, [imported(source, folder) for _ in range(repetitions)], size))


def report(source: str, runs: list[Used], size: int) -> str:
    """The medians beside their targets."""
    seconds, processor, memory = (statistics.median(each) for each in zip(*runs, strict=True))
    return (
        f"{source:14}  {seconds:5.1f} s (of the processors {processor:.1f} s), "
        f"{memory / 1e6:,.0f} MB: {seconds / SECONDS:.2f} of {SECONDS:.0f} s, "
        f"{memory / size:.2f} times the model (target: at most {TIMES_THE_MODEL:.0f})"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
