"""Temporary files and folders, named after the process that creates them.

A killed run can't clean up. Its files have the id of a process that no longer exists, so the next
run recognises them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

_FILE = re.compile(r"\..+\.(\d+)-[0-9a-f]{8}\.tmp(?:\.\w+)*", re.DOTALL)
_KEPT = 60  # characters of a name: the whole of it may be as long as a name can be
_ours: set[str] = set()


def beside(path: Path, suffix: str = "") -> Path:
    """A new name in the folder of a file; `suffix` is for writers that go by it."""
    name = f".{path.name[:_KEPT]}.{os.getpid()}-{os.urandom(4).hex()}.tmp{suffix}"
    _ours.add(name)
    return path.with_name(name)


def is_temporary(name: str) -> bool:
    """Whether a file is called like one of `beside`."""
    return _FILE.fullmatch(name) is not None


def stale(folders: Iterable[Path]) -> list[Path]:
    """The temporary files in these folders whose processes are no more."""
    found = []
    for folder in dict.fromkeys(folders):
        try:
            names = sorted(os.listdir(folder))
        except OSError:  # the folder is not there yet, or is none
            continue
        for name in names:
            match = _FILE.fullmatch(name)
            path = folder / name
            if match and not os.path.islink(path) and path.is_file() and _is_left(match[1], name):
                found.append(path)
    return found


def folder_prefix(kind: str) -> str:
    """How the name of a temporary folder of this process begins."""
    return f"{kind}{os.getpid()}-"


def remove_stale_folders(parent: Path, kind: str) -> None:
    """Remove the folders of that kind which killed processes of this user left."""
    pattern = re.compile(re.escape(kind) + r"(\d+)-\w+")
    try:
        entries = [entry for entry in os.scandir(parent) if pattern.fullmatch(entry.name)]
        owned = [each for each in entries if each.stat(follow_symlinks=False).st_uid == _user()]
    except OSError:
        return
    for entry in owned:
        match = pattern.fullmatch(entry.name)
        if match and entry.is_dir(follow_symlinks=False) and _is_left(match[1], ""):
            shutil.rmtree(entry.path, ignore_errors=True)


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _is_left(process: str, name: str) -> bool:
    """Whether nobody needs it: its process has ended, or has only the number of one that has.

    Processes of containers often have one number, which then is our own.
    """
    number = int(process)
    if number == os.getpid():
        return name != "" and name not in _ours
    if os.name == "nt":  # where asking for a process would end it
        return False
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False
