"""Builds the playground: a folder of static files that need nothing from elsewhere.

    python playground/build.py build/playground

Node's packages come by package-lock.json, Python's by wheels.txt; both hold the hash of each. Our
own package is that of the working tree.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
MODULES = HERE / "node_modules"
MAX_BYTES = 16_000_000  # of all files together
# Pyodide's own, and others for what Python alone is taken of.
PLATFORMS = ("pyemscripten_2026_0_wasm32", "manylinux2014_x86_64")
RUNTIME = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm")
# What nothing here imports: servers, clients, windows, tests, tools for programmers.
UNUSED = (HERE / "unused_modules.txt").read_text(encoding="utf-8").split()
# Folders of our package that a page has no use for.
LEFT_OUT = (
    "compare/",
    "importer/",
    "preview/",
    "project/",
    "sweep/",
    "trainer/",
    "verify/",
    "weights/",
)


def main(folder: Path) -> None:
    """Build into a folder, in place of what is in it."""
    subprocess.run(["npm", "ci", "--ignore-scripts", "--silent"], cwd=HERE, check=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        _bundle(made)
        _runtime(made / "pyodide", Path(scratch))
        (made / "packages.zip").write_bytes(_packages(Path(scratch)))
        (made / "data.json").write_text(data(), encoding="utf-8")
        for name in ("index.html", "style.css"):
            shutil.copyfile(HERE / name, made / name)
        _service(made)
        sizes = {path: path.stat().st_size for path in _files(made)}
        total = sum(sizes.values())
        if total > MAX_BYTES:
            sys.exit(f"the playground has {total:,} bytes, more than {MAX_BYTES:,}")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    print(f"{folder}: {len(sizes)} files, {total:,} bytes")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _bundle(made: Path) -> None:
    """The page's scripts, each as one file."""
    esbuild = MODULES / ".bin" / "esbuild"
    for name in ("main", "worker"):
        words = [str(esbuild), f"source/{name}.js", "--bundle", "--minify", "--format=esm"]
        words += ["--external:./pyodide/*", "--target=es2023", "--log-level=warning"]
        subprocess.run([*words, f"--outfile={made / name}.js"], cwd=HERE, check=True)


def _runtime(folder: Path, scratch: Path) -> None:
    """Python itself."""
    folder.mkdir()
    source = MODULES / "pyodide"
    for name in RUNTIME:
        shutil.copyfile(source / name, folder / name)
    lock = json.loads((source / "pyodide-lock.json").read_text(encoding="utf-8"))
    lock["packages"] = {}  # which would be fetched from elsewhere
    (folder / "pyodide-lock.json").write_text(json.dumps(lock), encoding="utf-8")
    with zipfile.ZipFile(source / "python_stdlib.zip") as library:
        wanted = {
            name: library.read(name)
            for name in library.namelist()
            if not name.endswith("/") and not _is_unused(name)
        }
    (folder / "python_stdlib.zip").write_bytes(_zipped(_compiled(wanted, scratch)))


def _is_unused(name: str) -> bool:
    """Whether an archive's file is of a module of the list, or of a family of encodings there."""
    return any(
        name == f"{each}.py"
        or name.startswith(f"{each}/")
        or (each.startswith("encodings/") and name.startswith(each))
        for each in UNUSED
    )


def _compiled(files: dict[str, bytes], scratch: Path) -> dict[str, bytes]:
    """The files with bytecode in place of modules, so that a browser need not compile them.

    It is twice as large as a module; so Python's own library has it, which is most of what is
    imported, and our package, which is more of the page, has not.
    """
    source, target = scratch / "source.zip", scratch / "target.zip"
    source.write_bytes(_zipped(files))
    subprocess.run(["node", "compile.mjs", str(source), str(target)], cwd=HERE, check=True)
    with zipfile.ZipFile(target) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(files: dict[str, bytes]) -> bytes:
    """An archive that is the same for the same files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)
    return stream.getvalue()


def _packages(scratch: Path) -> bytes:
    """Our package and those that it needs, as the page's Python imports them."""
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    words += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--python-version", "3.14"]
    words += ["--implementation", "cp", "--abi", "cp314", "--abi", "none", "--dest", str(scratch)]
    words += [word for each in PLATFORMS for word in ("--platform", each)]
    subprocess.run([*words, "--requirement", str(HERE / "wheels.txt")], check=True)
    files = {"session.py": (HERE / "session.py").read_bytes()}
    for wheel in sorted(scratch.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith((".py", "-wasm32-emscripten.so")) and ".dist-info/" not in name:
                    files[name] = archive.read(name)
    return _zipped(files | dict(_ours()))


def _ours() -> Iterator[tuple[str, bytes]]:
    """Our package as it is installed: backends and specs stand within it."""
    for top, inside in (("resnet_spec", ""), ("backends", "backends/"), ("specs", "specs/")):
        for path in _files(ROOT / top):
            name = path.relative_to(ROOT / top).as_posix()
            is_ours = path.suffix in (".py", ".yaml", ".jinja", ".json", ".css", ".js")
            is_twice = top == "resnet_spec" and name.startswith("backends/")  # where it is a link
            if is_ours and not is_twice and not any(each in name for each in LEFT_OUT):
                yield f"resnet_spec/{inside}{name}", path.read_bytes()


def data() -> str:
    """What the page knows before Python runs: texts to start from, and what may be written."""
    sys.path.insert(0, str(ROOT))
    from resnet_spec.language.library import Library, builtin_blocks, builtin_specs

    library = Library()
    blocks = {}
    for name, path in builtin_blocks().items():
        block = library.read_block(path)
        blocks[name] = {"name": name, "description": block.description, "args": _arguments(path)}
    examples = sorted((ROOT / "examples").glob("*.yaml"))
    starts = [_start(path, "") for path in examples]
    starts += [_start(path, _family(path)) for path in builtin_specs().values()]
    starts.sort(key=lambda each: each["family"])
    schema = json.loads((ROOT / "docs/schema/network.json").read_text(encoding="utf-8"))
    return json.dumps({"starts": starts, "blocks": blocks, "schema": schema}, ensure_ascii=False)


def _arguments(path: Path) -> dict[str, dict[str, str]]:
    """What a use of a block can say: its arguments, and its slots, which a block fills."""
    import yaml

    block = yaml.safe_load(path.read_text(encoding="utf-8"))
    given = {
        name: {"description": str((each or {}).get("description", "argument"))}
        for name, each in (block.get("args") or {}).items()
    }
    for name, usual in (block.get("slots") or {}).items():
        given[name] = {"slot": "yes", "description": f"slot for a block, usually {usual}"}
    return given


def _start(path: Path, family: str) -> dict[str, str]:
    """A spec as it can stand alone: the line that leads editors to the schema is for its folder."""
    import yaml

    text = path.read_text(encoding="utf-8")
    first, _, rest = text.partition("\n")
    text = rest if first.startswith("# yaml-language-server:") else text
    told = str(yaml.safe_load(text).get("description", ""))
    return {"name": path.stem, "family": family, "description": told, "text": text}


def _family(path: Path) -> str:
    folder = path.parent.name
    return "resnet" if folder == "specs" else folder


def _service(made: Path) -> None:
    """The script that keeps the files, with their names and a version that changes with any."""
    paths = _files(made)
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.relative_to(made).as_posix().encode() + b"\0" + path.read_bytes())
    names = ["./", *(path.relative_to(made).as_posix() for path in paths)]
    text = (HERE / "source/service.js").read_text(encoding="utf-8")
    text = text.replace("__FILES__", json.dumps(names))
    text = text.replace("__VERSION__", digest.hexdigest()[:16])
    (made / "service.js").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(os.path.abspath(sys.argv[1])))
