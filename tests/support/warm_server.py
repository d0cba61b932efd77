"""A process that has imported a framework, and forks into those that `warm` asks for.

Its arguments are the number of a socket and the modules to import.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import sys
from typing import Any


def main() -> None:
    """Forks for each request until there are no more."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for attendants
    while True:
        message, files, _, _ = socket.recv_fds(requests, 1 << 20, maxfds=4)
        if not message:
            return
        if not os.fork():
            requests.close()
            attend(json.loads(message), files)
            return
        for file in files:
            os.close(file)


def attend(request: dict[str, Any], files: list[int]) -> None:
    """Forks the process that was asked for; its number and its exit code go to the last file."""
    *standard, status = files
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if not process:
        os.setpgid(0, 0)
        os.close(status)
        for number, file in enumerate(standard):
            os.dup2(file, number)
            os.close(file)
        become(**request)
        return
    for file in standard:
        os.close(file)
    os.write(status, b"%d\n" % process)
    _, code = os.waitpid(process, 0)
    os.write(status, b"%d\n" % os.waitstatus_to_exitcode(code))
    os._exit(0)


def become(
    module: str, arguments: list[str], paths: list[str], environment: dict[str, str], folder: str
) -> None:
    """What a new process of `isolated.command` does."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = paths
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
