"""An ONNX file as the library onnx has it, once each part has the form that its readers rely on.

The library takes what the wire format allows: text that is none, a stride that is a graph, a
convolution of nothing. What ONNX itself says of each operator is held against it here.
"""

from __future__ import annotations

from typing import Any

from resnet_spec.diagnostics import quoted

_TEXT, _MESSAGE = 9, 11  # protobuf's numbers of types
_DOMAINS = ("", "ai.onnx")
_LATEST = 1_000  # of ONNX's operators: far beyond all there are


def parsed(data: bytes) -> Any:
    """The model of a file; raises `ValueError` with what is wrong, to be put behind its name."""
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError, RecursionError):
        raise ValueError("is no whole ONNX file") from None
    if not model.HasField("graph"):
        raise ValueError("is no ONNX file: it has no graph")
    if not _is_text(model):
        raise ValueError("is no ONNX file: it has names that are no text")
    versions = [each.version for each in model.opset_import if each.domain in _DOMAINS]
    version = min(max(versions, default=1), _LATEST)
    given: set[str] = set()
    for node in model.graph.node:
        if node.domain in _DOMAINS:
            _check(node, version)
        outputs = set(filter(None, node.output))
        if twice := outputs & given:
            raise ValueError(f"is no ONNX file: two nodes give {quoted(min(twice))}")
        given |= outputs
    return model


def type_name(number: int) -> str:
    """What ONNX calls a type of tensors: `float8e4m3fn`."""
    from onnx import TensorProto

    known: dict[int, str] = {each: name.lower() for name, each in TensorProto.DataType.items()}
    return known.get(number, f"number {number}, which there is none of")


def _is_text(message: Any) -> bool:
    """Whether all strings of a message are text; others come as bytes."""
    waiting = [message]
    while waiting:
        for field, value in waiting.pop().ListFields():
            if field.type == _TEXT:
                texts = [value] if isinstance(value, str | bytes) else value
                if not all(isinstance(each, str) for each in texts):
                    return False
            elif field.type == _MESSAGE:
                waiting += [value] if hasattr(value, "ListFields") else value
    return True


def _check(node: Any, version: int) -> None:
    """Raise `ValueError` where a node has another form than its operator."""
    from onnx import defs

    try:
        schema = defs.get_schema(node.op_type, version, "")
    except defs.SchemaError:
        return  # an operator of another time: readers know it by its name, or don't
    shown = f"{node.op_type} {quoted(node.name or (node.output[0] if node.output else ''))}"
    if len(node.input) < schema.min_input or len(node.output) < schema.min_output:
        raise ValueError(f"is no ONNX file: {shown} lacks inputs or outputs")
    attributes: Any = schema.attributes
    given = {attribute.name for attribute in node.attribute}
    if lacking := {name for name, known in attributes.items() if known.required} - given:
        raise ValueError(f"is no ONNX file: {shown} lacks {quoted(min(lacking))}")
    for attribute in node.attribute:
        known = attributes.get(attribute.name)
        if known is not None and attribute.type != int(known.type):
            raise ValueError(
                f"is no ONNX file: {quoted(attribute.name)} of {shown} is of another type"
            )
