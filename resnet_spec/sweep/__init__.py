"""Variants of one network, compared by what follows from them: sizes, work, memory, reach."""

from resnet_spec.sweep.run import Failures, Row, Sweep
from resnet_spec.sweep.space import Axis, Space, SpaceError

__all__ = ["Axis", "Failures", "Row", "Space", "SpaceError", "Sweep"]
