"""The files of a git repository as they were at a revision, read without a shell.

git is asked for three things alone: which tree a revision has, what a tree holds, and what is in a
blob. Trees and blobs are named by their numbers, so no name of a file becomes a word of a command.
None of these runs a hook, a filter, a pager or what the configuration of a repository names, and
nothing is fetched.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from resnet_spec.disk.files import DISK, Files

_SECONDS = 60
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# Those that a hook of git sets for another command than ours.
_OF_A_REPOSITORY = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
)
_QUIET = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


class RevisionError(Exception):
    """There is no git, no repository or no such revision; the text says which."""


class _Entry(NamedTuple):
    mode: str  # 100644, 100755: a file; 120000: a link; 040000: a folder; 160000: a submodule
    hash: str


class Revision(Files):
    """The repository that a folder lies in, at a revision.

    `own` is the folder of what comes with the package: where that is no part of the repository, it
    is read from the disk. Nothing else outside of the repository is there. A link is not followed.
    Raises `RevisionError`.
    """

    def __init__(self, folder: Path, revision: str, own: Path) -> None:
        self.revision, self.own = revision, own
        found = shutil.which("git")
        if found is None:
            raise RevisionError("git is not installed")
        self.program = os.path.abspath(found)
        self.folder = os.path.realpath(folder)
        top = self._git("rev-parse", "--show-toplevel")
        if not top:
            raise RevisionError(f"the folder of the spec is in no git repository: {folder}")
        self.root = os.path.realpath(os.fsdecode(top).removesuffix("\n"))
        self.tree = self._tree(revision)
        self.folders: dict[str, dict[str, _Entry]] = {}

    def _tree(self, revision: str) -> str:
        """The number of the tree of a revision."""
        usable = revision.isprintable() and revision.strip() and not revision.startswith("-")
        words = ("rev-parse", "--verify", "--quiet", f"{revision}^{{tree}}")
        found = os.fsdecode(self._git(*words) or b"").strip() if usable else ""
        if not _HASH.fullmatch(found):
            raise RevisionError(f"there is no revision {revision!a} in {self.root}")
        return found

    def _git(self, *words: str) -> bytes | None:
        """What git prints; None where it fails."""
        kept = {key: text for key, text in os.environ.items() if key not in _OF_A_REPOSITORY}
        try:
            done = subprocess.run(
                [self.program, "--no-pager", *words],
                cwd=self.folder,
                env={**kept, **_QUIET},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RevisionError(f"git took more than {_SECONDS} seconds") from None
        except OSError as error:
            raise RevisionError(f"git can't be run: {error.strerror}") from None
        return done.stdout if done.returncode == 0 else None

    # - names -

    def _inside(self, path: Path) -> tuple[str, ...] | None:
        """The parts of a path within the repository; None outside of it."""
        whole = os.path.normpath(os.path.abspath(path))
        if Path(whole).is_relative_to(self.own):
            whole = os.path.realpath(whole)
        if whole == self.root:
            return ()
        if not whole.startswith(os.path.join(self.root, "")):
            return None
        return Path(whole).relative_to(self.root).parts

    def _of_package(self, path: Path) -> bool:
        return self._inside(path) is None and DISK.is_within(path, self.own)

    def _listed(self, tree: str) -> dict[str, _Entry]:
        """The entries of a tree by name."""
        if tree not in self.folders:
            text = self._git("ls-tree", "--full-tree", "-z", tree)
            if text is None:  # what can't be listed is not what has no files
                raise RevisionError(f"git can't list {tree}: the clone may be a partial one")
            found = {}
            for line in text.split(b"\0"):
                head, _, name = line.partition(b"\t")
                if name:
                    mode, _, number = head.decode("ascii").split()
                    found[os.fsdecode(name)] = _Entry(mode, number)
            self.folders[tree] = found
        return self.folders[tree]

    def _entry(self, path: Path) -> _Entry | None:
        parts = self._inside(path)
        if parts is None:
            return None
        entry = _Entry("040000", self.tree)
        for part in parts:
            found = self._listed(entry.hash).get(part) if entry.mode == "040000" else None
            if found is None:
                return None
            entry = found
        return entry

    # - what is there -

    def is_file(self, path: Path) -> bool:
        if self._of_package(path):
            return super().is_file(path)
        entry = self._entry(path)
        return entry is not None and entry.mode[:2] in ("10", "12")

    def is_folder(self, path: Path) -> bool:
        if self._of_package(path):
            return super().is_folder(path)
        entry = self._entry(path)
        return entry is not None and entry.mode == "040000"

    def exists(self, path: Path) -> bool:
        return self.is_file(path) or self.is_folder(path)

    def is_link(self, path: Path) -> bool:
        return False  # what is one can't be read, so it leads nowhere

    def is_within(self, path: Path, folder: Path) -> bool:
        if self._of_package(path):
            return super().is_within(path, folder)
        ours, theirs = self._inside(path), self._inside(folder)
        return ours is not None and theirs is not None and ours[: len(theirs)] == theirs

    def read(self, path: Path, limit: int) -> bytes:
        if self._of_package(path):
            return super().read(path, limit)
        entry = self._entry(path)
        if entry is None or entry.mode[:1] != "1" or entry.mode == "160000":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if entry.mode == "120000":
            raise OSError(errno.ELOOP, "it is a link, which is not followed at a revision")
        size = self._git("cat-file", "-s", entry.hash)
        if size is not None and int(size) >= limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        data = self._git("cat-file", "blob", entry.hash)
        if data is None:
            raise OSError(errno.EIO, "git does not have it: the clone may be a partial one")
        return data

    def names(self, folder: Path) -> list[str]:
        if self._of_package(folder):
            return super().names(folder)
        entry = self._entry(folder)
        return sorted(self._listed(entry.hash)) if entry and entry.mode == "040000" else []

    def shown(self, name: str) -> str:
        return f"{self.revision}:{name}"
