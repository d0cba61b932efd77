"""A page read back from its HTML, by a parser that forgives nothing."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

import html5lib

# What a page is made of. None of these runs anything, and none loads anything.
HTML = set(
    re.findall(
        r"\w+",
        """html head meta title style body header main section h1 h2 h3 p a b span div dl dt dd
        ol li figure figcaption table caption thead tbody tr th td details summary pre code""",
    )
)
SVG = {"svg", "title", "desc", "style", "g", "rect", "circle", "path", "text", "tspan"}


def read(text: str) -> Element:
    """The tree of a page; raises ParseError for what is no valid HTML."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    root = parser.parse(text)
    assert isinstance(root, Element)
    return root


def tag(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def faults(root: Element) -> list[str]:
    """Whatever on a page could run, or ask for something from elsewhere."""
    found = []
    for element in root.iter():
        if callable(element.tag):  # a comment
            continue
        is_drawn = "svg" in element.tag
        if tag(element) not in (SVG if is_drawn else HTML):
            found.append(f"<{tag(element)}>")
        for key, value in element.attrib.items():
            name = str(key).rpartition("}")[2]
            if name.startswith("on") or name in ("src", "srcset", "action", "data", "style"):
                found.append(f"{name}={value}")
            if name == "href" and not value.startswith(("https://", "http://")):
                found.append(f"{name}={value}")
            if "url(" in value:
                found.append(f"{name}={value}")
        if tag(element) == "style" and re.search(r"url\(|@import|expression\(", element.text or ""):
            found.append("a style that loads something")
    return found


def text_of(element: Element) -> str:
    return "".join(element.itertext())


def facts(root: Element) -> dict[str, str]:
    """The list of facts at the top."""
    pairs = zip(root.iter("dt"), root.iter("dd"), strict=True)
    return {text_of(name): text_of(value) for name, value in pairs}


def rows(root: Element) -> list[list[str]]:
    """The table of stages, its heading first."""
    return [[text_of(cell) for cell in row] for row in root.iter("tr")]


def sources(root: Element) -> dict[str, str]:
    """What can be opened: the title of each and its text."""
    found = {}
    for each in root.iter("details"):
        (title,) = (text_of(bold) for bold in each.iter("b"))
        (text,) = (text_of(code) for code in each.iter("code"))
        found[title] = text
    return found
