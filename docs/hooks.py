"""Hooks of mkdocs: README.md is the home page, and links stay within the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

README = Path(__file__).parent.parent / "README.md"
FENCE = re.compile(r"^(```\w+) .+$", re.MULTILINE)  # what follows the language is for the tests
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    text = README.read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Of a link to a file that is no part of the site, such as a test, its text is left."""

    def kept(link: re.Match[str]) -> str:
        target = link[2].partition("#")[0]
        there = not target or "://" in target or files.get_file_from_path(target.rstrip("/"))
        return link[0] if there else link[1]

    return LINK.sub(kept, FENCE.sub(r"\1", markdown))
