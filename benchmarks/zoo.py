"""Time to compile every network that comes with the package, for both frameworks, in one process.

    python benchmarks/zoo.py

The target is 5 seconds of the processor's time; what else a busy machine does is left out.
"""

from __future__ import annotations

import time

from resnet_spec.generate import find_backend, generate
from resnet_spec.library import Library, builtin_specs
from resnet_spec.load import load
from resnet_spec.lower import lower

TARGET = 5.0
BACKENDS = ("torch", "keras")


def main() -> None:
    for backend in BACKENDS:
        find_backend(backend)  # imported before the clock runs
    start = time.process_time()
    lines = 0
    for name in builtin_specs():
        files = generate(lower(load(name, Library())), BACKENDS, with_training=False)
        lines += sum(text.count("\n") for text in files.values())
    seconds = time.process_time() - start
    count = len(builtin_specs())
    print(f"{count} networks, {2 * count} files, {lines:,} lines: {seconds:.1f} s")
    print(f"target: {TARGET:.0f} s, ratio {seconds / TARGET:.2f}")


if __name__ == "__main__":
    main()
