"""Processes of `verify`, `weights` and `import` as forks of one that has imported their framework.

Importing a framework takes 1.5 to 5 s of CPU, more than what most tests ask of it. A fork runs what
a new process would: the same module as its main program, with the same arguments, paths,
environment, folder and files. The tests of security start processes as users do.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import socket
import subprocess
from collections.abc import Mapping
from typing import IO, cast

from resnet_spec.verify import isolated, session

NEW = session.start  # what users get

# What the runners of each kind import before they answer.
PRELOADED = {
    "torch": ("resnet_spec.verify.runner_torch", "torch._dynamo", "safetensors.torch"),
    "keras": ("resnet_spec.verify.runner_keras",),
    "flax": ("resnet_spec.verify.runner_flax",),
    "onnx": ("onnx", "onnxruntime"),
    "pt2": ("torch.export",),
    "torchscript": ("torch.jit",),
}
# How names of variables begin that frameworks read when they are imported.
READ = ("CUDA_", "JAX_", "KERAS_", "KMP_", "MKL_", "OMP_NUM_", "TF_", "XLA_")


def start(
    kind: str, environment: Mapping[str, str], module: str, log: IO[bytes]
) -> subprocess.Popen[str]:
    """A fork that runs a module of the package; to stand for `session.start`."""
    given = {**os.environ, **environment}
    read = tuple(sorted(item for item in given.items() if item[0].startswith(READ)))
    fork = Fork(_server(PRELOADED[kind], read), module, [kind], given, log)
    return cast("subprocess.Popen[str]", fork)


class Fork:
    """As much of `subprocess.Popen` as those who start runners use."""

    def __init__(
        self,
        server: socket.socket,
        module: str,
        arguments: list[str],
        environment: Mapping[str, str],
        log: IO[bytes],
    ) -> None:
        asked, stdin = os.pipe()
        stdout, answered = os.pipe()
        self.status, ended = os.pipe()
        request = {
            "module": module,
            "arguments": arguments,
            "paths": isolated.search_path(),
            "environment": dict(environment),
            "folder": os.getcwd(),
        }
        files = [asked, answered, log.fileno(), ended]
        socket.send_fds(server, [json.dumps(request).encode()], files)
        for file in (asked, answered, ended):
            os.close(file)
        self.stdin = open(stdin, "w", encoding="utf-8")  # noqa: SIM115 - lives as long
        self.stdout = open(stdout, encoding="utf-8")  # noqa: SIM115
        self.pid = self._number()
        self.returncode: int | None = None

    def _number(self) -> int:
        """The next line of the attendant."""
        line = b""
        while not line.endswith(b"\n"):
            part = os.read(self.status, 1)
            assert part, "the process that forks has ended"
            line += part
        return int(line)

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self.status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a fork", timeout or 0)
            self.returncode = self._number()
            os.close(self.status)
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode


@functools.cache
def _server(modules: tuple[str, ...], environment: tuple[tuple[str, str], ...]) -> socket.socket:
    """A process that has imported these modules, and lasts as long as this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = isolated.command("warm_server", [str(theirs.fileno()), *modules])
    process = subprocess.Popen(
        words,
        env={**os.environ, **dict(environment)},
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        cwd="/",
    )
    theirs.close()
    atexit.register(process.kill)
    return ours
