"""From a checked spec to the IR: blocks resolved, arguments evaluated, every shape inferred.

The statements of each block are run once with numbers. Uses of a block with equal arguments and
equal input share one object, so the work grows with the number of distinct blocks, not with depth.
After an error the walk continues with an unknown value, so that one run reports all errors.
"""

from __future__ import annotations

from resnet_spec.lower.network import lower

__all__ = ["lower"]
