"""`preview`: the page of `report`, served on this machine and renewed at every save."""

from __future__ import annotations

import argparse
import errno
import gc
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from resnet_spec.cli import output, shared
from resnet_spec.cli.shared import STDIN, Exit, Reader, UsageError
from resnet_spec.diagnostics import INTERNAL, Diagnostic
from resnet_spec.diagnostics.render import summary
from resnet_spec.disk import projects
from resnet_spec.preview.board import Board
from resnet_spec.preview.server import Server
from resnet_spec.preview.watch import Watch
from resnet_spec.report import Contents, Findings, contents, document
from resnet_spec.report.contents import source_backends

_PORT = 8750  # where nobody says which, and nobody else is
_LOOK, _PAUSE, _TRIES = 0.1, 0.03, 30  # seconds between looks; for a save to be whole


def run(arguments: argparse.Namespace) -> Exit:
    """Serve a spec's page until Ctrl-C."""
    _check_usage(arguments)
    if not shared.backends_exist(arguments):
        return Exit.FAILURE
    gc.enable()  # this run is a long one
    board = Board()
    server = _server(arguments.port, board)
    try:
        preview = _Preview(arguments, board)
        preview.renew()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        output.say(f"{arguments.spec} is shown at {server.url} until Ctrl-C")
        if arguments.open:
            _open(server.url)
        preview.follow()
    except KeyboardInterrupt:
        return Exit.CLEAN
    finally:
        server.server_close()


def _check_usage(arguments: argparse.Namespace) -> None:
    """`UsageError` for what makes no sense."""
    if arguments.spec == STDIN:
        raise UsageError("preview needs a file, which can be saved again")
    if arguments.port is not None and not 0 <= arguments.port <= 65535:
        raise UsageError(f"--port must be from 0 to 65535, not {arguments.port}")
    shared.check_text("--set", arguments.set)


def _server(port: int | None, board: Board) -> Server:
    """A server at a port; without one at the usual, or at any that is free."""
    for each in (_PORT, 0) if port is None else (port,):
        try:
            return Server(each, board)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port is None and each:
                continue
            reason = (error.strerror or str(error)).lower()
            raise UsageError(
                f"cannot use port {each}: {reason}\nchoose another with --port; 0: any free one"
            ) from None
    raise AssertionError("port 0 is never in use")


def _open(url: str) -> None:
    import webbrowser

    if not webbrowser.open(url):
        output.note("found no browser to open it with")


class _Preview:
    """A page on a board, and the files that it rests on."""

    def __init__(self, arguments: argparse.Namespace, board: Board) -> None:
        self.arguments, self.board = arguments, board
        self.backends = arguments.backend or source_backends()
        self.script = _script()
        self.last: Contents | None = None  # as it was without mistakes
        self.watch = Watch()
        self.seen: Mapping[Path, str] = {}

    def follow(self) -> NoReturn:
        """Renew the page whenever a file has changed."""
        while True:
            time.sleep(_LOOK)
            if self.watch.look(self.seen) != self.seen:
                self.renew()

    def renew(self) -> None:
        """Make the page from the files as they are, once no save is under way."""
        asked = set(self.seen)
        while True:
            seen = self.watch.settled(asked, _PAUSE, _TRIES) if asked else {}
            found, needed = self._read()
            # What was seen is what was read, or older: a save meanwhile is a change.
            self.seen = {path: word for path, word in seen.items() if path in needed}
            if needed <= set(seen):
                break
            asked |= needed  # files that were not looked at before they were read
        if self.board.put(document(self.last, found, script=self.script).encode()):
            told = summary(found.diagnostics).strip() or "no errors"
            output.note(f"{self.arguments.spec}: {told}", self.arguments.quiet)

    def _read(self) -> tuple[Findings, set[Path]]:
        """What is wrong now, and the files that this rests on; a network that is whole is kept."""
        reader = Reader(self.arguments.set)
        root = projects.settings_folder(Path.cwd()) or Path()
        try:
            read = shared.read_of_project(self.arguments.spec, reader, root)
            if read is None:
                return Findings(reader.findings, reader.sources), reader.asked
            self.last = contents(*read, self.backends)
            return Findings(self.last.findings, reader.sources), reader.asked
        except Exception as error:  # a mistake of ours is no reason to stop
            text = " ".join(f"{type(error).__name__}: {error}".split())
            return Findings([Diagnostic(INTERNAL, f"internal error: {text}")]), reader.asked


def _script() -> str:
    """What the page runs, in one piece: the function that the playground takes over as well."""
    import resnet_spec.preview

    (folder,) = resnet_spec.preview.__path__
    function, rest = (
        Path(folder, name).read_text(encoding="utf-8") for name in ("take_over.js", "page.js")
    )
    return function.removeprefix("export ") + rest
