"""Escapes untrusted text: one function for each kind of destination.

A name, a description, a path or a value may contain anything: terminal escape sequences,
bidirectional overrides, commands for a workflow's log.
"""

from __future__ import annotations

import re

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Blanks of other widths, which are text; what else does not print is control, or turns the writing.
_BLANKS = frozenset("\u00a0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B))))
# Runners of workflows follow `::name::` at the start of a line, and `##[name]` wherever it stands.
_COMMAND = re.compile(r"^([^\S\n]*):(?=:)|##(?:vso)?(?=\[)", re.MULTILINE)


def terminal(text: str) -> str:
    """For a terminal or a log, of which it is not known whether a workflow's runner reads it.

    What could control either stands as `\\x1b` or `\\u202e`, as Python and YAML write it.
    """
    if not text.isascii() or not text.isprintable():
        text = "".join(c if c in "\n\t" or _prints(c) else _escaped(c) for c in text)
    if ":" not in text and "[" not in text:
        return text
    return _COMMAND.sub(_without_command, text)


def _prints(character: str) -> bool:
    return character.isprintable() or character in _BLANKS


def _escaped(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _without_command(found: re.Match[str]) -> str:
    if found[1] is not None:
        return f"{found[1]}\\x3a"
    return f"\\x23{found[0][1:]}"


def github(text: str) -> str:
    """For the message of a workflow command, in which `%0A` ends a line."""
    text = text.replace("%", "%25").replace("\r", "%0D")
    return "%0A".join(map(terminal, text.split("\n")))


def github_property(text: str) -> str:
    """For a property of a workflow command, such as a file's name."""
    return github(text).replace(":", "%3A").replace(",", "%2C")


def json(text: str) -> str:
    """For a text that is JSON already, which stays the same to whoever parses it."""
    if not text.isascii() or not text.replace("\n", "").isprintable():
        text = "".join(c if c in "\n" or _prints(c) else _in_json(c) for c in text)
    return text.replace("##[", "##\\u005b").replace("##vso[", "##vso\\u005b")


def _in_json(character: str) -> str:
    encoded = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{encoded[start : start + 4]}" for start in range(0, len(encoded), 4))


def toml(text: str) -> str:
    """A text as a basic string of TOML, quotes included."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if _prints(c) else _in_toml(c) for c in quoted) + '"'


def _in_toml(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def python(text: str) -> str:
    """For a docstring or a comment: one line, printable, unable to end a string."""
    words = " ".join(text.split())
    printable = "".join(c if c.isprintable() else " " for c in words)
    return printable.replace("\\", "\\\\").replace('"', "'")


def snippet(line: str) -> str:
    """For a line of a source whose places are pointed at below: no sign more, no command."""
    return line.replace("##[", "##(").replace("##vso[", "##vso(")


_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})


def html(text: str) -> str:
    """For the text of an element of HTML or SVG, or for an attribute in double quotes.

    What does not print is a sign of replacement: no reference may stand for a control character.
    What a workflow's runner would follow is a reference, which reads the same in a browser.
    """
    if not text.isascii() or not text.isprintable():
        text = "".join(c if c in "\n\t" or _prints(c) else _REPLACEMENT for c in text)
    text = text.translate(_ENTITIES)
    if ":" not in text and "[" not in text:
        return text
    return _COMMAND.sub(lambda found: _referred(found[0]), text)


def _referred(command: str) -> str:
    """The first sign of a command, behind what may stand before it, as a reference."""
    before, sign = (command[:-1], ":") if command.endswith(":") else ("", "#")
    return f"{before}&#{ord(sign)};{command[len(before) + 1 :]}"


def one_line(text: str) -> str:
    """For where each character has its place: what does not print is a sign of replacement."""
    return "".join(c if c.isprintable() else _REPLACEMENT for c in text)


def markdown(text: str) -> str:
    """For a line of Markdown or a cell of its tables: code, which has no marks or mentions."""
    line = one_line(" ".join(text.split())).replace("`", "'").replace("|", "\N{BROKEN BAR}")
    return f"`{line}`" if line else ""
