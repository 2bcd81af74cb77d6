"""Draws of categories, and their numbers as vectors."""

import math

import torch
from torch import Tensor

from pixyz.core import draw_indices


def draw_categories(probs: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Indices of this shape, from probabilities `(*own, K)` that broadcast to `(*shape, K)`.

    What several draws share is one table, from which all of them are drawn; it is not copied for each.
    """
    if 0 in shape:
        return torch.empty(shape, dtype=torch.int64, device=probs.device)
    own = (*[1] * (len(shape) + 1 - probs.ndim), *probs.shape[:-1])
    shared = [axis for axis, (n, size) in enumerate(zip(own, shape)) if n != size]
    order = [*[axis for axis in range(len(shape)) if axis not in shared], *shared]
    index = draw_indices(probs.reshape(-1, probs.shape[-1]), math.prod([shape[axis] for axis in shared]))
    return index.reshape([shape[axis] for axis in order]).permute([order.index(axis) for axis in range(len(shape))])


def unit_vector(index: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """1 at the index and 0 elsewhere, `(*index.shape, count)`. `F.one_hot` reads the index, to check it."""
    return (index.unsqueeze(-1) == torch.arange(count, device=index.device)).to(dtype)
