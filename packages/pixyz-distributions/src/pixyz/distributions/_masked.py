"""Masked networks, whose i-th outputs depend only on the inputs before i."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixyz.core import KindError


class MaskedLinear(nn.Linear):
    """A linear layer without the connections that the mask rules out.

    Args:
        mask: `(outputs, inputs)`, True where there is a connection.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        # The architecture says what it is, so a checkpoint need not.
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, input: Tensor, outputs: slice = slice(None)) -> Tensor:
        """`(N, outputs)`, or some of them, for `(N, inputs)`."""
        return F.linear(input, (self.weight * self.mask)[outputs], self.bias[outputs])


class MaskedNetwork(nn.Module):
    """A network of `(N, dim)` with P outputs for each i, which depend on the inputs before i and on a context.

    Each unit has a degree, the last input that it sees: a hidden unit is connected to units of no greater degree, output i to those of
    degrees less than i.

    Args:
        dim: the number of inputs.
        outputs: P.
        hidden: the sizes of the hidden layers.
        activation: makes what stands between the layers.
        context: the number of further inputs, on which everything may depend.
    """

    def __init__(self, dim: int, outputs: int, hidden: Sequence[int], activation: Callable[[], nn.Module], context: int) -> None:
        super().__init__()
        self.outputs = outputs
        degrees = [torch.arange(1, dim + 1)]
        first = 0 if context else 1  # units that see the context alone
        for n in hidden:
            degrees.append(first + torch.arange(n) * max(1, dim - first) // n)
        masks = [after.unsqueeze(-1) >= before for before, after in pairwise(degrees)]
        masks.append(degrees[0].repeat_interleave(outputs).unsqueeze(-1) > degrees[-1])
        self.layers = nn.ModuleList([MaskedLinear(mask) for mask in masks])
        self.activations = nn.ModuleList([activation() for _ in hidden])
        self.context = nn.Linear(context, masks[0].shape[0], bias=False) if context else None

    def forward(self, x: Tensor, context: Tensor | None, i: int | None = None) -> Tensor:
        """`(N, dim, P)`, or for one i only `(N, 1, P)`."""
        wanted = slice(None) if i is None else slice(i * self.outputs, (i + 1) * self.outputs)
        h, last = x, len(self.layers) - 1
        for k, layer in enumerate(self.layers):
            rows = wanted if k == last else slice(None)
            h = layer(h, rows)
            if k == 0 and self.context is not None:
                if context is None:
                    raise KindError(f"A network with a context was called without it; give context, (N, {self.context.in_features}).")
                h = h + F.linear(context, self.context.weight[rows])
            if k < last:
                h = self.activations[k](h)
        return h.unflatten(-1, (-1, self.outputs))
