"""The page itself: one file with all that it needs, for light and dark, screens and paper."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from resnet_spec.drawing import Drawing, Picture, render
from resnet_spec.ir import Network
from resnet_spec.ir.summary import Section, Summary, peak_activations, summarize
from resnet_spec.report import findings, highlight, plots
from resnet_spec.report.contents import Contents, Findings
from resnet_spec.report.elements import Html, element, joined, table

_COLUMNS = (
    ("stage", False),
    ("output", False),
    ("made of", False),
    ("parameters", True),
    ("multiply-adds", True),
    ("peak activation", True),
    ("receptive field", True),
    ("stride", True),
)
_PAPERS = ("https://", "http://")  # what a page links to; nothing is loaded from there


def document(
    contents: Contents | None,
    found: Findings | None = None,
    header: Sequence[str] = (),
    script: str = "",
) -> str:
    """The text of a page about a network, findings above it; without a network, about these alone.

    The lines of `header` are kept at its top, unseen. `script` is the one that may run.
    """
    found = found or Findings()
    name = contents.network.name if contents else "resnet-spec"
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    head = [
        element("meta", charset="utf-8"),
        *([element("meta", name="generator", content="\n".join(header))] if header else []),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        element("title", f"{name}: mistakes" if found.diagnostics else name),
        Html(f"<style>{style}</style>"),
    ]
    body = joined([*_body(contents, found)], "\n")
    end = Html(f"<script>{script}</script>") if script else ""
    page = element("html", joined(head, "\n"), "\n", element("body", body, end), lang="en")
    return f"<!doctype html>\n{page}\n"


def _policy(script: str) -> str:
    """What a browser may do for the page: show it, and run the one script, known by its hash."""
    allowed = ["default-src 'none'", "style-src 'unsafe-inline'", "base-uri 'none'"]
    allowed.append("form-action 'none'")
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        allowed += [f"script-src 'sha256-{digest}'", "connect-src 'self'"]
    return "; ".join(allowed)


def _body(contents: Contents | None, found: Findings) -> Iterator[Html]:
    if found.diagnostics:
        title = element("h2", "Mistakes", id="mistakes-title")
        parts = title, findings.listed(found)
        yield element("section", *parts, id="mistakes", class_="mistakes", role="alert")
    if contents is None:
        return
    summary, drawing = summarize(contents.network), Drawing(contents.network)
    yield _head(contents.network, summary)
    yield element("main", *_parts(contents, summary, drawing))


def _parts(contents: Contents, summary: Summary, drawing: Drawing) -> Iterator[Html]:
    network = contents.network
    yield _part("overview", "Overview", _figure(drawing.sections(), "all sections"))
    yield _part("stages", "Stages", _stages(network, summary))
    names = [section.name for section in summary.sections]
    drawn = [
        element(
            "figure", element("figcaption", plot.title), _svg(plots.picture(network, names, plot))
        )
        for plot in plots.plots(network, summary)
    ]
    yield _part("costs", "Costs by stage", element("div", *drawn, class_="plots"))
    if drawing.blocks:
        blocks = [_block(drawing, name) for name in drawing.blocks]
        yield _part("blocks", "Blocks", element("div", *blocks, class_="blocks"))
    opened = [
        _opened(path, f"{text.count(chr(10)):,} lines", highlight.source(path, text))
        for path, text in contents.sources.items()
    ]
    if opened:
        yield _part("sources", "Sources", *opened)
    spec = highlight.source("spec.yaml", contents.spec)
    whole = _opened("The whole spec", "what it extends and --set merged", spec)
    yield _part("spec", "Spec", whole)


def _part(key: str, title: str, *children: str) -> Html:
    heading = element("h2", title, id=f"{key}-title")
    return element("section", heading, *children, id=key, aria_labelledby=f"{key}-title")


def _head(network: Network, summary: Summary) -> Html:
    facts = (
        ("input", str(network.input)),
        ("classes", f"{network.classes:,}"),
        ("parameters", f"{summary.parameters:,}"),
        ("statistics", f"{summary.statistics:,}"),
        ("multiply-adds", f"{summary.macs:,}"),
        ("operations", f"{summary.operations:,}"),
        ("peak activation", f"{summary.peak_activation:,} elements"),
    )
    listed = [element("div", element("dt", name), element("dd", value)) for name, value in facts]
    source = network.source or ""
    if source.startswith(_PAPERS):
        source = element("a", source, href=source, rel="noreferrer")
    return element(
        "header",
        element("h1", network.name),
        element("p", " ".join(network.description.split())),
        element("p", source) if source else "",
        element("dl", *listed),
    )


def _stages(network: Network, summary: Summary) -> Html:
    peaks = peak_activations(network)
    rows = [_row(section, peak) for section, peak in zip(summary.sections, peaks, strict=True)]
    return _scrolled(
        table(_COLUMNS, rows, "What each stage is made of and costs"), "table of stages"
    )


def _row(section: Section, peak: int) -> tuple[str, ...]:
    return (
        section.name,
        str(section.output),
        section.blocks or "-",
        f"{section.parameters:,}",
        f"{section.macs:,}",
        f"{peak:,}",
        "all" if section.receptive_field is None else f"{section.receptive_field:,}",
        "-" if section.stride is None else str(section.stride),
    )


def _block(drawing: Drawing, name: str) -> Html:
    heading = element("h3", name.replace("_", " "))
    return element("div", heading, _figure(drawing.block(name), name))


def _plot(network: Network, names: Sequence[str], plot: plots.Plot) -> Html:
    drawn = _svg(plots.picture(network, names, plot))
    return element("figure", element("figcaption", plot.title), drawn)


def _figure(picture: Picture, name: str) -> Html:
    return element("figure", _scrolled(_svg(picture), name))


def _svg(picture: Picture) -> Html:
    return Html(render(picture).rstrip())


def _scrolled(content: Html, name: str) -> Html:
    """What may be wider than a screen: it alone scrolls, by keys as well."""
    return element("div", content, class_="wide", tabindex="0", role="region", aria_label=name)


def _opened(title: str, said: str, text: Html) -> Html:
    """A long text that is shown when it is asked for."""
    told = element("summary", element("b", title), " ", element("span", said))
    return element("details", told, _scrolled(element("pre", element("code", text)), title))
