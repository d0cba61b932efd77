"""What frameworks read when they are first imported; to be set before that."""

from __future__ import annotations

import os


def prepare() -> None:
    """Keras on TensorFlow, on the CPU, with sums that depend on nothing but their terms."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its sums depend on the number of threads
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
