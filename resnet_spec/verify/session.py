"""The processes of the runners, from the side of the caller."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from resnet_spec.disk import temporaries
from resnet_spec.verify import isolated

WORKER = "resnet_spec.verify.worker"
PATIENCE = 10  # seconds in which a process that has nothing to do ends
_PATIENCE_AFTER_ERRORS = 2  # for what a user's code does at its end: its log may tell the reason
_INTERVAL = 0.5  # seconds between two looks whether a process that is awaited has ended
_CLOSED = 120  # Python's exit code where it could not write what it had printed


class RunnerError(Exception):
    """A runner could not do what it was asked; the text is for people."""

    def __init__(self, runner: str, request: str, message: str) -> None:
        does = "start" if request == "versions" else request.replace("_", " ")
        super().__init__(f"{runner} failed to {does}: {message}")
        self.runner, self.request, self.message = runner, request, message


def start(
    kind: str, environment: Mapping[str, str], module: str, log: IO[bytes]
) -> subprocess.Popen[str]:
    """A process that runs a module of the package, which is told the kind of its runner.

    It leads a group, of what it starts in its turn.
    """
    return subprocess.Popen(
        isolated.command(module, [kind]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        encoding="utf-8",
        env={**os.environ, **environment},
        process_group=0,
    )


class Process:
    """One runner, asked by one request at a time; within `with`, it ends with the block."""

    def __init__(self, kind: str, environment: Mapping[str, str], module: str = WORKER) -> None:
        self.kind = kind
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long
        self.process = start(kind, environment, module, self.log)
        self.asked = ""
        self.told = b""  # what came after the last answer

    def ask(self, do: str, **arguments: Any) -> None:
        assert self.process.stdin is not None
        self.asked = do
        with contextlib.suppress(BrokenPipeError):  # told by what is missing: the answer
            print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)

    def ask_no_more(self) -> None:
        """Let the process end when it has answered, rather than wait."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def answer(self, seconds: float = float("inf")) -> Any:
        """What it answers; `TimeoutError` where it does not within so many seconds."""
        line = self._line(time.monotonic() + seconds)
        if not line:
            raise RunnerError(self.kind, self.asked, f"{self.end()}\n{self.last_words()}")
        try:
            answer = json.loads(line)
            if "error" not in answer:
                return answer["value"]
        except (ValueError, TypeError, KeyError):
            answer = {"error": f"it answered {line[:200].strip()!r}"}
        raise RunnerError(self.kind, self.asked, answer["error"])

    def _line(self, end: float) -> str:
        """The next line, or what there is of it where the process has ended."""
        assert self.process.stdout is not None
        file = self.process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(file, selectors.EVENT_READ)
            while b"\n" not in self.told:
                if time.monotonic() > end:
                    raise TimeoutError
                if selector.select(_INTERVAL):
                    part = os.read(file, 1 << 16)
                    if not part:
                        break
                    self.told += part
                elif self.process.poll() is not None:
                    self.kill()  # of a process that it left, which would hold the pipe open
        line, _, self.told = self.told.partition(b"\n")
        return line.decode("utf-8", "replace")

    def end(self) -> str:
        """How the process ended; one that only stopped to answer is ended."""
        try:
            code = self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return "the process no longer answers"
        if code < 0:
            cause = "; too little memory is one cause" if code == -signal.SIGKILL else ""
            return f"the process was ended by signal {-code}{cause}"
        if code == _CLOSED:
            return f"the process ended with code {code}: something had closed what it prints to"
        return f"the process ended with code {code}"

    def last_words(self, lines: int = 12, most: int = 4_000) -> str:
        """The end of what the process printed."""
        self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - most))
        return "\n".join(self.log.read().decode("utf-8", "replace").splitlines()[-lines:])

    def kill(self) -> None:
        """End the process and what it started."""
        if self.log.closed:
            return  # its number may be another's by now
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self, patience: float = PATIENCE) -> None:
        """Let the process end, within so many seconds, and end what it leaves."""
        assert self.process.stdout is not None
        self.ask_no_more()
        try:
            self.process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.wait()
        self.kill()
        self.process.stdout.close()
        self.log.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, exception: type[BaseException] | None, *_: object) -> None:
        if exception is not None and not issubclass(exception, Exception):
            self.kill()  # this process itself is told to end
        self.close(PATIENCE if exception is None else _PATIENCE_AFTER_ERRORS)


class Session:
    """All runners of a run; each request goes to all before the first answer is awaited."""

    def __init__(
        self, runners: Sequence[str], keras_backend: str, modules: Mapping[str, str] | None = None
    ) -> None:
        threads = str(max(1, (os.cpu_count() or 1) // len(runners)))
        environment = {**ENVIRONMENT, "KERAS_BACKEND": keras_backend, "OMP_NUM_THREADS": threads}
        environment["TF_NUM_INTRAOP_THREADS"] = threads
        self.keras_backend = keras_backend
        self.processes: dict[str, Process] = {}
        for kind in runners:
            module = (modules or {}).get(kind, WORKER)
            self.processes[kind] = Process(kind, environment, module)

    def __getitem__(self, runner: str) -> Process:
        return self.processes[runner]

    def __iter__(self) -> Iterator[str]:
        return iter(self.processes)

    def ask(
        self, do: str, *, out: str | None = None, of: Sequence[str] | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """The answer of each runner, or of some; `out` names a file, which each gets one of.

        Raises `RunnerError` for the first that fails, when all have answered.
        """
        asked = {kind: self.processes[kind] for kind in (self.processes if of is None else of)}
        for kind, process in asked.items():
            file = {} if out is None else {"out": f"{kind}.{out}.npz"}
            process.ask(do, **arguments, **file)
        answers, errors = {}, []
        for kind, process in asked.items():
            try:
                answers[kind] = process.answer()
            except RunnerError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return answers

    def __enter__(self) -> Session:
        return self

    def __exit__(self, exception: type[BaseException] | None, *_: object) -> None:
        # Whoever is asked to end does not wait for a training.
        for process in self.processes.values() if exception is not None else ():
            process.kill()
        for process in self.processes.values():
            process.close()


# One thread count and one order of sums for all; single precision on an accelerator is none of it.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_X64": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "PYTHONSAFEPATH": "1",  # processes that a framework starts don't import from the folder either
}


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder for the arrays of a run."""
    kind = "resnet-spec-verify-"
    temporaries.remove_stale_folders(Path(tempfile.gettempdir()), kind)
    with tempfile.TemporaryDirectory(prefix=temporaries.folder_prefix(kind)) as folder:
        yield Path(folder)
