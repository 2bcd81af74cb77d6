"""RealNVP for `gpu.py`: ours, and the same by hand, with its weights; needs nothing but torch and pixyz.flows."""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from pixyz.flows import ActNorm, AffineMap, Coupling, Permutation, RealNVP


def real_nvp_of(made_of: tuple[Callable[[int], Tensor], int]) -> RealNVP:
    """p(x), initialised by the first batch; it is made of what draws the batches and the number of couplings."""
    draw, transforms = made_of
    x = draw(0)
    p = RealNVP("p(x)", features=x.shape[1], transforms=transforms)
    p.initialize({"x": x})
    return p


def lean_of(p: RealNVP) -> nn.Module:
    """-log p(x) by hand, with the same weights."""
    return LeanRealNVP([*p.modules()])


class LeanRealNVP(nn.Module):
    """-log p(x), averaged: standardised data, then affine couplings in turns, with a fixed permutation before every second one.

    Args:
        layers: those of Pixyz, whose networks and constants are copied.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        (norm,) = [layer for layer in layers if isinstance(layer, ActNorm)]
        self.register_buffer("shift", norm.shift.clone())
        self.register_buffer("scale", norm.log_scale.exp())
        features = norm.shift.numel()
        self.constant = float(norm.log_scale.sum()) - 0.5 * features * math.log(2 * math.pi)
        self.networks = nn.ModuleList(deepcopy(layer.network.net) for layer in layers if isinstance(layer, Coupling))
        orders = [layer.order.clone() for layer in layers if isinstance(layer, Permutation)]
        self.register_buffer("orders", torch.stack(orders))
        self.bound = AffineMap().bound

    def forward(self, values: dict[str, Tensor]) -> Tensor:
        x = (values["x"] + self.shift) * self.scale
        log_density = self.constant
        for i, network in enumerate(self.networks):
            if i and i % 2 == 0:
                x = x.index_select(1, self.orders[i // 2 - 1])
            a, b = x.chunk(2, 1)
            kept, moved = (b, a) if i % 2 else (a, b)
            shift, scale = network(kept).view(len(x), -1, 2).unbind(-1)
            log_scale = self.bound * torch.tanh(scale / self.bound)
            moved = torch.addcmul(shift, moved, log_scale.exp())
            x = torch.cat((moved, kept) if i % 2 else (kept, moved), 1)
            log_density = log_density + log_scale.sum(1)
        return (0.5 * x.square().sum(1) - log_density).mean()
