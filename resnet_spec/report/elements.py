"""Elements of HTML; a text that is no HTML yet is escaped, so none can be forgotten."""

from __future__ import annotations

from collections.abc import Iterable

from resnet_spec.diagnostics import escapes

_VOID = ("meta", "br")


class Html(str):
    """A text that is HTML already."""

    __slots__ = ()


def html(text: str) -> Html:
    """A text as HTML; what is HTML stays as it is."""
    return text if isinstance(text, Html) else Html(escapes.html(text))


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Texts and elements one after the other."""
    return Html(html(between).join(map(html, parts)))


def element(name: str, /, *children: str, **attributes: str | None) -> Html:
    """An element: `class_` is the attribute `class`, `aria_label` is `aria-label`; None: none."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escapes.html(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{joined(children)}</{name}>")


def table(headings: Iterable[tuple[str, bool]], rows: Iterable[Iterable[str]], name: str) -> Html:
    """A table whose first column names its rows; a heading tells whether its column has numbers."""
    heads = list(headings)
    head = [
        element("th", text, scope="col", class_="number" if to_right else None)
        for text, to_right in heads
    ]
    body = []
    for first, *rest in rows:
        cells = [
            element("td", text, class_="number" if to_right else None)
            for text, (_, to_right) in zip(rest, heads[1:], strict=True)
        ]
        body.append(element("tr", element("th", first, scope="row"), *cells))
    return element(
        "table",
        element("caption", name, class_="unseen"),
        element("thead", element("tr", *head)),
        element("tbody", joined(body, "\n")),
    )
