"""Flax NNX: one module with a class for each block and for the network."""
