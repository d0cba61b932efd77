"""PyTorch: one module with a class for each block and for the network."""

from __future__ import annotations

from resnet_spec.backends.torch import initialization, model
from resnet_spec.backends.torch.writer import MODULES
from resnet_spec.codegen import python
from resnet_spec.codegen.definitions import definitions, needed
from resnet_spec.codegen.placement import check_names
from resnet_spec.specialize import Program


class TorchBackend:
    """Writes `torch/<name>.py`."""

    name = "torch"
    suffix = ".py"
    template = "model.py.jinja"
    trainer = ("train.py", "devices.py", "common.py", "data.py", "sources.py")

    # Names of the module, of its imports and of its helpers, which nothing else may hide.
    taken = python.BUILTINS | {
        *("torch", "nn", "F", "Tensor", "math", "Any", "Self", "OrderedDict", "reduce"),
        *("self", "features", "module", "init_weights", *definitions(__file__)),
    }

    def view(self, program: Program) -> dict[str, object]:
        """The variables of the template."""
        check_names(program.network, MODULES)
        python.check_network_name(program.network, self.taken, "PyTorch")
        blocks = [model.class_view(routine) for routine in program.routines]
        network = model.network_view(program)
        init = initialization.initialization(program)
        used = {*python.names_in(model.code_of(blocks, network, init))}
        helpers = needed(definitions(__file__), used)
        initialized = python.names_in("\n".join(init))
        normed = program.network.root.statistics > 0
        return {
            "imports": model.imports(used | {"Self"} if normed else used),
            "helpers": helpers,
            "blocks": blocks,
            "initialization": init,
            "in_blocks": not initialized.isdisjoint(block.name for block in blocks),
            "network": network,
            "ordered": python.stands_as_it_runs(program.network),
            "normed": normed,
        }


backend = TorchBackend()
