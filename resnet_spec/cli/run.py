"""Runs one command line: its verb, its exit code, and its error messages."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from resnet_spec.cli import output
from resnet_spec.cli.parser import VERBS, parser
from resnet_spec.cli.shared import Exit, UsageError


def program() -> NoReturn:
    """Run the command line of this process, and end the process with its exit code."""
    # A run is short and makes no garbage to speak of: looking for it, and taking the interpreter
    # apart at the end, would take a fifth of the time. No work of a verb is left to that end.
    gc.disable()
    try:
        _clean_up_when_told_to_end()
        code = main()
    except Terminated as told:
        code = 128 + told.number  # as a shell tells it
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
    os._exit(code)


class Terminated(BaseException):
    """This process was told to end; on its way out everything cleans up after itself."""

    def __init__(self, number: int) -> None:
        self.number = number


def _clean_up_when_told_to_end() -> None:
    """Make a signal that would end the process immediately raise an exception instead."""
    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]

    def end(number: int, frame: object) -> None:
        for each in numbers:  # cleaning up is done once
            if each is not None:
                signal.signal(each, signal.SIG_IGN)
        raise Terminated(number)

    for number in numbers:
        # What is ignored already, as SIGHUP by nohup, stays so.
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit code; raises nothing but `Terminated`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that can't show a character is no failure
            stream.reconfigure(errors="backslashreplace")
    if sys.stderr is None:  # else what is meant for it would go to standard output
        sys.stderr = io.StringIO()
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a failure can still be told
        return code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _silence()
        return Exit.BROKEN_PIPE
    except UsageError as error:
        return _failed(f"error: {error}")
    except OSError as error:  # a full disk behind standard output, a working folder that is gone
        return _failed(f"error: {(error.strerror or str(error)).lower()}")
    except Exception as error:
        if os.environ.get("RESNET_SPEC_TRACEBACK") == "1":
            import traceback

            output.note(traceback.format_exc())
        return _failed(f"internal error: {_one_line(error)}")


def _run(arguments: Sequence[str]) -> int:
    try:
        parsed = parser(_verb(arguments)).parse_args(arguments)
    except SystemExit as stop:  # --help and --version have printed
        return int(stop.code or 0)
    import importlib

    # No module is called as a word of Python.
    module = "importing" if parsed.verb == "import" else parsed.verb
    command = importlib.import_module(f"resnet_spec.cli.{module}")
    return int(command.run(parsed))


def _verb(arguments: Sequence[str]) -> str | None:
    """The verb, if that is the first word; `UsageError` with the nearest where there is none."""
    if not arguments or arguments[0].startswith("-"):
        return None
    if arguments[0] not in VERBS:
        from resnet_spec.diagnostics import expected, quoted

        raise UsageError(
            f"{quoted(arguments[0])} is not a verb: {expected(arguments[0], VERBS)}"
            "\ntry: resnet-spec --help"
        )
    return arguments[0]


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _failed(text: str) -> Exit:
    try:
        output.say(text, sys.stderr)
    except OSError:
        _silence()
    return Exit.FAILURE


def _silence() -> None:
    """Let the interpreter's own flush at exit have somewhere to go."""
    try:
        void = os.open(os.devnull, os.O_WRONLY)
        os.dup2(void, sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        pass
