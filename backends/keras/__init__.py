"""Keras 3: functions of the functional API, on TensorFlow, JAX and PyTorch alike."""

from __future__ import annotations

from resnet_spec.backends.keras import helpers, model
from resnet_spec.codegen import python
from resnet_spec.codegen.definitions import definitions, needed
from resnet_spec.specialize import OperationLine, Program


class KerasBackend:
    """Writes `keras/<name>.py`."""

    name = "keras"
    suffix = ".py"
    template = "model.py.jinja"
    trainer = (
        *("train.py", "devices.py", "fitting.py"),
        *("common.py", "data.py", "sources.py"),
    )

    # Names of the module, of its imports and of its helpers, which nothing else may hide.
    taken = python.BUILTINS | {
        *("keras", "KerasTensor", "layers", "ops", "initializers", "math", "stages"),
        *("inputs", "features", "name", "model", "freeze_until"),
        *helpers.NAMES,
        *definitions(__file__),
    }

    def view(self, program: Program) -> dict[str, object]:
        """The variables of the template."""
        network = program.network
        python.check_network_name(network, self.taken, "Keras")
        places = list(network.places())
        model.check_layer_names(places)
        model.check_convolutions(places)
        model.check_stages(network, places)
        operations = [line for _, line in program.lines() if isinstance(line, OperationLine)]
        usages = helpers.collect(operations)
        functions = model.function_names(program, self.taken)
        exact = network.numerics == "exact"
        blocks = [model.function_view(each, usages, functions, exact) for each in program.routines]
        shown = model.network_view(program, usages, functions)
        code = model.code_of(blocks, shown)
        used = {*python.names_in(code)}
        own = definitions(__file__)
        written = [each for each in usages.items() if each[0] not in own]
        texts = [helpers.write(name, usage, exact) for name, usage in written]
        for text in texts:
            used |= python.names_in("\n".join(text))
        texts = [*needed(own, used), *texts]
        model.check_automatic_names(places, code, texts)
        return {
            "imports": model.imports(used),
            "helpers": texts,
            "blocks": blocks,
            "network": shown,
            "dotted": any("." in name for name in model.outer_names(network)),
            # The layers of a model are sorted by depth: in parallel branches not as they run.
            "ordered": python.stands_as_it_runs(network) and python.runs_in_turn(network),
            "normed": network.root.statistics > 0,
        }


backend = KerasBackend()
