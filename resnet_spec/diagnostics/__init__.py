"""What is wrong with a spec: the messages, their codes, and how they are rendered."""

from resnet_spec.diagnostics.diagnostic import (
    INTERNAL,
    MAX_FINDINGS,
    Diagnostic,
    Report,
    Span,
    SpecError,
    Use,
    counted,
    fail,
    in_order,
    quoted,
)
from resnet_spec.diagnostics.suggestions import expected, nearest

__all__ = [
    "INTERNAL",
    "MAX_FINDINGS",
    "Diagnostic",
    "Report",
    "Span",
    "SpecError",
    "Use",
    "counted",
    "expected",
    "fail",
    "in_order",
    "nearest",
    "quoted",
]
