"""What all tests of pages share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def interrupt() -> Iterator[None]:
    """Processes begin with the usual SIGINT: one that a shell ignores is handed on to them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
