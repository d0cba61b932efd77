"""How wide a text is, by tables of widths: no font is asked, so a picture is the same everywhere.

The widths are those of Helvetica, which Arial, Liberation Sans and Nimbus Sans share, in
thousandths of the type's size.
"""

from __future__ import annotations

import unicodedata

_REGULAR = {
    188: "′",
    191: "'",
    222: "ijl",
    260: "|",
    278: " !,./:;I[\\]ft·",
    333: "()-`r",
    334: "{}",
    354: "″",
    355: '"',
    389: "*",
    400: "°",
    469: "^",
    500: "Jcksvxyz",
    549: "≤",
    556: "#$0123456789?L_abdeghnopqu–",
    584: "+<=>~×−",
    611: "FTZ",
    667: "&ABEKPSVXY",
    722: "CDHNRUw",
    778: "GOQ",
    833: "Mm",
    834: "½",
    889: "%",
    944: "W",
    1000: "…→",
    1015: "@",
}
_BOLD = {
    238: "'",
    240: "′",
    278: " ,./I\\ijl·",
    280: "|",
    333: "!()-:;[]`ft",
    389: "*r{}",
    400: "°",
    474: '"',
    479: "″",
    500: "z",
    549: "≤",
    556: "#$0123456789J_aceksvxy–",
    584: "+<=>^~×−",
    611: "?FLTZbdghnopqu",
    667: "EPSVXY",
    722: "&ABCDHKNRU",
    778: "GOQw",
    833: "M",
    834: "½",
    889: "%m",
    944: "W",
    975: "@",
    1000: "…→",
}
_TABLES = tuple(
    {character: width for width, characters in table.items() for character in characters}
    for table in (_REGULAR, _BOLD)
)
_OTHER, _WIDE = 800, 1000  # of characters that are not in a table

SLACK = 1.06  # other typefaces are somewhat wider
ASCENT, DESCENT = 0.73, 0.2  # above and below the base line, as parts of the type's size


def text_width(text: str, size: float, bold: bool = False) -> float:
    """The width of a text on one line."""
    table = _TABLES[bold]
    return sum(table.get(c) or _other(c) for c in text) * size / 1000


def is_measured(text: str, bold: bool = False) -> bool:
    """Whether the width of a text is known, not estimated."""
    return all(c in _TABLES[bold] for c in text)


def _other(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return _WIDE if unicodedata.east_asian_width(character) in "WF" else _OTHER


def fitted(text: str, size: float, room: float, bold: bool = False) -> str:
    """The text, cut with an ellipsis where it is wider than the room."""
    if text_width(text, size, bold) <= room:
        return text
    left = room - text_width("…", size, bold)
    for end, character in enumerate(text):
        left -= text_width(character, size, bold)
        if left < 0:
            return text[:end].rstrip() + "…"
    return text
