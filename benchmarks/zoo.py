"""Time to compile every network that comes with the package, for both frameworks, in one process.

    python benchmarks/zoo.py

Runs the `resnet-spec` that is installed for this Python, as people do: its imports and the writing
of the files count. The target is 5 seconds of the processor's time; what else a busy machine does
is left out.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from resnet_spec.language.library import builtin_specs

TARGET = 5.0
PROGRAM = Path(sys.executable).with_name("resnet-spec")
# Without byte code our modules would be parsed anew; those that pip installs are not.
ENVIRONMENT = {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}


def main() -> None:
    names = builtin_specs()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--backend", "torch", "--backend", "keras", "--set", "training=none"]
        command = [str(PROGRAM), "compile", *names, *options, "--isolated", "--out", folder]
        subprocess.run(command, check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        texts = [path.read_text("utf-8") for path in Path(folder).rglob("*.py")]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    lines = sum(text.count("\n") for text in texts)
    print(f"{len(names)} networks, {len(texts)} files, {lines:,} lines: {seconds:.1f} s")
    print(f"target: {TARGET:.0f} s, ratio {seconds / TARGET:.2f}")


if __name__ == "__main__":
    main()
