"""Densities at the ends of their support, where they are powers of the distance to the end: 0, infinite, or, at the power 0, finite."""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor


class LogDensity(Protocol):
    """log p(x) in nats, of parameters and a value."""

    def __call__(self, params: Mapping[str, Tensor], x: Tensor) -> Tensor: ...


Powers = Mapping[float, Callable[[Mapping[str, Tensor]], Tensor]]


def with_rims(log_density: LogDensity, nearest: Callable[[Tensor], Tensor], powers: Powers) -> LogDensity:
    """A log-density inside of its support, extended to the ends.

    Args:
        log_density: is called where it is finite.
        nearest: the nearest number inside.
        powers: for each end, the power of the distance to it, of the parameters.
    """

    def whole(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
        inside = nearest(x.detach())
        density = log_density(params, x + (inside - x.detach()) if x.requires_grad else inside)
        for end, power_of in powers.items():
            power = power_of(params).detach()
            density = torch.where((x == end) & (power != 0), power.sign() * -torch.inf, density)
        return density

    return whole
