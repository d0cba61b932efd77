"""Makes an environment with what the compiler needs: `python -I install.py FOLDER`.

The compiler itself runs from the action's own folder, so nothing is built. Every package is a wheel
whose hash stands in requirements.txt. The workspace, where strangers may have put a `venv.py`, is
neither the working folder nor on a path.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"
FLAGS = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:")


def python_of(environment: Path) -> Path:
    """The interpreter of an environment."""
    folder, name = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return environment / folder / name


def main() -> int:
    environment = Path(sys.argv[1]).absolute()
    environment.parent.mkdir(parents=True, exist_ok=True)
    install = (*FLAGS, "--require-hashes", "--requirement", str(REQUIREMENTS))
    for words in (
        [sys.executable, "-I", "-m", "venv", str(environment)],
        [str(python_of(environment)), "-I", "-m", "pip", "install", *install],
    ):
        code = subprocess.run(words, cwd=environment.parent, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
