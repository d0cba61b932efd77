"""Build a wheel, install it alone, and compile with it from an empty folder.

Not a test of pytest's: it needs a package index, and some seconds for an environment of its own.
Exits with 1 and says why when something is missing from the wheel or comes out differently.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What the wheel is built from, and where it stands in the wheel.
FOLDERS = {
    "resnet_spec": "resnet_spec",
    "backends": "resnet_spec/backends",
    "specs": "resnet_spec/specs",
}
FILES = ("pyproject.toml", "README.md", "LICENSE")
SHIPPED = {".py", ".css", ".jinja", ".js", ".yaml", ".typed", ".json"}
PIP = ("-m", "pip", "--disable-pip-version-check", "-qq")
IMPORTS = """
import importlib.resources, importlib.metadata
points = importlib.metadata.entry_points(group="resnet_spec.backends")
print(*sorted(point.name for point in points if point.load() is not None))
print(importlib.resources.files("resnet_spec.specs").joinpath("blocks/bottleneck.yaml").is_file())
"""


def _body(path: Path) -> str:
    """A generated file without its header."""
    return path.read_text(encoding="utf-8").split('"""', 1)[1]


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        wheel = build(Path(scratch))
        problems = [*missing_files(wheel), *installed_problems(wheel, Path(scratch))]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def build(scratch: Path) -> Path:
    """A wheel from a copy of the sources: setuptools would take over leftovers of older builds."""
    copy = scratch / "source"
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    run(sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", scratch, copy)
    return next(scratch.glob("*.whl"))


def missing_files(wheel: Path) -> list[str]:
    """What stands in the sources but not in the wheel, or the other way round."""
    sources = {
        f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, inside in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SHIPPED
    }
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    return [f"not in the wheel: {name}" for name in sorted(sources - packed)] + [
        f"in the wheel only: {name}" for name in sorted(packed - sources)
    ]


def installed_problems(wheel: Path, scratch: Path) -> list[str]:
    """What goes wrong with the installed wheel in a folder that knows nothing of the sources."""
    environment, folder = scratch / "environment", scratch / "empty"
    folder.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    options = ("--no-compile", "--constraint", ROOT / "constraints.txt")
    run(sys.executable, *PIP, "--python", python, "install", *options, wheel)
    found = run(python, "-c", IMPORTS, folder=folder).split()
    problems = []
    if found != ["flax", "json", "keras", "torch", "True"]:
        problems.append(f"backends and specs of the installed wheel: {' '.join(found)}")
    command = (environment / "bin" / "resnet-spec", "compile", "resnet101")
    run(*command, "--backend", "keras", folder=folder)
    written = folder / "generated" / "keras" / "resnet101.py"
    here = ROOT / "generated" / "keras" / "resnet101.py"
    # The header names the spec by its path here, and by its name elsewhere.
    if _body(written) != _body(here):
        problems.append("the installed wheel does not compile resnet101 to what stands here")
    return problems


def run(*command: str | Path, folder: Path = ROOT) -> str:
    """What a command prints; ends this program when the command fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shown = " ".join(str(part) for part in command)
        sys.exit(f"{shown}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
