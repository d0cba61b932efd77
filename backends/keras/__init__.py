"""Keras 3: functions of the functional API, on TensorFlow, JAX and PyTorch alike."""

from __future__ import annotations

from resnet_spec.backends.keras import helpers, layers, model

from resnet_spec import emit
from resnet_spec.specialize import OperationLine, Program


class KerasBackend:
    """Writes `keras/<name>.py`."""

    name = "keras"
    suffix = ".py"
    template = "model.py.jinja"
    trainer = (
        *("train.py", "devices.py", "optimizers.py"),
        *("flags.py", "common.py", "images.py", "batches.py"),
    )

    def view(self, program: Program) -> dict[str, object]:
        """The variables of the template."""
        model.check_layer_names(program.network)
        model.check_convolutions(program.network)
        model.check_parts(program.network)
        operations = [line for _, line in program.lines() if isinstance(line, OperationLine)]
        usages = helpers.collect(operations)
        functions = model.function_names(program)
        exact = program.network.numerics == "exact"
        texts = [helpers.write(name, usage, exact) for name, usage in usages.items()]
        if "make_divisible" in emit.functions_used(program):
            texts.insert(0, emit.MAKE_DIVISIBLE.split("\n"))
        blocks = [model.function_view(each, usages, functions, exact) for each in program.routines]
        network = model.network_view(program, usages, functions)
        body = [line for text in texts for line in text]
        body += [line for block in blocks for line in (*block.signature, *block.body)]
        body += [*network.stages, *network.head]
        own = layers.layers_in(body)
        texts, body = [*own, *texts], [*body, *(line for text in own for line in text)]
        model.check_automatic_names(program.network, body)
        return {
            "imports": model.imports(body),
            "helpers": texts,
            "blocks": blocks,
            "network": network,
            "parts": emit.parts_table(model.parts(program.network), "_"),
            "normed": program.network.root.statistics > 0,
        }


backend = KerasBackend()
