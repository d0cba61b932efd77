"""PyTorch: one module with a class for each block and for the network."""

from __future__ import annotations

from resnet_spec.backends.torch import initialization, model
from resnet_spec.backends.torch.primitives import HELPERS

from resnet_spec import emit
from resnet_spec.specialize import Program


class TorchBackend:
    """Writes `torch/<name>.py`."""

    name = "torch"
    suffix = ".py"
    template = "model.py.jinja"
    trainer = ("train.py", "devices.py", "flags.py", "common.py", "images.py", "batches.py")

    def view(self, program: Program) -> dict[str, object]:
        """The variables of the template."""
        blocks = [model.class_view(routine) for routine in program.routines]
        network = model.network_view(program)
        init = initialization.initialization(program)
        body = [line for b in blocks for line in (*b.signature, *b.constructor, *b.forward)]
        body += [*network.constructor, *network.features, *network.head, *init]
        text = "\n".join(body)
        known = {"make_divisible": emit.MAKE_DIVISIBLE, **HELPERS}
        helpers: list[str] = []
        for name, source in reversed(known.items()):
            if f"{name}(" in text:
                helpers.insert(0, source)
                text += source
        body += helpers
        normed = model.has_batch_norm(program.network)
        if normed:
            body.append("def train(self, mode: bool = True) -> Self:")
        return {
            "imports": model.imports(body, program),
            "helpers": helpers,
            "blocks": blocks,
            "initialization": init,
            "network": network,
            "parts": emit.parts_table(emit.parts(program.network), "."),
            "normed": normed,
        }


backend = TorchBackend()
