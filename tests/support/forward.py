"""Layers for forward passes that are written from the papers, apart from any generated code."""

from __future__ import annotations

from typing import Any


class Forward:
    """Layers by name, from the weights of a model in evaluation."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = dict(state)
        self.unused = {name for name in state if not name.endswith("_tracked")}

    def weight(self, name: str) -> Any:
        self.unused.discard(name)
        return self.state[name]

    def has(self, name: str) -> bool:
        return f"{name}.weight" in self.state

    def conv(self, x: Any, name: str, stride: int = 1) -> Any:
        import torch

        weight = self.weight(f"{name}.weight")
        bias = self.weight(f"{name}.bias") if f"{name}.bias" in self.state else None
        padding = weight.shape[-1] // 2
        return torch.nn.functional.conv2d(x, weight, bias, stride=stride, padding=padding)

    def norm(self, x: Any, name: str) -> Any:
        mean, var, scale, shift = (
            self.weight(f"{name}.{each}").reshape(1, -1, 1, 1)
            for each in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def linear(self, x: Any, name: str) -> Any:
        return x @ self.weight(f"{name}.weight").T + self.weight(f"{name}.bias")


def option_a(x: Any, like: Any, stride: int) -> Any:
    """Every n-th row and column of x with zeros around its channels, in the shape of `like`."""
    import torch

    shortcut = torch.zeros_like(like)
    before = (like.shape[1] - x.shape[1]) // 2
    shortcut[:, before : before + x.shape[1]] = x[:, :, ::stride, ::stride]
    return shortcut
