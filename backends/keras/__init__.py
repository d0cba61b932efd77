"""Keras 3: functions of the functional API, on TensorFlow, JAX and PyTorch alike."""

from __future__ import annotations

from typing import Any

from resnet_spec.backends.keras import checks, helpers, model
from resnet_spec.codegen import python
from resnet_spec.codegen.definitions import definitions
from resnet_spec.codegen.module import PythonBackend
from resnet_spec.specialize import Program


class KerasBackend(PythonBackend):
    """Writes `keras/<name>.py`."""

    name = "keras"
    framework = "Keras"
    trainer = (
        *("train.py", "devices.py", "fitting.py"),
        *("common.py", "data.py", "sources.py"),
    )
    imports = """\
import math

import keras
from keras import KerasTensor, initializers, layers, ops
"""
    definitions = definitions(__file__)
    names = (
        *("stages", "inputs", "features", "name", "model", "freeze_until"),
        *helpers.TEXTS,
    )

    def view(self, program: Program) -> dict[str, Any]:
        network = program.network
        self.check_name(network)
        checks.check(network)
        style = model.Style.of(program, self.taken)
        blocks = [model.function_view(routine, style) for routine in program.routines]
        shown = model.network_view(program, style)
        texts = [usage.write(style.exact) for usage in style.usages.values()]
        bodies = [*(block.body for block in blocks), shown.stages, shown.head, *texts]
        checks.check_automatic_names(network, bodies, self.definitions)
        return {
            "helpers": texts,
            "blocks": blocks,
            "network": shown,
            "dotted": any("." in name for name in checks.outer_names(network)),
            # The layers of a model are sorted by depth: in parallel branches not as they run.
            "ordered": python.stands_as_it_runs(network) and python.runs_in_turn(network),
            "normed": network.root.statistics > 0,
        }


backend = KerasBackend()
