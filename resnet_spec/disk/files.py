"""Where files are read from: a disk, or whatever else has folders and files."""

from __future__ import annotations

import os
from pathlib import Path

from resnet_spec.disk.regular import open_regular


class Files:
    """The files of the disk; another place says otherwise what its methods give."""

    def is_file(self, path: Path) -> bool:
        # os.path: a name that no file can have is a name of no file, not an error of its own.
        return os.path.isfile(path)

    def is_folder(self, path: Path) -> bool:
        return os.path.isdir(path)

    def exists(self, path: Path) -> bool:
        return os.path.exists(path)

    def is_link(self, path: Path) -> bool:
        return os.path.islink(path)

    def is_within(self, path: Path, folder: Path) -> bool:
        """Whether a path leads into a folder once all links are followed."""
        root, real = os.path.realpath(folder), os.path.realpath(path)
        try:
            return os.path.commonpath([root, real]) == root
        except ValueError:  # another drive
            return False

    def read(self, path: Path, limit: int) -> bytes:
        """At most so many bytes of a file; raises `OSError` or `ValueError`."""
        with open_regular(path) as file:
            return file.read(limit)

    def names(self, folder: Path) -> list[str]:
        """What a folder holds; nothing where there is none."""
        try:
            return sorted(os.listdir(folder))
        except (OSError, ValueError):
            return []

    def shown(self, name: str) -> str:
        """How messages call a file whose name on the disk is this."""
        return name


DISK = Files()
