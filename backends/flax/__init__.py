"""Flax NNX on JAX: one module with a class for each block and for the network."""

from __future__ import annotations

from resnet_spec.backends.flax import model, shared
from resnet_spec.backends.flax.names import FILE_NAMES
from resnet_spec.backends.flax.writer import MODULES, Style
from resnet_spec.codegen import python
from resnet_spec.codegen.definitions import definitions, needed
from resnet_spec.codegen.placement import check_names
from resnet_spec.specialize import OperationLine, Program


class FlaxBackend:
    """Writes `flax/<name>.py`."""

    name = "flax"
    suffix = ".py"
    template = "model.py.jinja"

    # Names of the module, of its imports and of its helpers, which nothing else may hide.
    taken = python.BUILTINS | FILE_NAMES | shared.NAMES | set(definitions(__file__))

    def view(self, program: Program) -> dict[str, object]:
        """The variables of the template."""
        network = program.network
        check_names(network, MODULES)
        python.check_network_name(network, self.taken, "Flax")
        exact = network.numerics == "exact"
        lines = [line for _, line in program.lines() if isinstance(line, OperationLine)]
        common = shared.collect(lines, exact)
        style = Style(common, exact, {routine.class_name for routine in program.routines})
        blocks = model.class_views(program, style)
        drawing = {block.name for block in blocks if "rngs" in "".join(block.signature)}
        view = model.network_view(program, Style(common, exact, drawing))
        statements = shared.definitions(common, exact)
        ordered = python.stands_as_it_runs(network, within_blocks=False)
        used = {*python.names_in(model.code_of(blocks, view, statements))}
        used |= {"Below", "Any"} if ordered else set()
        return {
            "helpers": needed(definitions(__file__), used),
            "imports": model.imports(used),
            "shared": statements,
            "blocks": blocks,
            "network": view,
            "ordered": ordered,
            "normed": network.root.statistics > 0,
        }


backend = FlaxBackend()
