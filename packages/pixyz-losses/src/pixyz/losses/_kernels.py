"""Kernels, as functions of two sets of vectors; and functions of the user's that stand in a formula."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pixyz.core import FormulaError, KindError, ShapeError, suggest, warn_of_networks

Kernel: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class Function(nn.Module):
    """A function of the user's, or a module, which is then registered and trained, under a text of its own.

    Args:
        function: what is called.
        text: how it is written.
    """

    def __init__(self, function: Callable[..., Any], text: str) -> None:
        super().__init__()
        self.leaf_text = text
        self.function = function

    def forward(self, *args: Any, **named: Any) -> Any:
        """What the function returns."""
        return self.function(*args, **named)


class RadialKernel:
    """A sum of kernels of the squared distance, one for each bandwidth."""

    def __init__(self, shape: Callable[[Tensor, float], Tensor], sigma_sqr: Sequence[float]) -> None:
        self.shape = shape
        self.sigma_sqr = tuple(sigma_sqr)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        square = distances(x, y).square()
        return torch.stack([self.shape(square, s) for s in self.sigma_sqr]).sum(0)


def gaussian(square: Tensor, sigma_sqr: float) -> Tensor:
    """exp(-d²/(2σ²))."""
    return (-0.5 / sigma_sqr * square).exp()


def inverse_multiquadric(square: Tensor, sigma_sqr: float) -> Tensor:
    """σ²/(σ² + d²)."""
    return sigma_sqr / (sigma_sqr + square)


KERNELS = {"gaussian": gaussian, "inverse_multiquadric": inverse_multiquadric}


def kernel_of(kernel: str | Kernel, sigma_sqr: float | Sequence[float], who: str) -> Kernel:
    """The kernel of this name and these bandwidths, or the user's own.

    Raises:
        FormulaError: for an unknown name, or bandwidths that are not positive.
        KindError: for what is neither a name nor a function.
    """
    if callable(kernel):
        warn_of_networks(kernel, who)
        return kernel
    if not isinstance(kernel, str):
        raise KindError(f"{who}: the kernel is a name, or a function of x (N, D) and y (M, D); got a {type(kernel).__name__}.")
    if kernel not in KERNELS:
        raise FormulaError(f"{who}: there is no kernel {kernel!r}; choose one of {', '.join(KERNELS)}.{suggest(kernel, KERNELS)}")
    bandwidths = [sigma_sqr] if isinstance(sigma_sqr, (int, float)) else list(sigma_sqr)
    if not bandwidths or not all([isinstance(s, (int, float)) and 0 < s < math.inf for s in bandwidths]):
        raise FormulaError(f"{who}: sigma_sqr is a positive number, or a list of them, whose kernels are added; got {sigma_sqr!r}.")
    return RadialKernel(KERNELS[kernel], bandwidths)


def distances(x: Tensor, y: Tensor) -> Tensor:
    """‖x-y‖ of all pairs, `(N, M)`; not through matrix products, which lose the digits of small ones."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def u_statistic(kernel: Kernel, x: Tensor, y: Tensor, who: object) -> Tensor:
    """E[k(x,x')] + E[k(y,y')] - 2E[k(x,y)], unbiased: no draw is compared with itself."""
    return _others(kernel, x, who) + _others(kernel, y, who) - 2 * _matrix(kernel, x, y, who).mean()


def _others(kernel: Kernel, x: Tensor, who: object) -> Tensor:
    k = _matrix(kernel, x, x, who)
    return (k.sum() - k.diagonal().sum()) / (x.shape[0] * (x.shape[0] - 1))


def _matrix(kernel: Kernel, x: Tensor, y: Tensor, who: object) -> Tensor:
    k = kernel(x, y)
    if k.shape != (x.shape[0], y.shape[0]):
        raise ShapeError(
            f"{who}: for x {tuple(x.shape)} and y {tuple(y.shape)} the kernel must return {(len(x), len(y))}; got {tuple(k.shape)}."
        )
    return k
