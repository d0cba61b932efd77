"""Feeds broken data to everything that reads data of strangers: `make fuzz SECONDS=600`.

libFuzzer, which atheris drives, mutates valid files and keeps what reaches new branches of ours in
`build/fuzz`, with which the next run begins. What breaks a target is made small and written to the
corpus, with which the tests begin ever after.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from fuzz_targets import TARGETS, TOKENS, Target

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
GUIDED = Path(__file__).parent / "fuzz_guided.py"
REACHED = ROOT / "build" / "fuzz"
MAX_BYTES = 100_000
HANG = 20  # seconds for one input
MEMORY = 4_000  # MiB
_COUNT = re.compile(r"stat::number_of_executed_units:\s+(\d+)|^Done (\d+) runs", re.MULTILINE)


def run(name: str, target: Target, seconds: float, guided: Path = GUIDED) -> tuple[int, list[Path]]:
    """How many inputs a target was fed in a process of its own, and those that broke it."""
    folder = REACHED / name
    begins = folder / "seeds"
    for data in target.seeds():
        write(begins, data)
    (folder / "reached").mkdir(exist_ok=True)
    tokens = folder / "tokens"
    tokens.write_text("\n".join(map(quoted, filter(None, TOKENS))) + "\n")
    # Linux counts the peak of the process that starts another as one of the other, too.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    flags = (
        f"-max_total_time={max(1, round(seconds))}", f"-max_len={MAX_BYTES}", f"-timeout={HANG}",
        f"-report_slow_units={HANG}",
        f"-rss_limit_mb={MEMORY + own}", f"-dict={tokens}", f"-artifact_prefix={folder}/broken-",
        "-print_final_stats=1",
    )  # fmt: skip
    folders = [folder / "reached", begins, CORPUS / name]
    done = subprocess.run(
        [sys.executable, guided, name, *flags, *(each for each in folders if each.is_dir())],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    broken = sorted(folder.glob("broken-*"))
    if done.returncode or broken:
        print(done.stdout[-6_000:], file=sys.stderr)
    if done.returncode and not broken:
        raise SystemExit(f"{name}: the fuzzer itself ended with {done.returncode}")
    return sum(int(a or b) for a, b in _COUNT.findall(done.stdout)[:1]), broken


def quoted(token: bytes) -> str:
    """A token as libFuzzer's dictionaries have it."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in token) + '"'


def write(folder: Path, data: bytes) -> Path:
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def smallest(data: bytes, breaks: Callable[[bytes], bool]) -> bytes:
    """What is left of an input when no part of it can go without its ceasing to break a reader."""
    size = len(data)
    while size := size // 2:
        start = 0
        while start < len(data):
            if breaks(shorter := data[:start] + data[start + size :]):
                data = shorter
            else:
                start += size
    return data


def kept(name: str, target: Target, path: Path) -> Path:
    """A broken input in the corpus: made small, unless what it breaks is time or memory."""
    data = path.read_bytes()
    if path.name.startswith("broken-crash"):
        data = smallest(data, lambda each: fails(target, each))
    path.unlink()
    return write(CORPUS / name, data)


def fails(target: Target, data: bytes) -> bool:
    try:
        target.reads(data)
    except Exception:
        return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    given = parser.parse_args()
    names = given.targets or list(TARGETS)
    failed, total = False, 0
    for name in names:
        count, broken = run(name, TARGETS[name], given.seconds / len(names))
        total += count
        print(f"{name}: {count:,} inputs", flush=True)
        for path in broken:
            place = kept(name, TARGETS[name], path).relative_to(ROOT)
            print(f"{name}: broken by {place}", file=sys.stderr)
            failed = True
    print(f"{total:,} inputs")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
