"""Files on disk: compares generated files with what they should be, and does all writing.

Everything is compared before anything is written. New files are first written next to their
destination and then moved together, so after a failure every file is either old or complete.
Nothing outside the output folder is changed, and no file that this compiler did not write, unless
forced.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, NoReturn

from resnet_spec.codegen import header
from resnet_spec.diagnostics import Diagnostic, Span, SpecError, in_order, quoted
from resnet_spec.disk import temporaries
from resnet_spec.disk.regular import open_regular

Status = Literal["missing", "stale", "edited", "identical", "foreign", "orphaned"]

MAX_BYTES = 16_000_000  # a larger file is none of ours


class OutputError(SpecError):
    """The output folder can't take the files: not a finding about a spec."""


class Entry(NamedTuple):
    """One file: what should be in it, what is, and the difference in one word.

    `text` is None for an orphan, `current` for a file that is missing or no text.
    """

    path: Path
    shown: str
    text: str | None
    current: str | None
    status: Status


# --- comparing -----------------------------------------------------------------------------------


def plan(folder: Path, wanted: Mapping[PurePosixPath, str], shown: str) -> list[Entry]:
    """Each wanted file compared with the disk; `shown` is how messages name the folder.

    Raises `OutputError` with everything that stands in the way (RS601, RS604, RS605).
    """
    entries: list[Entry] = []
    found: list[Diagnostic] = []
    for relative, text in sorted(wanted.items()):
        name = _shown(shown, relative)
        try:
            path = _inside(folder, relative, name)
            entries.append(_compared(path, name, text))
        except SpecError as error:
            found.extend(error.diagnostics)
    if found:
        raise OutputError(found)
    return entries


def _shown(folder: str, relative: PurePosixPath) -> str:
    return str(PurePosixPath(folder) / relative)


def _inside(folder: Path, relative: PurePosixPath, shown: str) -> Path:
    """The place of a file, which is truly below the folder, and where a file can stand."""
    parts = relative.parts
    if relative.is_absolute() or not parts or ".." in parts or any("\\" in p for p in parts):
        _stop("RS604", f"{quoted(relative)} is not a path within the output folder", shown)
    path = folder.joinpath(*parts)
    for parent in (*reversed(path.parents), path):
        if parent != path and os.path.lexists(parent) and not os.path.isdir(parent):
            _stop(
                "RS605",
                f"cannot write {quoted(shown)}: {quoted(parent)} is not a folder",
                shown,
                "remove it, or choose another folder with --out",
            )
    if os.path.isdir(path) and not os.path.islink(path):
        _stop("RS605", f"{quoted(shown)} is a folder, where a file should be", shown, "remove it")
    root, real = os.path.realpath(folder), os.path.realpath(path.parent)
    if real != root and os.path.commonpath([root, real]) != root:
        _stop(
            "RS604",
            f"{quoted(shown)} is outside the output folder: a symbolic link leads to another",
            shown,
            "remove the link, or choose its target with --out",
        )
    return path


def _compared(path: Path, shown: str, text: str) -> Entry:
    if not os.path.lexists(path):
        return Entry(path, shown, text, None, "missing")
    current = _read(path, shown)
    if current == text:
        return Entry(path, shown, text, current, "identical")
    return Entry(path, shown, text, current, _status(path, current))


def _status(path: Path, current: str | None) -> Status:
    if current is None or path.is_symlink():
        return "foreign"
    match header.status(current):
        case "intact":
            return "stale"
        case "edited":
            return "edited"
        case "foreign":
            return "foreign"


def _read(path: Path, shown: str) -> str | None:
    """The text of a file; None for what can't be ours: not a file, too large, not UTF-8.

    A checkout may have changed the line endings, which do not count.
    """
    try:
        if not path.is_file():
            return None
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
        return None if len(data) > MAX_BYTES else data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None
    except FileNotFoundError:  # a link that leads nowhere
        return None
    except OSError as error:
        _stop("RS601", f"cannot read {quoted(shown)}: {_reason(error)}", shown)


def orphans(
    folder: Path, subfolders: Iterable[str], wanted: Iterable[PurePosixPath], shown: str
) -> list[Entry]:
    """Files in the subfolders that this compiler wrote, but that are no longer wanted."""
    keep = set(wanted)
    found = []
    for subfolder in sorted(set(subfolders)):
        for path in _files_below(folder / subfolder):
            relative = PurePosixPath(*path.relative_to(folder).parts)
            if relative in keep:
                continue
            name = _shown(shown, relative)
            current = _read(path, name)
            if current is not None and header.status(current) != "foreign":
                found.append(Entry(path, name, None, current, "orphaned"))
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    if folder.is_symlink():
        return
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            path = Path(root, name)
            if not path.is_symlink() and not temporaries.is_temporary(name):
                yield path


def refusals(entries: Iterable[Entry]) -> list[Diagnostic]:
    """RS602 and RS603 for the files that are not replaced without `--force`."""
    found = []
    for entry in entries:
        if entry.status == "foreign":
            message = f"{quoted(entry.shown)} was not written by resnet-spec"
            hint = "move it away, or replace it with --force"
            found.append(Diagnostic("RS602", message, Span(entry.shown), hint))
        elif entry.status == "edited":
            message = f"{quoted(entry.shown)} was edited by hand"
            hint = "move the change into the spec, then replace the file with --force"
            found.append(Diagnostic("RS603", message, Span(entry.shown), hint))
    return found


def difference(entry: Entry) -> str:
    """What writing would change, as a unified diff."""
    if entry.text is None or entry.status == "identical":
        return ""
    if entry.current is None and entry.status != "missing":
        return f"{entry.shown} is not a text file and would be replaced\n"
    import difflib

    old = "/dev/null" if entry.status == "missing" else f"a/{entry.shown}"
    lines = difflib.unified_diff(
        (entry.current or "").splitlines(keepends=True),
        entry.text.splitlines(keepends=True),
        old,
        f"b/{entry.shown}",
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


# --- writing -------------------------------------------------------------------------------------


def leftovers(folders: Iterable[Path], remove: bool) -> list[str]:
    """The names of the temporary files that killed runs left in these folders; removed if asked."""
    found = temporaries.stale(folders)
    for path in found if remove else ():
        _remove(path)
    return [path.name for path in found]


def write(entries: Sequence[Entry]) -> int:
    """Write every file that is not as it should be; gives their number.

    Raises `OutputError` (RS601); then nothing has changed, or only whole files have.
    """
    changed = [e for e in entries if e.text is not None and e.status != "identical"]
    # Named before they are there: whatever ends this run, at whatever line, knows them.
    staged = [(temporaries.beside(entry.path), entry) for entry in changed]
    folders: list[Path] = []
    done = 0
    try:
        for temporary, entry in staged:
            _make_folder(entry.path.parent, entry.shown, folders)
            _stage(temporary, entry)
        for temporary, entry in staged:
            try:
                os.replace(temporary, entry.path)
            except OSError as error:
                _stop_writing(entry.shown, error)
            done += 1
    except BaseException:
        for temporary, _ in staged[done:]:
            _remove(temporary)
        for folder in reversed(folders):
            _remove_folder(folder)
        raise
    return len(changed)


def create(path: Path, text: str, shown: str) -> None:
    """Write a new file; raises `OutputError` where one stands already (RS602) or on RS601."""
    if os.path.lexists(path):
        _stop_replacing(shown)
    temporary = temporaries.beside(path)
    try:
        _fill(temporary, text, shown)
        os.link(temporary, path)  # which, unlike a move, replaces nothing
    except FileExistsError:
        _stop_replacing(shown)
    except OSError:  # a disk without links
        _fill(path, text, shown)
    finally:
        _remove(temporary)


def _stop_replacing(shown: str) -> NoReturn:
    message = f"{quoted(shown)} exists already"
    _stop("RS602", message, shown, "choose another name; nothing is replaced")


@contextlib.contextmanager
def replacing(path: Path, shown: str, suffix: str, force: bool) -> Iterator[Path]:
    """A name beside `path`, with `suffix`, for a new file that is moved to `path` at the end.

    A failure within the context leaves `path` unchanged. Raises `OutputError` if a file exists and
    must not be replaced (RS602), for a folder (RS605) and on RS601.
    """
    if os.path.isdir(path):
        _stop("RS605", f"{quoted(shown)} is a folder, where a file should be", shown, "remove it")
    if os.path.lexists(path) and not force:
        message = f"{quoted(shown)} exists already"
        _stop("RS602", message, shown, "choose another name, or replace it with --force")
    folders: list[Path] = []
    temporary = temporaries.beside(path, suffix)
    try:
        _make_folder(path.parent, shown, folders)
        # Whoever writes to it may tell badly why it can't be written.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        mode = os.fstat(descriptor).st_mode
        os.close(descriptor)
        os.remove(temporary)
        yield temporary
        if path.is_file() and not path.is_symlink():
            mode = path.stat().st_mode
        os.chmod(temporary, stat.S_IMODE(mode))  # safetensors' is readable by its owner alone
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        _remove(temporary)
        for folder in reversed(folders):
            _remove_folder(folder)
        if isinstance(error, OSError):
            _stop_writing(shown, error)
        raise


def _make_folder(folder: Path, shown: str, made: list[Path]) -> None:
    missing = [each for each in (folder, *folder.parents) if not os.path.exists(each)]
    for each in reversed(missing):
        try:
            each.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            _stop_writing(shown, error)
        made.append(each)


def _stage(temporary: Path, entry: Entry) -> None:
    """The new text in a file beside its place."""
    assert entry.text is not None
    _fill(temporary, entry.text, entry.shown)
    if entry.current is not None:
        try:
            os.chmod(temporary, stat.S_IMODE(entry.path.stat().st_mode))
        except OSError as error:
            _stop_writing(entry.shown, error)


def _fill(path: Path, text: str, shown: str) -> None:
    """A new file with a text in it, or no file."""
    try:
        # Exclusive: what stands there is neither replaced nor, if a link, followed.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        _stop_writing(shown, error)
    try:
        with open(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(descriptor)  # else a machine that stops has the name, and nothing in it
    except BaseException as error:
        _remove(path)
        if isinstance(error, OSError):
            _stop_writing(shown, error)
        raise


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the first failure is the one to tell
        path.unlink()


def _remove_folder(path: Path) -> None:
    with contextlib.suppress(OSError):  # not empty: a file was moved into it before the failure
        path.rmdir()


def _stop_writing(shown: str, error: OSError) -> NoReturn:
    _stop("RS601", f"cannot write {quoted(shown)}: {_reason(error)}", shown)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _stop(code: str, message: str, shown: str, help: str | None = None) -> NoReturn:
    raise OutputError(in_order([Diagnostic(code, message, Span(shown), help)]))
