"""Keras 3: functions of the functional API, on TensorFlow, JAX and PyTorch alike."""

from __future__ import annotations

from typing import Any

from resnet_spec.backends.keras import checks, helpers, model
from resnet_spec.codegen import python
from resnet_spec.codegen.definitions import definitions, needed
from resnet_spec.codegen.module import PythonBackend
from resnet_spec.specialize import Program


class KerasBackend(PythonBackend):
    """Writes `keras/<name>.py`."""

    name = "keras"
    framework = "Keras"
    trainer = (
        *("train.py", "devices.py", "fitting.py"),
        *("common.py", "data.py", "recipes.py", "sources.py"),
    )
    imports = """\
import math

import keras
from keras import KerasTensor, initializers, layers, ops
"""
    definitions = definitions(__file__)
    names = (
        *("stages", "inputs", "features", "name", "model", "freeze_until"),
        *helpers.FUNCTIONS,
    )

    def view(self, program: Program) -> dict[str, Any]:
        network = program.network
        self.check_name(network)
        view = model.view(program, self.taken)
        functions = [line for function in view["functions"] for line in function]
        text = "\n".join([*functions, "if True:", *view["stages"], *view["head"]])
        layers = needed(self.definitions, {*python.names_in(text)})
        checks.check(network, "\n".join([text, *layers]))
        return {
            **view,
            "dotted": any("." in name for name in python.outer_names(network)),
            # The layers of a model are sorted by depth: in parallel branches not as they run.
            "ordered": python.stands_as_it_runs(network, within_blocks=False)
            and python.runs_in_turn(network),
        }


backend = KerasBackend()
