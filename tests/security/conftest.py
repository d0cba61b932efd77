"""A clock against hanging, and processes that start as those of users do."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
import warm

from resnet_spec.verify import session

# No measure of speed: what hangs takes hours, and machines are noisy.
SECONDS = 60


@pytest.fixture
def clock() -> Iterator[Callable[[], object]]:
    """Called, it lets the test go on for a generous time, and fails it then."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def hangup() -> Iterator[None]:
    """Processes begin with the usual SIGHUP: one that `nohup` ignores is handed on to them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True, scope="module")
def new_processes() -> Iterator[None]:
    """Runners are no forks here."""
    session.start = warm.NEW
    yield
    session.start = warm.start
