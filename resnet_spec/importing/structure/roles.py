"""What the norm and the activation of a network are: those that `defaults` states once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from resnet_spec.importing.graph import GATED, Graph, Op
from resnet_spec.importing.matching import follows_the_size, same_sides, word
from resnet_spec.primitives import PRIMITIVES, SAME

Block = dict[str, Any]
USUAL_EPS = 1e-5
USUAL_GROUPS = 32
_NEVER = frozenset({"sigmoid", "hard_sigmoid", "softmax", "threshold"})  # gates, not activations
ACTIVATIONS = frozenset(
    name for name, each in PRIMITIVES.items() if each.group == "activation" and name not in _NEVER
)


@dataclass(frozen=True)
class Roles:
    """Which operations are `norm` and `act`, as `word` says them, and what stands in `defaults`."""

    act: str = "relu()"
    norm: str = ""
    eps: float = USUAL_EPS  # of batch norms
    bias: bool = False  # every convolution has one, also before a norm
    same: bool = False  # every convolution is padded as by `padding: same`
    defaults: dict[str, Any] = field(default_factory=dict)
    # By the kind of an operation that is several of the language, its block: its name and body.
    gates: Mapping[str, tuple[str, Block]] = field(default_factory=dict)

    @property
    def blocks(self) -> dict[str, Block]:
        """The blocks that stand for one operation, by their names."""
        return dict(self.gates.values())

    def is_act(self, op: Op) -> bool:
        return word(op) == self.act

    def is_norm(self, op: Op) -> bool:
        return word(op) == self.norm


def roles(graph: Graph, folds: bool) -> Roles:
    """The roles of a folded graph; `folds`: a bias may be a norm that was folded."""
    defaults: dict[str, Any] = {}
    gates = _gates(graph)
    act = _act(graph, defaults, gates)
    norms = [norm for norm in graph.norms() if norm.kind == "batch_norm"]
    grouped = Counter(word(op) for op in graph.ops if op.kind == "group_norm")
    eps = Counter(each.attributes["eps"] for each in norms).most_common(1)
    convs = [op for op in graph.ops if op.kind == "conv"]
    bias = False
    norm = ""
    if grouped and not norms:
        norm = grouped.most_common(1)[0][0]
        _group_norm(next(op for op in graph.ops if word(op) == norm), defaults)
    else:
        usual = eps[0][0] if eps else USUAL_EPS
        norm = word(Op("batch_norm", {"eps": usual}, [], []))
        if usual != USUAL_EPS:
            defaults["norm"] = {"batch_norm": {"eps": usual}}
        bias = bool(convs) and all(op.parts[0].attributes["bias"] for op in convs)
        if not norms and bias and not folds:
            norm, defaults["norm"] = "", "none"
        bias = bias and (bool(norms) or not folds)
    same = _pads_same(graph, convs)
    conv = {**({"padding": SAME} if same else {}), **({"bias": True} if bias else {})}
    if conv:
        defaults["conv"] = conv
    return Roles(act, norm, eps[0][0] if eps else USUAL_EPS, bias, same, defaults, gates)


def _pads_same(graph: Graph, convs: Iterable[Op]) -> bool:
    """Whether TensorFlow's rule pads every convolution, and is no number for some at all sizes."""

    def is_same(op: Op) -> bool:
        padding = op.attributes["padding"]
        return padding == SAME or same_sides(op, graph.shapes[op.inputs[0]]) == {padding}

    found = list(convs)
    varies = any(op.attributes["padding"] == SAME or follows_the_size(op) for op in found)
    return varies and all(map(is_same, found))


def _gates(graph: Graph) -> dict[str, tuple[str, Block]]:
    """A block for each kind of gate: `hard_swish`, and `gate` with a number."""
    found: dict[str, tuple[str, Block]] = {}
    for op in graph.ops:
        if not op.kind.startswith(GATED) or op.kind in found:
            continue
        chain = [(kind, dict(attributes)) for kind, attributes in op.attributes["gate"]]
        is_known = [kind for kind, _ in chain] == ["hard_sigmoid"]
        others = sum(not name.startswith("hard_swish") for name, _ in found.values())
        name = "hard_swish" if is_known else f"gate{others + 1}"
        description = "x * hard_sigmoid(x) (Howard et al. 2019)" if is_known else "x times its gate"
        names = Counter[str]()
        layers: list[dict[str, Any]] = []
        for kind, attributes in chain:
            names[kind] += 1
            own = f"{kind}{names[kind]}" if names[kind] > 1 else kind
            usual = {each.name: each.default for each in PRIMITIVES[kind].attributes}
            layers.append({kind: own, **{k: v for k, v in attributes.items() if v != usual[k]}})
        layers[-1]["as"] = "gate"
        layers.append({"multiply": ["x", "gate"], "name": "multiply"})
        found[op.kind] = (name, {"description": description, "layers": layers})
    return found


def _act(graph: Graph, defaults: dict[str, Any], gates: Mapping[str, tuple[str, Block]]) -> str:
    found = Counter(word(op) for op in graph.ops if op.kind in ACTIVATIONS or op.kind in gates)
    if not found:
        return "relu()"
    act = found.most_common(1)[0][0]
    op = next(op for op in graph.ops if word(op) == act)
    if op.kind == "leaky_relu" and op.attributes["slope"] != 0.01:
        defaults["act"] = {"leaky_relu": {"slope": op.attributes["slope"]}}
    elif op.kind in gates:
        defaults["act"] = gates[op.kind][0]
    elif op.kind != "relu":
        defaults["act"] = op.kind
    return act


def _group_norm(op: Op, defaults: dict[str, Any]) -> None:
    said = {}
    if op.attributes["groups"] != USUAL_GROUPS:
        said["groups"] = op.attributes["groups"]
    if op.attributes["eps"] != USUAL_EPS:
        said["eps"] = op.attributes["eps"]
    defaults["norm"] = {"group_norm": said} if said else "group_norm"
