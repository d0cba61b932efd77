"""Two networks side by side: what differs, and what that does to checkpoints."""

from resnet_spec.compare.comparison import Comparison, compare
from resnet_spec.compare.rules import RULES, Effect, Rule

__all__ = ["RULES", "Comparison", "Effect", "Rule", "compare"]
