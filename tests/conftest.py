"""Options, marks and settings of all tests.

A test that imports a framework bears its mark, such as `torch`, and imports it inside a function
or a fixture, so that the other tests run where it is not installed and never wait for it.
"""

from __future__ import annotations

import atexit
import gc
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator

import environment
import pytest
import warm
from hypothesis import HealthCheck, settings

from resnet_spec.verify import session

FRAMEWORKS = {"torch": ("torch",), "keras": ("keras", "tensorflow"), "flax": ("flax", "jax")}
MARKS = {
    "torch": "imports PyTorch",
    "keras": "imports Keras",
    "flax": "imports Flax",
    "traced": "Keras traces its steps, as it does for users",
    "slow": "takes more than some seconds; run with --slow",
}


def _prepare_environment() -> None:
    """Frameworks read these when they are first imported."""
    environment.prepare()
    # Small networks that run once or twice are not worth it.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the workers' is that of the first process
        folder = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jax-")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has one core
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


_prepare_environment()
session.start = warm.start
gc.set_threshold(50_000, 20, 50)  # Python's own looks for garbage a sixth of the time

# No deadline: the first example of a process pays for imports.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", _COMMON, max_examples=25, derandomize=True)
settings.register_profile("long", _COMMON, max_examples=10_000)
settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("resnet-spec")
    group.addoption(
        "--update-goldens", action="store_true", help="write the golden files instead of comparing"
    )
    group.addoption("--slow", action="store_true", help="run the slow tests too")
    group.addoption(
        "--require-frameworks",
        action="store_true",
        help="fail where a framework is not installed instead of skipping its tests",
    )


def pytest_configure(config: pytest.Config) -> None:
    for mark, meaning in MARKS.items():
        config.addinivalue_line("markers", f"{mark}: {meaning}")
    missing = _missing_modules()
    if config.getoption("--require-frameworks") and missing:
        raise pytest.UsageError(f"not installed: {', '.join(sorted(missing))}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = _missing_modules()
    for item in items:
        for mark, modules in FRAMEWORKS.items():
            if item.get_closest_marker(mark) and (lacking := missing & set(modules)):
                reason = f"{', '.join(sorted(lacking))} is not installed"
                item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


@pytest.fixture(scope="session")
def update_goldens(pytestconfig: pytest.Config) -> bool:
    """Whether tests are to write their golden files instead of comparing with them."""
    return bool(pytestconfig.getoption("--update-goldens"))


def _missing_modules() -> set[str]:
    modules = {module for group in FRAMEWORKS.values() for module in group}
    return {module for module in modules if importlib.util.find_spec(module) is None}


@pytest.fixture(scope="module", autouse=True)
def kept_objects() -> None:
    """What is there stays there: nobody looks for garbage among two imported frameworks again.

    Trainers ask for it by name, and went through millions of objects each time. What the tests
    before have left goes first; it would stay, too, and was gigabytes of Keras' models.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def double() -> Iterator[None]:
    """Both frameworks compute in float64."""
    import parity

    with parity.float64():
        yield
