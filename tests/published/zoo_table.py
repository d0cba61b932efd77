"""Measures the networks of the zoo that are not yet measured as they are, and renews docs/zoo.md.

    python tests/published/zoo_table.py [--again] [--gigabytes N] [--minutes N] [NAME ...]

Small networks come first. Each result is kept at once, so the run may be broken off at any time. A
process of its own measures, within bounds of memory and time; several small networks share one.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "support"))

import parity
import zoo_page
import zoo_record
from zoo_record import Row

from resnet_spec.ir import Network
from resnet_spec.language.library import builtin_specs

MEASURE = Path(__file__).with_name("zoo_measure.py")
SHARE = 0.3  # of the memory: a process that took more is not used again


class Worker:
    """A process that measures one network after the other; it is replaced when it is used up."""

    def __init__(self, command: Sequence[str], gigabytes: float, seconds: float) -> None:
        self.command, self.gigabytes, self.seconds = command, gigabytes, seconds
        self.process: subprocess.Popen[bytes] | None = None
        self.pending = b""  # printed by the process, not yet read by us

    def measure(self, name: str, row: Row) -> Row:
        """A network's row, completed; what the process could not do is among its failures."""
        process = self.started()
        assert process.stdin is not None
        request, deadline = {"name": name, "row": asdict(row)}, time.monotonic() + self.seconds
        try:
            process.stdin.write(f"{json.dumps(request)}\n".encode())
            process.stdin.flush()
            while True:
                line = json.loads(self.line(process, deadline))
                row = Row.from_json(line["row"])
                if line["done"]:
                    break
        except (TimeoutError, OSError) as error:
            row.failures.append(str(error))
            self.close()
        else:
            if line["peak"] > SHARE * self.gigabytes or row.failures:
                self.close()
        return row

    def started(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe)
        return self.process

    def line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        """The next line that the process prints; raises where it ends or takes too long."""
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.pending:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"not done within {self.seconds / 60:.0f} minutes")
                part = os.read(process.stdout.fileno(), 1 << 16)
                if not part:
                    raise OSError(f"the process ended with status {process.wait()}")
                self.pending += part
        found, _, self.pending = self.pending.partition(b"\n")
        return found

    def close(self) -> None:
        """Ends the process, whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process, self.pending = None, b""


def due(networks: Sequence[Network], rows: dict[str, Row]) -> list[tuple[Network, Row]]:
    """Networks to be measured with what is known of each, those of least work first."""
    chosen = []
    for network in sorted(networks, key=lambda network: (network.root.parameters, network.name)):
        row = rows.get(network.name)
        if row is None or row.stale(network):
            row = Row(zoo_record.digests_of(network), {"ir": parity.ir_counts(network)})
        if not row.ended:
            chosen.append((network, row))
    return chosen


def measure_all(
    chosen: Sequence[tuple[Network, Row]], worker: Worker, keep: Callable[[str, Row], None]
) -> None:
    """Measures networks one by one and keeps each row as soon as it is there."""
    for number, (network, known) in enumerate(chosen, 1):
        start = time.monotonic()
        row = worker.measure(network.name, known)
        keep(network.name, row)
        state = "; ".join(row.failures) or "done"
        seconds = time.monotonic() - start
        print(f"[{number}/{len(chosen)}] {network.name}: {state} ({seconds:.0f} s)", flush=True)


def keep(name: str, row: Row) -> None:
    """Adds a row to the record, from which networks that are no more are dropped."""
    rows = zoo_record.read() | {name: row}
    zoo_record.write({each: rows[each] for each in rows if each in builtin_specs()})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="these alone; may hold *")
    parser.add_argument("--again", action="store_true", help="also what is measured as it is")
    parser.add_argument("--gigabytes", type=float, default=10, help="memory of the process")
    parser.add_argument("--minutes", type=float, default=20, help="time for one network")
    given = parser.parse_args()
    patterns = given.names or ["*"]
    names = [name for name in builtin_specs() if any(fnmatchcase(name, p) for p in patterns)]
    networks = [parity.network_of(name) for name in names]
    command = [sys.executable, str(MEASURE), str(given.gigabytes)]
    with closing(Worker(command, given.gigabytes, given.minutes * 60)) as worker:
        try:
            known = {} if given.again else zoo_record.read()
            measure_all(due(networks, known), worker, keep)
        finally:
            zoo_page.renew()


if __name__ == "__main__":
    main()
