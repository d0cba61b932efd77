"""Names that a Flax module takes itself, which nothing of a spec may hide."""

from __future__ import annotations

# Methods of nnx.Module: a layer of such a name would take their place. Its `train` and `eval` set
# `deterministic` and `use_running_average` of whatever has them.
MODULE_NAMES = frozenset(
    {
        *("eval", "iter_children", "iter_modules", "perturb", "set_attributes", "sow", "train"),
        *("deterministic", "use_running_average"),
    }
)
# Of nnx.Dict and nnx.List beside these, for the names within a container.
DICT_NAMES = frozenset(
    {"clear", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"}
)
LIST_NAMES = frozenset(
    {"append", "clear", "count", "extend", "index", "insert", "pop", "remove", "reverse"}
)
# Of SequentialDict: its own attribute, which holds the order.
SEQUENCE_NAMES = frozenset({"names"})
# Of the class of a network.
NETWORK_NAMES = frozenset({"feature_info", "forward_features", "freeze_until", "frozen", "order"})
