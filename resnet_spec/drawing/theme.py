"""The colours of a picture, light and dark, by what they are for.

Each is checked by a test: text of at least 6 to 1 on its ground, outlines of at least 3 to 1.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Theme = Literal["auto", "light", "dark"]
THEMES: tuple[Theme, ...] = ("auto", "light", "dark")


class Paint(NamedTuple):
    """What a mark is filled with and outlined by; None: not at all."""

    fill: str | None
    stroke: str | None


class Colors(NamedTuple):
    light: Paint
    dark: Paint


def _colors(*given: str | None) -> Colors:
    light, outline, dark, dark_outline = given
    return Colors(Paint(light, outline), Paint(dark, dark_outline))


# fill and outline on a light page, fill and outline on a dark one
COLORS: dict[str, Colors] = {
    "page": _colors("#FFFFFF", None, "#0D1117", None),
    "panel": _colors("#F6F8FA", "#D0D7DE", "#151B23", "#3D444D"),
    "ink": _colors("#1F2328", None, "#E6EDF3", None),
    "soft": _colors("#525B65", None, "#A5AFBA", None),
    "rule": _colors(None, "#D0D7DE", None, "#3D444D"),
    "line": _colors(None, "#424A53", None, "#AFB8C1"),
    "tip": _colors("#424A53", None, "#AFB8C1", None),
    "join": _colors("#FFFFFF", "#1F2328", "#0D1117", "#E6EDF3"),
    "sign": _colors(None, "#1F2328", None, "#E6EDF3"),
    "conv": _colors("#D6E8FA", "#0072B2", "#0F2E47", "#56B4E9"),
    "pool": _colors("#FBDFB4", "#A85400", "#3F260B", "#E69F00"),
    "gate": _colors("#F3CFE3", "#A23B78", "#41203A", "#E39BC6"),
    "route": _colors("#D9F5E3", "#00795A", "#0D382C", "#3CC9A0"),
    "other": _colors("#EDEFF2", "#7D8590", "#262C36", "#8B949E"),
    "block": _colors("#FFFFFF", "#1F2328", "#0D1117", "#E6EDF3"),
    "tile": _colors("#24292F", "#24292F", "#E6EDF3", "#E6EDF3"),
    "tile-text": _colors("#FFFFFF", None, "#0D1117", None),
    "hollow": _colors("#FFFFFF", "#24292F", "#0D1117", "#E6EDF3"),
    "map": _colors("#E4E8EC", "#57606A", "#2A313A", "#9DA7B3"),
    "stage": _colors("#C9D1D9", "#424A53", "#444C56", "#C9D1D9"),
    "track": _colors("#E4E8EC", None, "#2A313A", None),
    "bar": _colors("#6E7F92", None, "#8496A9", None),
}
# The rule between the lines of a box has the colour of its outline.
for _name in ("conv", "pool", "gate", "route", "other", "block"):
    COLORS[f"{_name}-rule"] = Colors(
        Paint(None, COLORS[_name].light.stroke), Paint(None, COLORS[_name].dark.stroke)
    )

# What an operation is drawn as; any other is drawn in grey.
CATEGORIES = {
    **dict.fromkeys(("conv", "linear", "channel_conv"), "conv"),
    **dict.fromkeys(("max_pool", "avg_pool", "global_avg_pool", "global_max_pool"), "pool"),
    **dict.fromkeys(("channel_avg_pool", "channel_max_pool", "adaptive_avg_pool"), "pool"),
    **dict.fromkeys(("blur_pool", "subsample", "zero_pad"), "pool"),
    **dict.fromkeys(("split", "concat", "stack_rows", "take", "shuffle", "pad_channels"), "route"),
    **dict.fromkeys(("softmax", "rescale"), "gate"),
}
MEANINGS = {
    "conv": "convolution, linear",
    "pool": "pooling, sampling",
    "gate": "attention, gate",
    "route": "split, concat, slice",
}
