"""The text of every network that comes with the package is clean."""

from __future__ import annotations

import parity
import zoo_record

from resnet_spec.codegen.generate import generate
from resnet_spec.language.library import builtin_specs


def test_ruff_has_nothing_to_say() -> None:
    texts = {
        str(path).removesuffix(".py").replace("/", "_"): text
        for name in builtin_specs()
        for path, text in generate(parity.network_of(name), zoo_record.BACKENDS).items()
    }
    assert parity.complaints(texts) == ""
