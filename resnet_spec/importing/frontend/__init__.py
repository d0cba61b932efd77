"""From a model's own operators to primitives."""
