"""Keras 3: functions of the functional API, on TensorFlow, JAX and PyTorch alike."""

from __future__ import annotations

from resnet_spec.backends.keras import helpers, layers, model

from resnet_spec.codegen import python
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

    # Names of the module, of its imports and of its helpers, which nothing else may hide.
    taken = python.BUILTINS | {
        *("keras", "KerasTensor", "layers", "ops", "initializers", "math", "PARTS", "stages"),
        *("inputs", "features", "name", "model", "freeze_until", "make_divisible"),
        *helpers.NAMES,
    }

    def view(self, program: Program) -> dict[str, object]:
        """The variables of the template."""
        network = program.network
        python.check_network_name(network, self.taken, "Keras")
        places = list(network.places())
        model.check_layer_names(places)
        model.check_convolutions(places)
        model.check_parts(network, places)
        operations = [line for _, line in program.lines() if isinstance(line, OperationLine)]
        usages = helpers.collect(operations)
        functions = model.function_names(program, self.taken)
        exact = network.numerics == "exact"
        blocks = [model.function_view(each, usages, functions, exact) for each in program.routines]
        shown = model.network_view(program, usages, functions)
        code = model.code_of(blocks, shown)
        used = python.names_in(code)
        texts = [helpers.write(name, usage, exact) for name, usage in usages.items()]
        if "make_divisible" in used:
            texts.insert(0, python.MAKE_DIVISIBLE.split("\n"))
        for text in texts:
            used |= python.names_in("\n".join(text))
        own = [source for name, source in layers.LAYERS.items() if name in used]
        for source in own:
            used |= python.names_in(source)
        texts = [*(source.split("\n") for source in own), *texts]
        model.check_automatic_names(places, code, texts)
        return {
            "imports": model.imports(used),
            "helpers": texts,
            "blocks": blocks,
            "network": shown,
            "parts": python.parts_table(model.parts(network), "_"),
            "normed": network.root.statistics > 0,
        }


backend = KerasBackend()
