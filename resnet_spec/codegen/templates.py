"""The Jinja templates of backends, compiled once and kept as Python keeps its modules."""

from __future__ import annotations

import functools
import sys
from contextlib import suppress
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket

FOLDER = "templates"  # of a backend's package

OPTIONS: dict[str, Any] = {
    "trim_blocks": True,
    "lstrip_blocks": True,
    "keep_trailing_newline": True,
}


def template(package: str, name: str) -> jinja2.Template:
    """A template of a package."""
    return _environment(package).get_template(name)


@functools.cache
def _environment(package: str) -> Environment:
    return Environment(
        loader=PackageLoader(package, FOLDER),
        undefined=StrictUndefined,
        autoescape=False,
        finalize=_as_text,
        bytecode_cache=_Compiled(package),
        **OPTIONS,
    )


def _as_text(value: object) -> object:
    return "\n".join(value) if isinstance(value, list) else value


class _Compiled(jinja2.FileSystemBytecodeCache):
    """Compiled templates in `__pycache__` beside them, where it can be written."""

    def __init__(self, package: str) -> None:
        found = find_spec(package)
        assert found is not None
        assert found.origin is not None
        beside = Path(found.origin).parent / FOLDER / "template"
        super().__init__(str(Path(cache_from_source(str(beside))).parent), "%s.pyc")

    def get_cache_key(self, name: str, filename: str | None = None) -> str:
        return f"{name}.{sys.implementation.cache_tag}"

    def get_source_checksum(self, source: str) -> str:
        return super().get_source_checksum(f"{OPTIONS}{source}")

    def load_bytecode(self, bucket: Bucket) -> None:
        try:
            super().load_bytecode(bucket)
        except Exception:  # whatever is wrong with the file, the template is there
            bucket.reset()

    def dump_bytecode(self, bucket: Bucket) -> None:
        if not sys.dont_write_bytecode:
            with suppress(OSError):
                Path(self.directory).mkdir(parents=True, exist_ok=True)
                super().dump_bytecode(bucket)
