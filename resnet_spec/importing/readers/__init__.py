"""Files and models of others, read to nodes in ONNX's words."""
