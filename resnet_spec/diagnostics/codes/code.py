"""A code with its examples, and the small networks that these are written in."""

from typing import NamedTuple


class Code(NamedTuple):
    """What a code means, with a bad and a good example; empty where no spec can show it."""

    title: str
    explanation: str
    bad: str = ""
    good: str = ""


TOP = """\
spec_version: 1
name: example
description: An example
"""

STAGES = """\
stages:
  - {name: layer1, block: basic, filters: 16}
"""

HEAD = """\
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""


def layers(*lines: str) -> str:
    """A network whose stem has these layers."""
    stem = "".join(f"  - {line}\n" for line in lines)
    return f"{TOP}stem:\n{stem}{STAGES}{HEAD}"


def stage(line: str) -> str:
    """A network with this stage."""
    return f"{TOP}stages:\n  - {line}\n{HEAD}"


def block(lines: str, stage: str = "{name: layer1, block: own}") -> str:
    """A network with a block of its own; `lines` follow the block's description."""
    body = "".join(f"    {line}\n" for line in lines.strip("\n").split("\n"))
    block = f"blocks:\n  own:\n    description: A block of this network's own\n{body}"
    return f"{TOP}{block}stages:\n  - {stage}\n{HEAD}"
