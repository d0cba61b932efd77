"""Times of several things of one run, interleaved, so that a busy machine slows all alike."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Task = Callable[[], object]
Clock = Callable[[], float]

MIN_SECONDS = 0.05


@dataclass(frozen=True)
class Comparison:
    """Two tasks by name; the ratio of the first to the second is to be at most `target`."""

    task: str
    yardstick: str
    target: float


def interleaved(
    tasks: Mapping[str, Task], repetitions: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """The median seconds of each task; every repetition runs all of them, after one warm-up.

    Their order changes, for what ran before leaves the caches as it does. A task that takes less
    than `MIN_SECONDS` is run several times in a row, and its mean counts.
    """
    calls = {name: calls_needed(task) for name, task in tasks.items()}
    times: dict[str, list[float]] = {name: [] for name in tasks}
    chance = random.Random(0)
    for _ in range(repetitions):
        for name in chance.sample(sorted(tasks), len(tasks)):
            times[name].append(seconds(tasks[name], calls[name], clock) / calls[name])
    return {name: statistics.median(found) for name, found in times.items()}


def calls_needed(task: Task) -> int:
    """How often a task is to be called in a row; the first call warms up and does not count."""
    task()
    return max(1, math.ceil(MIN_SECONDS / seconds(task, 1)))


def seconds(task: Task, calls: int, clock: Clock = time.perf_counter) -> float:
    started = clock()
    for _ in range(calls):
        task()
    return clock() - started


def report(medians: Mapping[str, float], comparisons: list[Comparison]) -> str:
    """The medians as a table, then each ratio beside its target."""
    width = max(len(name) for name in medians)
    lines = [f"{name:{width}}  {seconds * 1000:9.1f} ms" for name, seconds in medians.items()]
    lines.append("")
    for comparison in comparisons:
        ratio = medians[comparison.task] / medians[comparison.yardstick]
        lines.append(
            f"{comparison.task} / {comparison.yardstick}: "
            f"{ratio:.3g} (target: at most {comparison.target:.3g})"
        )
    return "\n".join(lines)
