"""How far a spec's reach goes: the project that it belongs to, whose files it may ask for."""

from __future__ import annotations

import os
import re
from pathlib import Path

from resnet_spec.disk.regular import open_regular

OWN_FILE, PROJECT_FILE = "resnet-spec.toml", "pyproject.toml"
MAX_BYTES = 1_000_000  # of settings

_TABLE = re.compile(rb"^\s*\[+\s*tool\s*\.\s*[\"']?resnet-spec\b", re.MULTILINE)


def settings_folder(start: Path) -> Path | None:
    """The nearest folder from `start` upward that holds settings, which are not judged."""
    for folder in (start, *start.parents):
        if os.path.isfile(folder / OWN_FILE):
            return folder
        try:
            with open_regular(folder / PROJECT_FILE) as file:
                if _TABLE.search(file.read(MAX_BYTES)):
                    return folder
        except (OSError, ValueError):
            continue
    return None


def settings_files(start: Path) -> list[Path]:
    """The files, there or not, by which `settings_folder` decides."""
    folders = (start, *start.parents)
    return [folder / name for folder in folders for name in (OWN_FILE, PROJECT_FILE)]


def project_of(folder: Path) -> Path:
    """The folder of the settings that stand above a spec's folder; that folder where none do."""
    whole = folder.absolute()
    return settings_folder(whole) or whole


def is_within(path: Path, folder: Path) -> bool:
    """Whether a path leads into a folder once all links are followed."""
    root, real = os.path.realpath(folder), os.path.realpath(path)
    try:
        return os.path.commonpath([root, real]) == root
    except ValueError:  # another drive
        return False
