"""From a checked spec to the IR: blocks resolved, arguments evaluated, every shape inferred.

The statements of each block are run once with numbers. Uses of a block with equal arguments and an
equal input are one object, so the work grows with the number of different blocks, not with depth.
After a mistake the walk goes on with an unknown value, and one run tells all mistakes.
"""

from __future__ import annotations

from resnet_spec.lower.network import lower

__all__ = ["lower"]
