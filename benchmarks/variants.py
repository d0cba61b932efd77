"""Variants of a network that are read and lowered in a second of one core.

    python benchmarks/variants.py [repetitions]

A variant is a built-in spec with changes as `--set` makes them: another number of blocks, other
widths or another number of classes. They are lowered as a sweep does, after the network that they
are variants of; no variant is lowered twice. The figure is the mean over ten families. A family
counts with the median of its repetitions in the processor's time, which leaves out what else a
machine does.

Last a sweep of ResNet-50 by three keys, as `resnet-spec sweep` runs it, with parameters and
multiply-adds: what a variant takes of the time that the network takes alone.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial

from measure import seconds

from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.sweep import Space, Sweep
from resnet_spec.sweep.columns import columns
from resnet_spec.sweep.space import axis
from resnet_spec.sweep.variants import lowering

TARGET = 300.0
SWEPT = 1_000.0
SHARE = 0.1

# Each with a stage of it.
FAMILIES = {
    "resnet50": "layer3",
    "resnext50_32x4d": "layer3",
    "wide_resnet50_2": "layer3",
    "resnetv2_50": "layer3",
    "res2net50_26w_4s": "layer3",
    "resnest50d": "layer3",
    "skresnet50": "layer3",
    "seresnet50": "layer3",
    "resnet56": "layer3",
    "preact_resnet164": "layer3",
}


def variants(stage: str) -> Iterator[list[str]]:
    """The settings of each variant of a network."""
    for repeat in (2, 3, 5, 8):
        yield [f"stages.{stage}.repeat={repeat}"]
        yield [f"stages.{stage}.repeat={repeat}", f"classes={10 * repeat}"]
        yield [f"stages.{stage}.filters={32 * repeat}"]


def lower_all(name: str, stage: str, library: Library) -> int:
    """Lower every variant of a network; gives the number of them."""
    return len([lower(load(name, library, each)) for each in variants(stage)])


def repetition(name: str, stage: str) -> float:
    """Seconds for one variant, in a library that has the network itself and nothing else."""
    library = Library()
    lower(load(name, library))
    counted = list(variants(stage))
    return seconds(partial(lower_all, name, stage, library), 1, time.process_time) / len(counted)


def swept(number: int) -> float:
    """Seconds for one variant of a sweep of ResNet-50, from the first on."""
    keys = ("layer3.repeat=1..20", "layer4.filters=64..1280..64", "layer2.filters=64..256..8")
    space = Space([axis(f"stages.{key}") for key in keys])
    library = Library()
    known = columns(lower(load("resnet50", library)))
    sweep = Sweep(space, known, ("parameters", "macs"), "macs < 4e9")
    rows = sweep.rows(space.numbers(number), lowering("resnet50", library))
    return seconds(partial(list, rows), 1, time.process_time) / number


def alone() -> float:
    """Seconds for ResNet-50 in a library that has nothing."""
    return seconds(lambda: lower(load("resnet50", Library())), 1, time.process_time)


def main(repetitions: int) -> None:
    times = []
    for name, stage in FAMILIES.items():
        times.append(statistics.median(repetition(name, stage) for _ in range(repetitions)))
        print(f"{name:18}  {times[-1] * 1000:6.2f} ms")
    rate = 1 / statistics.mean(times)
    print(f"{rate:.0f} variants a second (target: at least {TARGET:.0f})")
    one = statistics.median(swept(2_000) for _ in range(repetitions))
    print(f"{1 / one:.0f} a second of a sweep of resnet50 (target: at least {SWEPT:.0f})")
    whole = statistics.median(alone() for _ in range(repetitions))
    print(f"a variant / the network alone: {one / whole:.3f} (target: at most {SHARE})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
