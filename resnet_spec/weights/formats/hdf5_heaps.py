"""Heaps of HDF5 that would keep its library busy for ever, found before it reads them.

Texts of any length stand in heaps, whose objects follow one another. The library goes from one to
the next by its size, and where that is nothing it stays there, beyond the reach of any signal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_SUPERBLOCK = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01"
_CHUNK = 1 << 20
_MAX_HEAP = 1 << 24  # bytes; the library makes heaps of some thousands


def is_endless(file: BinaryIO) -> bool:
    """Whether a file has such a heap, or does not tell at its beginning how heaps are laid out."""
    head = file.read(16)
    if not head.startswith(_SUPERBLOCK) or len(head) < 16:
        return True
    length = head[14] if head[8] < 2 else head[10]  # of a size, in bytes
    if length not in (2, 4, 8):
        return True
    for place in _heaps(file):
        file.seek(place)
        if _stays(file.read(_MAX_HEAP), length):
            return True
    return False


def _heaps(file: BinaryIO) -> Iterator[int]:
    """Where heaps may begin, whatever else the bytes are."""
    start, tail = 0, b""
    while True:
        file.seek(start)
        data = tail + file.read(_CHUNK)
        if len(data) == len(tail):
            return
        first, found = start - len(tail), data.find(_HEAP)
        while found >= 0:
            yield first + found
            found = data.find(_HEAP, found + 1)
        start = first + len(data)
        tail = data[1 - len(_HEAP) :]


def _stays(heap: bytes, length: int) -> bool:
    """Whether one goes from object to object without coming to the heap's end."""
    size = int.from_bytes(heap[8 : 8 + length], "little")
    header = -(-(8 + length) // 8) * 8
    place, end = header, min(size, len(heap))
    while place + header <= end:
        number = int.from_bytes(heap[place : place + 2], "little")
        held = int.from_bytes(heap[place + 8 : place + 8 + length], "little")
        # Number 0 is what is free, its header counted; sizes wrap as those of the library do.
        step = held if number == 0 else (header + (held + 7 & -8)) % 2**64
        if step == 0:
            return True
        place += step
    return False
