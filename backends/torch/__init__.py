"""PyTorch: one module with a class for each block and for the network."""

from __future__ import annotations

from typing import Any

from resnet_spec.backends.torch.initialization import initialization
from resnet_spec.backends.torch.writer import MODULES, Writer
from resnet_spec.codegen import python
from resnet_spec.codegen.class_module import ClassBackend, Writers
from resnet_spec.codegen.definitions import definitions
from resnet_spec.specialize import Program


class TorchBackend(ClassBackend):
    """Writes `torch/<name>.py`."""

    name = "torch"
    framework = "PyTorch"
    trainer = (
        *("train.py", "devices.py"),
        *("common.py", "data.py", "recipes.py", "sources.py"),
    )
    imports = """\
import math
from collections import OrderedDict
from functools import reduce
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
"""
    definitions = definitions(__file__)
    names = ("self", "features", "module", "init_weights")
    modules = MODULES

    def writers(self, program: Program) -> Writers:
        return Writer

    def view(self, program: Program) -> dict[str, Any]:
        view = super().view(program)
        statements = initialization(program)
        initialized = python.names_in("\n".join(statements))
        return {
            **view,
            "initialization": statements,
            "in_blocks": not initialized.isdisjoint(block.name for block in view["blocks"]),
        }


backend = TorchBackend()
