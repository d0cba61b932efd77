"""Pages in a real browser: what they load, how they fit, and how a preview takes over a change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from test_preview import BLOCK, Preview

from resnet_spec import cli

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.chromium() as started:
        yield started


@pytest.fixture
def preview(tmp_path: Path) -> Iterator[Preview]:
    started = Preview(tmp_path)
    yield started
    if started.process.poll() is None:
        started.process.kill()
        started.process.wait()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["resnet50", "densenet121", "dpn68"])
def test_a_page_fits_and_loads_nothing(
    name: str, width: int, scheme: str, chromium: Any, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.html"
    assert cli.main(["report", name, "--out", str(path), "--quiet"]) == 0
    page = chromium.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    assert (asked, said) == ([path.as_uri()], [])
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
    assert page.locator("h1").inner_text() == name
    page.locator("summary", has_text="torch/").click()
    assert "(nn.Module):" in page.inner_text("details[open]")
    page.close()


def test_a_preview_takes_over_changes_where_one_looks(preview: Preview, chromium: Any) -> None:
    page = chromium.new_page(viewport={"width": 800, "height": 500})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"http://127.0.0.1:{preview.port}/")
    page.locator("summary", has_text="keras/").click()
    page.locator("#sources-title").scroll_into_view_if_needed()
    place = page.evaluate("scrollY")
    assert place > 100
    preview.block.write_text(BLOCK % 24)
    page.wait_for_selector("td:has-text('24x32x32')")
    assert page.evaluate("scrollY") == pytest.approx(place, abs=60)
    assert page.locator("details[open] summary b").all_inner_texts() == ["keras/net.py"]
    preview.block.write_text((BLOCK % 24).replace("kernel", "kernal"))
    page.wait_for_selector("#mistakes .caret")
    assert re.search(r"kernal.*\n.*\^~~~~~", page.inner_text("#mistakes pre"))
    assert "24x32x32" in page.inner_text("#stages")
    assert page.title() == "net: mistakes"
    preview.block.write_text(BLOCK % 32)
    page.wait_for_selector("#mistakes", state="detached")
    assert "32x32x32" in page.inner_text("#stages")
    assert said == []
    assert preview.stop() == 0
    page.wait_for_selector("#lost")
    page.close()
