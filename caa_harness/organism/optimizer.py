"""Muon for the matrices, AdamW for the rest: what made a small Llama learn on two cores.

Keller Jordan's Muon (https://kellerjordan.github.io/posts/muon/), with the
Newton-Schulz iteration batched over all matrices of one shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor
    from torch.nn import Parameter

_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)


class Muon:
    """Momentum whose update is the nearest orthogonal matrix."""

    def __init__(
        self,
        parameters: Iterable[Parameter],
        *,
        learning_rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
    ) -> None:
        """Group the matrices by shape."""
        self.param_groups = [{"lr": learning_rate}]
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._by_shape: dict[tuple[int, ...], list[Parameter]] = {}
        for parameter in parameters:
            self._by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
        self._buffers = {
            shape: torch.zeros(len(rows), *shape) for shape, rows in self._by_shape.items()
        }

    @torch.no_grad()
    def step(self) -> None:
        """Move every matrix once."""
        rate = self.param_groups[0]["lr"]
        for shape, rows in self._by_shape.items():
            gradient = torch.stack([row.grad for row in rows if row.grad is not None])
            buffer = self._buffers[shape]
            buffer.lerp_(gradient, 1 - self._momentum)
            update = _orthogonal(gradient.lerp(buffer, self._momentum))
            update = update * max(1.0, shape[0] / shape[1]) ** 0.5
            for row, change in zip(rows, update, strict=True):
                row.mul_(1 - rate * self._weight_decay).add_(change, alpha=-rate)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for rows in self._by_shape.values():
            for row in rows:
                row.grad = None


def _orthogonal(matrices: Tensor) -> Tensor:
    """Five Newton-Schulz steps towards the orthogonal factor of each matrix."""
    first, second, third = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    flat = matrices.transpose(1, 2) if tall else matrices
    flat = (flat / (flat.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(5):
        gram = flat @ flat.transpose(1, 2)
        flat = first * flat + (second * gram + third * (gram @ gram)) @ flat
    return (flat.transpose(1, 2) if tall else flat).float()
