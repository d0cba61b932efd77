"""The built playground in a real browser: a mistake, its mending, an address, and no network."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
import scripts

from resnet_spec.codegen.generate import generate
from resnet_spec.language.library import Library, builtin_specs
from resnet_spec.language.load import load
from resnet_spec.lower import lower

pytestmark = pytest.mark.slow
PATIENCE = 120_000  # milliseconds, against hanging alone
LIMIT = 16_000_000  # bytes of the whole page


class Files(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Served:
    """The page on this machine, until `stop`."""

    def __init__(self) -> None:
        handler = functools.partial(Files, directory=str(scripts.built()))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    scripts.built()
    with browser.chromium() as started:
        yield started


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.stop()


class Page:
    """A tab of a browser of its own; what went wrong in it is kept."""

    def __init__(self, chromium: Any, address: str, **options: Any) -> None:
        self.context = chromium.new_context(**options)
        self.context.set_default_timeout(PATIENCE)
        self.tab = self.context.new_page()
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.wrong.append(message.text))
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(address)

    def told(self, text: str) -> None:
        """Wait until the page says this of the spec."""
        self.tab.locator("#status", has_text=re.compile(f"^{text}$")).wait_for()

    @property
    def report(self) -> Any:
        return self.tab.frame_locator("#report")

    def shows(self, selector: str, text: str) -> None:
        """Wait until the report has this."""
        self.report.locator(selector, has_text=text).first.wait_for()

    def text(self) -> str:
        """What stands in the editor."""
        lines: list[str] = self.tab.locator(".cm-content .cm-line").all_inner_texts()
        return "\n".join("" if line == "\n" else line for line in lines)

    def write(self, text: str) -> None:
        """Take the place of all that stands there, key by key."""
        self.tab.locator(".cm-content").click()
        self.tab.keyboard.press("Control+a")
        self.tab.keyboard.insert_text(text)

    def close(self) -> None:
        self.context.close()


NET = "name: net\ndescription: a net\nextends: resnet18\nclasses: 10\n"


def test_a_mistake_its_mending_and_the_address(served: Served, chromium: Any) -> None:
    page = Page(chromium, served.url)
    page.told("No mistakes")
    page.shows("h1", "resnet50")
    page.write(NET.replace("classes", "clases"))
    page.told("1 mistake")
    squiggle = page.tab.locator(".cm-lintRange-error")
    squiggle.wait_for()
    assert squiggle.inner_text() == "clases"
    page.shows("#mistakes", "did you mean 'classes'?")
    page.shows("h1", "resnet50")  # the last good picture stays
    page.write(NET)
    page.told("No mistakes")
    page.shows("h1", "net")
    assert squiggle.count() == 0
    assert page.report.locator("#overview svg").count() == 1
    page.shows("dd", "11,181,642")
    address = page.tab.url
    assert "#spec=" in address
    other = Page(chromium, address)
    other.told("No mistakes")
    other.shows("h1", "net")
    assert other.text() == page.text() == NET
    here = page.report.locator("main").inner_html()
    assert other.report.locator("main").inner_html() == here
    assert page.wrong == other.wrong == []
    home = (served.url, "blob:", "data:", "about:")
    assert page.asked and all(url.startswith(home) for url in page.asked)
    page.close()
    other.close()


def test_a_mistake_within_a_block_stands_where_that_is_used(served: Served, chromium: Any) -> None:
    page = Page(chromium, f"{served.url}#resnet18")
    page.told("No mistakes")
    page.write(f"{NET}# 😀 é\nstages: {{layer2: {{shortcut: none}}}}\n")
    page.told("1 mistake")
    squiggle = page.tab.locator(".cm-lintRange-error")
    squiggle.first.wait_for()
    assert "".join(squiggle.all_inner_texts()) == "extends: resnet18"
    page.tab.locator(".cm-lint-marker-error").hover()
    tip = page.tab.locator(".cm-tooltip-lint")
    tip.wait_for()
    assert "specs/blocks/basic.yaml" in tip.inner_text() and "RS401" in tip.inner_text()
    page.close()


def test_completion_is_offered(served: Served, chromium: Any) -> None:
    page = Page(chromium, f"{served.url}#resnet18")
    page.told("No mistakes")
    page.write(f"{NET}stages: {{layer2: {{}}}}\nnum")
    page.tab.keyboard.type("e")
    offered = page.tab.locator(".cm-tooltip-autocomplete li", has_text="numerics")
    offered.wait_for()
    page.tab.wait_for_timeout(500)  # an offer is taken once it stood for a moment
    page.tab.keyboard.press("Enter")
    page.tab.keyboard.type("ex")
    page.tab.locator(".cm-tooltip-autocomplete li", has_text="exact").wait_for()
    page.tab.wait_for_timeout(500)
    page.tab.keyboard.press("Enter")
    page.told("No mistakes")
    assert page.text().endswith("\nnumerics: exact")
    page.close()


def test_sources_are_downloaded(served: Served, chromium: Any, tmp_path: Path) -> None:
    page = Page(chromium, f"{served.url}#resnet18", accept_downloads=True)
    page.told("No mistakes")
    network = lower(load("resnet18", Library()))
    for backend in ("torch", "keras", "flax"):
        with page.tab.expect_download() as event:
            page.tab.get_by_role("button", name=backend, exact=True).click()
        event.value.save_as(tmp_path / "a.py")
        assert event.value.suggested_filename == "resnet18.py"
        (wanted,) = generate(network._replace(path="resnet18.yaml"), [backend]).values()
        assert body((tmp_path / "a.py").read_text()) == body(wanted)
    page.close()


def body(text: str) -> list[str]:
    """A file without its header: the digest there covers how a spec is written, too."""
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_it_works_offline_once_loaded(chromium: Any) -> None:
    served = Served()
    page = Page(chromium, served.url)
    page.told("No mistakes")
    kept = "navigator.serviceWorker.ready.then((worker) => worker.active.state)"
    assert page.tab.evaluate(kept) in ("activating", "activated")
    served.stop()
    page.write(NET)
    page.told("No mistakes")
    page.shows("h1", "net")
    page.tab.reload()
    page.told("No mistakes")
    page.shows("h1", "net")
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_it_fits(width: int, scheme: str, served: Served, chromium: Any) -> None:
    size = {"width": width, "height": 800}
    page = Page(chromium, served.url, viewport=size, color_scheme=scheme)
    page.told("No mistakes")
    assert page.tab.evaluate("document.documentElement.scrollWidth") == width
    ground = page.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
    page.close()


def test_every_start_has_no_mistake(served: Served, chromium: Any) -> None:
    """And what Python 3.14 writes of the networks that come with the package is what we write."""
    page = Page(chromium, f"{served.url}#resnet18")
    page.told("No mistakes")
    data = json.loads((scripts.built() / "data.json").read_text(encoding="utf-8"))
    ask = """(text) => new Promise((resolve) => {
      window.asking ??= new Worker("worker.js", {type: "module"});
      window.asking.onmessage = (event) => resolve(event.data);
      window.asking.postMessage({number: 1, text});
    })"""
    specs = builtin_specs()
    for start in data["starts"]:
        found = page.tab.evaluate(ask, start["text"])
        assert found.get("failure") is None and found["count"] == 0, (start["name"], found)
        if start["name"] in specs:
            network = lower(load(start["name"], Library()))
            wanted = generate(network, ["torch", "keras", "flax"])
            for path, text in wanted.items():
                assert body(found["files"][path.as_posix()]) == body(text), path
    page.close()


def test_the_whole_page_is_small() -> None:
    files = [path for path in scripts.built().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LIMIT
    names = {path.name for path in files}
    assert {"index.html", "pyodide.asm.wasm", "packages.zip", "service.js"} <= names


def test_the_same_files_make_the_same_page() -> None:
    """The version by which a browser keeps the page is that of its files."""
    folder = scripts.built()
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name != "service.js":
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    assert f"resnet-spec-{digest.hexdigest()[:16]}" in (folder / "service.js").read_text()


def test_the_first_result_comes_soon(served: Served, chromium: Any) -> None:
    """Told, and bounded widely: how soon depends on what else the machine does."""
    start = time.monotonic()
    page = Page(chromium, served.url)
    page.told("No mistakes")
    page.shows("h1", "resnet50")
    print(f"first result after {time.monotonic() - start:.1f} s")
    assert time.monotonic() - start < 60
    page.close()
