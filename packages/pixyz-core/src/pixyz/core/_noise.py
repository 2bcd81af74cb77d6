"""Noise that a compiled draw shares with the eager one, and that `torch.func.vmap` may batch."""

from collections.abc import Sequence

import torch
from torch import Tensor


def normal_noise(shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal numbers of this shape, of the dtype and on the device of `like`.

    Examples:
        >>> import torch
        >>> normal_noise((5, 3), torch.zeros(())).shape
        torch.Size([5, 3])
    """
    if torch.compiler.is_compiling():
        # The compiler leaves `normal_` to the generator of eager draws, and makes `randn` a generator of its own.
        return torch.empty(shape, dtype=like.dtype, device=like.device).normal_()
    return torch.randn(shape, dtype=like.dtype, device=like.device)


def uniform_noise(shape: Sequence[int], like: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) of this shape, of the dtype and on the device of `like`.

    Examples:
        >>> import torch
        >>> uniform_noise((5, 3), torch.zeros(())).shape
        torch.Size([5, 3])
    """
    if torch.compiler.is_compiling():
        return torch.empty(shape, dtype=like.dtype, device=like.device).uniform_()
    return torch.rand(shape, dtype=like.dtype, device=like.device)
