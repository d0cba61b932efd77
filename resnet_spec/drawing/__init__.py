"""Pictures of networks, from the IR: content, layout, and output as text.

`figure` determines the content; `page` lays it out, with `columns`, `ordering` and `routing` for
the graph of each block; `svg` and `mermaid` write it.
"""

from resnet_spec.drawing.page import Drawing
from resnet_spec.drawing.svg import Picture, render
from resnet_spec.drawing.theme import THEMES, Theme

__all__ = ["THEMES", "Drawing", "Picture", "Theme", "render"]
