"""What a PyTorch module keeps in its state beside the parameters of the IR."""

from __future__ import annotations

# primitive: a whole number that counts the batches of training. The statistics need it only where
# they are plain means, which no generated model does; `load_state_dict` still asks for it.
COUNTERS: dict[str, str] = {"batch_norm": "num_batches_tracked"}
