"""Plain values as YAML text, which reads back the same with our YAML 1.2 rules."""

from __future__ import annotations

import math
from typing import Any

import yaml

from resnet_spec.diagnostics import escapes


class _Dumper(yaml.SafeDumper):
    """Writes YAML that reads back the same with our YAML 1.2 rules."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML takes `1e-5` and `0o17` for text that needs no quotes.
    style = "'" if text[:1] in "+-.0123456789" and text else None
    if escapes.terminal(text) != text or "::" in text:
        style = '"'  # in which the escapes of what is printed are those of YAML
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


def _float_node(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = repr(value) if math.isfinite(value) else ".nan" if math.isnan(value) else ".inf"
    # With a point PyYAML, which looks for one, writes no tag before it.
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return dumper.represent_scalar("tag:yaml.org,2002:float", f"{'-' * (value == -math.inf)}{text}")


_Dumper.add_representer(str, _text_node)
_Dumper.add_representer(float, _float_node)


def as_yaml(values: object) -> str:
    """Plain values as YAML, short mappings on one line."""
    return yaml.dump(
        values,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=100,
    )
