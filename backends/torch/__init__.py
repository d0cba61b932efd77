"""PyTorch: one module with a class for each block and for the network."""

from __future__ import annotations

from resnet_spec import emit
from resnet_spec.backends.torch import model
from resnet_spec.specialize import OperationLine, Program

DROP_PATH = '''class DropPath(nn.Module):
    """Zeroes whole samples at random in training (stochastic depth, Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1.0 - self.rate)
        return x * keep / (1.0 - self.rate)'''


class TorchBackend:
    """Writes `torch/<name>.py`."""

    name = "torch"
    suffix = ".py"
    template = "model.py.jinja"

    def view(self, program: Program) -> dict[str, object]:
        """The variables of the template."""
        blocks = [model.class_view(routine) for routine in program.routines]
        network = model.network_view(program)
        helpers = []
        if any(
            isinstance(line, OperationLine) and line.primitive.name == "drop_path"
            for _, line in program.lines()
        ):
            helpers.append(DROP_PATH)
        if "make_divisible" in emit.functions_used(program):
            helpers.insert(0, emit.MAKE_DIVISIBLE)
        init = model.initialization(program)
        body = [line for b in blocks for line in (*b.signature, *b.constructor, *b.forward)]
        body += [*network.constructor, *network.features, *network.head, *init]
        return {
            "imports": model.imports(body, program),
            "helpers": helpers,
            "blocks": blocks,
            "initialization": init,
            "network": network,
        }


backend = TorchBackend()
