"""Takes random networks through the whole compiler and says what becomes of each.

    python tests/programs/fuzz.py --count 2000 --start 0 --processes 2
    python tests/programs/fuzz.py --shrink 1234
    python tests/programs/fuzz.py --count 300 --lint texts

What a spec says may be refused while it is read; what was read must compile, and the text must do
what the network says in each framework; that the program does so, each compile proves itself.
"""

from __future__ import annotations

import argparse
import collections
import functools
import multiprocessing
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from random_networks import Files, random_network
from standins import differences
from standins.run import parsed

from resnet_spec.codegen.generate import generate
from resnet_spec.diagnostics import SpecError
from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

BACKENDS = ("torch", "keras", "flax")

# What stays refused after reading, because a framework can't have it: code and message.
LIMITS = tuple(
    re.compile(text)
    for text in (
        r"RS305 .*the expression has more than .* parts",
        r"RS502 .*nothing uses the output of",
        r"RS502 .*a Keras convolution can't have both a stride and a dilation",
        r"RS502 .*last stage.* must give a feature map",
        r"RS503 .*a layer can't be called '.*' in (PyTorch|Flax)",
        # A clash of the spec's own names; names that it leaves to the compiler must not clash.
        r"RS503 the layers .* are both .* in Keras",
        r"RS503 in Keras, the layer .* looks like one of",
        r"RS503 a layer can't be called .* in Keras, which has an? (function|input) of that name",
        r"RS503 a network can't be called .* (a name of Python|uses this name)",
    )
)


HEAD = re.compile("RS502 the head can only use the output of the last stage")


def reads_before_head(network: Network) -> bool:
    """Whether the head reads something else than the last feature map, which is refused."""
    steps = network.root.steps
    known = {number for step in steps[network.head :] for number in step.outputs}
    known.update(steps[network.head - 1].outputs if network.head else (0,))
    return any(number not in known for step in steps[network.head :] for number in step.inputs)


class Finding(NamedTuple):
    """What became of a network, or one thing that is wrong with what came of it."""

    kind: str  # ok, invalid, limit, refused, crash, text, parse
    where: str  # step or backend
    message: str

    @property
    def group(self) -> str:
        """Alike for findings that are likely of one cause."""
        return f"{self.kind}, {self.where}: {normalised(self.message)}"

    @property
    def is_fault(self) -> bool:
        return self.kind not in ("ok", "invalid", "limit")


def normalised(message: str) -> str:
    """Without the names and numbers of one network."""
    text = re.sub(r"^(RS\d+ )?(?:(?!\w*Error:)[\w.]+: ){0,2}", r"\1", message)  # where it is
    text = re.sub(r"^[\w.]+: reads", "reads", text)
    text = re.sub(r"\S*<.*?>", "<…>", text)
    text = re.sub(r"\{.*?\}", "{…}", text)
    text = re.sub(r"(?<!\w)'[^']*'", "'…'", text)
    text = re.sub(r"\((?:[^()]|\([^()]*\))*\)|\[.*\]", "(…)", text)
    if not text.startswith("RS"):
        text = re.sub(r"\d+", "#", text)
    return re.sub(r"(called|two layers are called) \S+", r"\1 #", text)[:110]


# --- one network ---------------------------------------------------------------------------------


def read(files: Files, folder: Path) -> Network:
    """The network of files that are put into a folder; raises `SpecError`."""
    for old in folder.rglob("*.yaml"):
        old.unlink()
    for path, text in files.texts.items():
        target = folder / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return lower(load(str(folder / files.main), Library()))


def wider(network: Network, path: Path) -> Network | None:
    """A network with more classes and input channels, as its text should be with these arguments.

    None where there is none.
    """
    numbers = (f"classes={network.classes + 3}", f"input.channels={network.input.channels + 1}")
    try:
        return lower(load(str(path), Library(), numbers))
    except SpecError:
        return None


def held(texts: Mapping[str, str], network: Network, other: Network) -> Iterator[Finding]:
    """Where texts differ from a network with other numbers, or take them without its layers."""
    known = {name for name, _ in network.operations()}
    needs_more = any(name not in known for name, _ in other.operations())
    for backend, text in texts.items():
        for each in _run(text, other, backend, given=True):
            # A text takes the numbers that it uses, and no others.
            if "unexpected keyword argument" in each.message:
                continue
            if not (needs_more and "compiled without" in each.message):
                yield each


def judge(files: Files, folder: Path) -> tuple[list[Finding], dict[str, str]]:
    """What becomes of a network, and its texts by backend."""
    try:
        network = read(files, folder)
    except SpecError as error:
        return [_refusal("invalid", "read", error)], {}
    except Exception as error:
        return [_crash("read", error)], {}
    findings: list[Finding] = []
    try:
        texts = _texts(network, BACKENDS)  # the program of both is made and replayed once
    except Exception:
        findings, texts = _texts_of_each(network)
    findings += [each for backend, text in texts.items() for each in _run(text, network, backend)]
    other = None if findings else wider(network, folder / files.main)
    if other is not None:
        findings += held(texts, network, other)
    return findings or [Finding("ok", "", "")], texts


def _texts(network: Network, backends: Sequence[str]) -> dict[str, str]:
    return {path.parts[0]: text for path, text in generate(network, backends).items()}


def _texts_of_each(network: Network) -> tuple[list[Finding], dict[str, str]]:
    findings: list[Finding] = []
    texts: dict[str, str] = {}
    for backend in BACKENDS:
        try:
            texts |= _texts(network, [backend])
        except SpecError as error:
            findings.append(_refusal("refused", backend, error, reads_before_head(network)))
        except Exception as error:
            findings.append(_crash(backend, error))
    return findings, texts


def _run(text: str, network: Network, backend: str, given: bool = False) -> list[Finding]:
    """Where a text, run on stand-ins of its framework, differs from the network."""
    try:
        parsed(text)
    except SyntaxError as error:
        return [Finding("parse", backend, str(error))]
    return [
        Finding("text", backend, each) for each in differences(text, network, backend, given)[:1]
    ]


def _refusal(kind: str, where: str, error: SpecError, mixed: bool = False) -> Finding:
    first = error.diagnostics[0]
    message = f"{first.code} {first.message}"
    limits = (*LIMITS, HEAD) if mixed else LIMITS
    if kind == "refused" and any(limit.match(message) for limit in limits):
        kind = "limit"
    return Finding(kind, where, message)


def _crash(where: str, error: Exception) -> Finding:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    place = f"{Path(last.filename).name}, {last.name}"
    return Finding("crash", where, f"{type(error).__name__} at {place}: {error}")


# --- many networks -------------------------------------------------------------------------------


class Outcome(NamedTuple):
    seed: int
    findings: list[Finding]
    texts: Mapping[str, str]
    tags: frozenset[str]
    seconds: float


@functools.cache
def folder() -> Path:
    """One temporary folder for each process, gone with it."""
    holder = tempfile.TemporaryDirectory(prefix="fuzz")
    folder.holder = holder  # type: ignore[attr-defined]
    return Path(holder.name)


def outcome(seed: int) -> Outcome:
    """What becomes of the network of a number."""
    began = time.perf_counter()
    try:
        files = random_network(seed)
    except Exception as error:
        crash = _crash("draw", error)
        return Outcome(seed, [crash], {}, frozenset(), time.perf_counter() - began)
    findings, texts = judge(files, folder())
    return Outcome(seed, findings, texts, files.tags, time.perf_counter() - began)


def outcomes(seeds: Iterable[int], processes: int = 1) -> Iterator[Outcome]:
    if processes == 1:
        yield from map(outcome, seeds)
        return
    with multiprocessing.Pool(processes) as pool:
        yield from pool.imap_unordered(outcome, seeds, chunksize=16)


class Summary:
    """Counts of outcomes, and which seeds show what."""

    def __init__(self) -> None:
        self.drawn = 0
        self.kinds: collections.Counter[str] = collections.Counter()
        self.codes: collections.Counter[str] = collections.Counter()
        self.groups: dict[str, list[int]] = collections.defaultdict(list)
        self.slowest = (0.0, -1)

    def add(self, found: Outcome) -> None:
        self.drawn += 1
        self.slowest = max(self.slowest, (found.seconds, found.seed))
        faults = [each for each in found.findings if each.is_fault]
        self.kinds[f"{(faults or found.findings)[0].kind}"] += 1
        for each in found.findings:
            if each.kind in ("invalid", "limit"):
                shown = each.message[:5] if each.kind == "invalid" else normalised(each.message)
                self.codes[f"{each.kind} {shown}"] += 1
        for group in {each.group for each in faults}:
            self.groups[group].append(found.seed)

    def __str__(self) -> str:
        lines = [f"{self.drawn} networks"]
        lines += [f"  {count:7} {kind}" for kind, count in self.kinds.most_common()]
        lines += [f"          {count:7} {code}" for code, count in sorted(self.codes.items())]
        lines.append(f"  slowest: {self.slowest[0] * 1000:.0f} ms, seed {self.slowest[1]}")
        for group, seeds in sorted(self.groups.items(), key=lambda item: -len(item[1])):
            lines.append(f"{len(seeds):6} {group}  {' '.join(map(str, sorted(seeds)[:6]))}")
        return "\n".join(lines)


def run(
    seeds: Iterable[int], processes: int = 1, seen: Callable[[Outcome], None] | None = None
) -> Summary:
    """All these networks; `seen` is called with each."""
    summary = Summary()
    for found in outcomes(seeds, processes):
        summary.add(found)
        if seen is not None:
            seen(found)
    return summary


# --- text ----------------------------------------------------------------------------------------


def lint(texts: Path) -> str:
    """What ruff finds in the texts of a folder by its own defaults; empty: nothing."""
    found = []
    for arguments in (["check", "--output-format=concise"], ["format", "--check", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--no-cache", str(texts)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            found.append(result.stdout + result.stderr)
    return "\n".join(found)


def keep(texts: Path) -> Callable[[Outcome], None]:
    """Writes the texts of every network that nothing else is wrong with into a folder."""
    texts.mkdir(parents=True, exist_ok=True)

    def write(found: Outcome) -> None:
        sound = not any(each.is_fault for each in found.findings)
        for backend, text in found.texts.items() if sound else ():
            (texts / f"net_{found.seed}_{backend}.py").write_text(text, encoding="utf-8")

    return write


# --- command line --------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--show", type=int, metavar="SEED", help="print a network, and its fate")
    parser.add_argument("--shrink", type=int, metavar="SEED", help="the smallest of its kind")
    parser.add_argument("--kind", default="", help="with --shrink: a part of the group to keep")
    parser.add_argument("--lint", type=Path, metavar="FOLDER", help="keep texts here, run ruff")
    options = parser.parse_args()
    if options.show is not None:
        return show(options.show)
    if options.shrink is not None:
        import shrink

        return shrink.main(options.shrink, options.kind)
    seeds = range(options.start, options.start + options.count)
    began = time.perf_counter()
    summary = run(seeds, options.processes, keep(options.lint) if options.lint else None)
    print(summary)
    print(f"{(time.perf_counter() - began) * 1000 / max(options.count, 1):.1f} ms each")
    if options.lint:
        print(lint(options.lint) or "no complaints")
    return 1 if summary.groups else 0


def show(seed: int) -> int:
    files = random_network(seed)
    for path, text in files.texts.items():
        print(f"# {path}\n{text}")
    findings, _ = judge(files, folder())
    for each in findings:
        print(f"{each.kind}, {each.where}: {each.message}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
