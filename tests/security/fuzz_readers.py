"""Feeds broken data to everything that reads data of strangers: `make fuzz SECONDS=600`.

Hypothesis draws mutations of valid files, keeps what it found in `.hypothesis/fuzz` and begins with
that the next time. What breaks a target is made small and written to the corpus, with
which the tests begin ever after.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
import traceback
from pathlib import Path

from fuzz_targets import TARGETS, TOKENS, Target
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
BATCH = 200  # examples between two looks at the clock
MAX_BYTES = 200_000


@st.composite
def broken(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A valid file with parts cut, doubled, moved, overwritten or replaced by tokens."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        end = min(end, start + draw(st.sampled_from((1, 1, 4, 16, 64, 10_000))))
        part = data[start:end]
        new = draw(
            st.sampled_from((b"", part * 2, part[::-1]))
            | st.sampled_from(TOKENS)
            | st.binary(min_size=1, max_size=8)
        )
        data = (data[:start] + new + data[end:])[:MAX_BYTES]
    return data


def one_batch(name: str, target: Target, number: int) -> bytes | None:
    """The smallest data of a batch that breaks a target; None where none does."""
    last: list[bytes] = []

    @seed(number)
    @settings(
        max_examples=BATCH,
        deadline=None,
        database=DirectoryBasedExampleDatabase(ROOT / ".hypothesis" / "fuzz"),
        suppress_health_check=list(HealthCheck),
        phases=(Phase.reuse, Phase.generate, Phase.shrink),
        print_blob=False,
    )
    @given(broken(target.seeds()))
    def reads(data: bytes) -> None:
        last[:] = [data]
        target.reads(data)

    reads.hypothesis.inner_test._hypothesis_internal_add_digest = name.encode()  # type: ignore[attr-defined]
    try:
        reads()
    except Exception:
        traceback.print_exc()
        return last[0]
    return None


def keep(name: str, data: bytes) -> Path:
    path = CORPUS / name / hashlib.sha256(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    given_ = parser.parse_args()
    names = given_.targets or list(TARGETS)
    failed = False
    for name in names:
        count, end = 0, time.monotonic() + given_.seconds / len(names)
        while time.monotonic() < end:
            data = one_batch(name, TARGETS[name], random.getrandbits(32))
            count += BATCH
            if data is not None:
                print(f"{name}: broken by {keep(name, data).relative_to(ROOT)}", file=sys.stderr)
                failed = True
                break
        print(f"{name}: {count:,} inputs", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
