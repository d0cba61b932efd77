"""The parts of docs/training.md that are made from recorded runs, and its figure."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from training_record import FOLDER, Record

PAGE = FOLDER.with_suffix(".md")
FIGURE = FOLDER / "plain.svg"
GPU = FOLDER.with_name("gpu.json")
ENGINES = ("torch", "tensorflow", "jax")
HEAD = ("command", "seeds", "last training loss", "accuracy in %", "difference from PyTorch")
# What the figure compares: runs of PyTorch without shortcuts and with them, of the same steps.
PANELS = (("plain20", "resnet20"), ("plain56", "resnet56"))
COLOURS = ("#c0392b", "#2468b4")
WIDTH, HEIGHT, EDGE = 380, 260, 36
TOP = 2.5  # of the axis; a loss beyond lies on the frame. Guessing among ten classes has 2.3

Runs = dict[str, list[Record]]  # by engine, in the order of their seeds


def parts(records: Sequence[Record]) -> dict[str, str]:
    """The generated parts of the page, by name."""
    lines = [HEAD, ["---"] * len(HEAD), *rows(records)]
    return {
        "runs": "\n".join(f"| {' | '.join(line)} |" for line in lines),
        "machines": machines(records),
        "gpu": gpu(GPU),
    }


def gpu(path: Path) -> str:
    """What benchmarks/gpu.py measured, a line for each figure."""
    found = json.loads(path.read_text(encoding="utf-8"))
    where = found.pop("machine")
    versions = ", ".join(f"{name} {where[name]}" for name in ("torch", "keras", "jax", "flax"))
    lines = [
        f"ResNet-50 on an {where['gpu']} with {where['cores']} cores ({versions}), measured by",
        "`python benchmarks/gpu.py`. Its help explains them; a step has 256 images of 224x224:",
        "",
        "| measure | figure |",
        "| --- | --- |",
    ]
    lines += [f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in figures(found)]
    return "\n".join(lines)


def figures(found: dict[str, Any], way: str = "") -> Iterator[tuple[str, float]]:
    """Every number of nested measures, by the way to it."""
    for name, value in found.items():
        path = f"{way}, {name}".lstrip(", ")
        if isinstance(value, dict):
            yield from figures(value, path)
        elif isinstance(value, float):
            yield path, value


def grouped(records: Iterable[Record]) -> list[Runs]:
    """Together what differs in engine and seed alone; numbers as numbers: 8 before 20."""
    groups: dict[tuple[str, int], Runs] = {}
    for each in sorted(records, key=lambda r: (_order(r.network), ENGINES.index(r.engine), r.seed)):
        groups.setdefault((each.network, each.steps), {}).setdefault(each.engine, []).append(each)
    return list(groups.values())


def _order(name: str) -> tuple[str, int]:
    family, depth = re.findall(r"^(\D+)(\d+)", name)[0]
    return family, int(depth)


# --- the table -----------------------------------------------------------------------------------


def rows(records: Sequence[Record]) -> Iterator[list[str]]:
    """A row for each command, the seed left open."""
    for runs in grouped(records):
        for engine, seeds in runs.items():
            (command,) = {each.command.replace(f"--seed {each.seed}", "--seed N") for each in seeds}
            loss = statistics.mean(each.curve[-1][1] for each in seeds)
            apart = ""
            if engine != "torch" and "torch" in runs:
                apart = measured(*difference(seeds, runs["torch"]))
            numbers = ", ".join(str(each.seed) for each in seeds)
            yield [f"`{command}`", numbers, f"{loss:.3f}", measured(*spread(seeds)), apart]


def spread(seeds: Sequence[Record]) -> tuple[float, float]:
    """Mean and standard deviation of the accuracy after the last step, in percent."""
    found = [100 * (1 - each.val_error) for each in seeds]
    return statistics.mean(found), statistics.stdev(found) if len(found) > 1 else math.nan


def difference(ours: Sequence[Record], others: Sequence[Record]) -> tuple[float, float]:
    """By how many points the means of the accuracy differ, and the standard error of that."""
    (mean, deviation), (other, its_deviation) = spread(ours), spread(others)
    variance = deviation**2 / len(ours) + its_deviation**2 / len(others)
    return mean - other, math.sqrt(variance)


def measured(value: float, deviation: float) -> str:
    """`91.20 ± 0.15`; nothing is said of a deviation that is not known."""
    return f"{value:.2f}" if math.isnan(deviation) else f"{value:.2f} ± {deviation:.2f}"


def machines(records: Sequence[Record]) -> str:
    """On what the runs were made, and with which versions."""
    places = sorted({f"{r.machine}, {r.threads} thread per run" for r in records})
    found = sorted({f"{name} {v}" for r in records for name, v in r.versions.items()})
    return f"On {'; '.join(places)}. With {', '.join(found)}."


# --- the figure ----------------------------------------------------------------------------------


def figure(records: Sequence[Record]) -> str:
    """The training loss of the networks of each panel by the step, as SVG."""
    pairs = [pair for names in PANELS if len(pair := pair_of(records, names)) == 2]
    body = [line for n, pair in enumerate(pairs) for line in panel(n * WIDTH, pair)]
    size = f'width="{WIDTH * len(pairs)}" height="{HEIGHT}"'
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" '
    opened += 'font-size="12">\n<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([opened, *body, "</svg>", ""])


def pair_of(records: Sequence[Record], names: tuple[str, str]) -> list[Record]:
    """A run of each network in PyTorch: of the same steps, with the first seed."""
    found = (runs["torch"][0] for runs in grouped(records) if "torch" in runs)
    runs = {each.network: each for each in found if each.network in names}
    same = len({each.steps for each in runs.values()}) == 1
    return [runs[name] for name in names if name in runs] if same else []


def panel(left: int, pair: Sequence[Record]) -> Iterator[str]:
    """Axes, curves and their names, from `left` pixels on."""
    steps = pair[0].steps
    wide, high = WIDTH - 2 * EDGE, HEIGHT - 2 * EDGE
    frame = f'x="{left + EDGE}" y="{EDGE}" width="{wide}" height="{high}"'
    yield f'<rect {frame} fill="none" stroke="#999"/>'
    for value in (0.5 * n for n in range(int(2 * TOP) + 1)):
        y = EDGE + high * (1 - value / TOP)
        yield f'<text x="{left + EDGE - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    yield text(left + EDGE, HEIGHT - EDGE + 16, "0")
    yield text(left + WIDTH - EDGE - 60, HEIGHT - EDGE + 16, f"step {steps}")
    for number, (run, colour) in enumerate(zip(pair, COLOURS, strict=True)):
        places = (
            f"{left + EDGE + wide * step / steps:.1f},{EDGE + high * (1 - min(loss / TOP, 1)):.1f}"
            for step, loss in run.curve
        )
        line = f'fill="none" stroke="{colour}" stroke-width="2"'
        yield f'<polyline points="{" ".join(places)}" {line}/>'
        name = f"{run.network}: {run.curve[-1][1]:.3f}"
        yield text(left + WIDTH - EDGE - 120, EDGE + 20 + 16 * number, name, colour)


def text(x: int, y: int, words: str, colour: str = "#333") -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}">{words}</text>'
