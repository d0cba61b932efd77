"""Every code that a diagnostic can have, with what it means and how to mend it.

The tests compile each example: a bad one gives its code and no other, a good one gives none.
"""

from resnet_spec.diagnostics.codes.code import Code
from resnet_spec.diagnostics.codes.of_specs import BLOCKS, EXPRESSIONS, READING, SHAPES, WRITING
from resnet_spec.diagnostics.codes.of_tools import (
    BACKENDS,
    FILES,
    IMPORTING,
    SETTINGS,
    VERIFYING,
    WEIGHTS,
)

__all__ = ["CODES", "Code"]

CODES: dict[str, Code] = {
    **READING,
    **WRITING,
    **EXPRESSIONS,
    **BLOCKS,
    **SHAPES,
    **BACKENDS,
    **FILES,
    **SETTINGS,
    **VERIFYING,
    **WEIGHTS,
    **IMPORTING,
}
