"""Draws that have rounded to where there is no density, as the nearest number that has not."""

import torch
from torch import Tensor


def positive_number(x: Tensor) -> Tensor:
    """What has underflowed to 0, or overflowed, as the least or greatest number."""
    limits = torch.finfo(x.dtype)
    return x.clamp(limits.tiny, limits.max)


def between_zero_and_one(x: Tensor) -> Tensor:
    """What has rounded to 0 or 1, as the nearest number that has not."""
    limits = torch.finfo(x.dtype)
    return x.clamp(limits.tiny, 1 - limits.eps / 2)
