"""The project that a spec belongs to, whose files it may read."""

from __future__ import annotations

import re
from pathlib import Path

from resnet_spec.disk.files import DISK, Files

OWN_FILE, PROJECT_FILE = "resnet-spec.toml", "pyproject.toml"
MAX_BYTES = 1_000_000  # of settings

_TABLE = re.compile(rb"^\s*\[+\s*tool\s*\.\s*[\"']?resnet-spec\b", re.MULTILINE)


def settings_folder(start: Path, files: Files = DISK) -> Path | None:
    """The nearest folder from `start` upward that holds settings, which are not judged."""
    for folder in (start, *start.parents):
        if files.is_file(folder / OWN_FILE):
            return folder
        try:
            if _TABLE.search(files.read(folder / PROJECT_FILE, MAX_BYTES)):
                return folder
        except (OSError, ValueError):
            continue
    return None


def settings_files(start: Path) -> list[Path]:
    """The files, there or not, by which `settings_folder` decides."""
    folders = (start, *start.parents)
    return [folder / name for folder in folders for name in (OWN_FILE, PROJECT_FILE)]


def project_of(folder: Path, files: Files = DISK) -> Path:
    """The folder of the settings that stand above a spec's folder; that folder where none do."""
    whole = folder.absolute()
    return settings_folder(whole, files) or whole
