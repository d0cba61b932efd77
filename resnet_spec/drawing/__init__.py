"""Pictures of networks, from the IR: what is drawn, where it stands, and its text.

`figure` and what it is made of say what a network is made of; `page` places it, with `columns`,
`ordering` and `routing` for the graph of each block; `svg` and `mermaid` write it.
"""

from resnet_spec.drawing.page import Drawing
from resnet_spec.drawing.svg import Picture, render
from resnet_spec.drawing.theme import THEMES, Theme

__all__ = ["THEMES", "Drawing", "Picture", "Theme", "render"]
