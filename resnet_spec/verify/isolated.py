"""A Python process that imports only from the same places as this one.

The working folder may contain files from strangers: `python -m` would import a `numpy.py` in it. So
the process starts isolated and gets its paths explicitly. The package itself is loaded by its file
path, because the paths need not include a clone that is the working folder.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent

_START = """
import importlib.util, json, runpy, sys
package, paths, *sys.argv = sys.argv[1:]
sys.path[:] = json.loads(paths)
spec = importlib.util.spec_from_file_location(
    "resnet_spec", package + "/__init__.py", submodule_search_locations=[package]
)
sys.modules["resnet_spec"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["resnet_spec"])
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def command(module: str, arguments: Sequence[str]) -> list[str]:
    """The command line that runs a module as a program of its own."""
    # -I hides PYTHONPATH, the user's packages and the working folder; what of that was meant
    # stands in our own path. What frameworks print is UTF-8 whatever the locale.
    flags = ["-I", "-X", "utf8", *(["-B"] if sys.dont_write_bytecode else [])]
    paths = json.dumps(search_path())
    return [sys.executable, *flags, "-c", _START, str(PACKAGE), paths, module, *arguments]


def search_path() -> list[str]:
    """Our own path without the working folder, which `python -m` and an empty entry put there."""
    here = os.path.realpath(os.getcwd())
    return [entry for entry in sys.path if os.path.isabs(entry) and os.path.realpath(entry) != here]
