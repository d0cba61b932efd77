"""Diagnostics as HTML: each with its place, the line that it points to, and how to mend it."""

from __future__ import annotations

from resnet_spec.diagnostics import Diagnostic, in_order
from resnet_spec.diagnostics.render import excerpt, summary, uses
from resnet_spec.report.contents import Findings
from resnet_spec.report.elements import Html, element, joined


def listed(found: Findings) -> Html:
    """All diagnostics in a list, and how many there are."""
    diagnostics = in_order(found.diagnostics)
    items = [element("li", _item(each, found)) for each in diagnostics]
    number = summary(diagnostics).strip()
    return joined([element("p", number), element("ol", joined(items, "\n"))])


def _item(each: Diagnostic, found: Findings) -> Html:
    place = element("span", str(each.span), class_="place") if each.span else ""
    parts: list[str] = [
        element("p", place, " " if place else "", element("b", each.code), " ", each.message)
    ]
    shown = each.span and excerpt(each.span, found.sources.get(each.span.path, ""))
    if shown:
        margin = " " * len(str(shown.number))
        lines = [
            f"{shown.number} | {shown.text}\n{margin} | {' ' * shown.start}",
            element("span", "^" + "~" * (shown.length - 1), class_="caret"),
        ]
        parts.append(element("pre", *lines, tabindex="0", role="region", aria_label="the line"))
    if each.uses:
        parts.append(element("p", "in: ", uses(each)))
    if each.help:
        parts.append(element("p", "help: ", each.help, class_="help"))
    return joined(parts)
