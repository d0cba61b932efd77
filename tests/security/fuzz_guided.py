"""One target under libFuzzer, in a process that it may end: `fuzz_readers.py` starts it.

Bytes that change within a container would end every time at its checksum or its length. So some
mutations change a part of it, and the container is written anew around the part.
"""

from __future__ import annotations

import io
import random
import sys
import zipfile

import atheris

with atheris.instrument_imports(include=["resnet_spec"]):
    from fuzz_targets import TARGETS

_MAX_UNPACKED = 1 << 20  # bytes; a mutation may have made a bomb of an archive


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """A mutation of a container's part, three times of four where there is one, or of the whole."""
    choice = random.Random(seed)
    if choice.random() < 0.75:
        for within in (_in_archive, _in_safetensors):
            made = within(data, max_size, choice)
            if made is not None and len(made) <= max_size:
                return made
    return bytes(atheris.Mutate(data, max_size))


def _in_archive(data: bytes, max_size: int, choice: random.Random) -> bytes | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MAX_UNPACKED:
                return None
            parts = [(member.filename, archive.read(member)) for member in archive.infolist()]
    except Exception:  # whatever: it is no archive, or one that is broken already
        return None
    if not parts:
        return None
    at = choice.randrange(len(parts))
    name, part = parts[at]
    parts[at] = (name, bytes(atheris.Mutate(part, max(len(part) + 64, 128))))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in parts:
            archive.writestr(zipfile.ZipInfo(name), part)
    return file.getvalue()


def _in_safetensors(data: bytes, max_size: int, choice: random.Random) -> bytes | None:
    """The header, with its length before it."""
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size <= len(data) - 8 or data[8:9] != b"{":
        return None
    header = bytes(atheris.Mutate(data[8 : 8 + size], size + 64))
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


if __name__ == "__main__":
    reads = TARGETS[sys.argv.pop(1)].reads
    atheris.Setup(sys.argv, lambda data: reads(bytes(data)), custom_mutator=mutated)
    atheris.Fuzz()
