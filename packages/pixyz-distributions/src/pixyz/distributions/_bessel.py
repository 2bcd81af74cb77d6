"""The modified Bessel functions of a von Mises distribution, by their asymptotic series where differences of them would lose their digits.

$$T(\\kappa) = \\log\\left(\\sqrt{2\\pi\\kappa}\\,e^{-\\kappa} I_0(\\kappa)\\right)
= \\log\\left(1 + \\frac{1^2}{1!\\,8\\kappa} + \\frac{1^2\\,3^2}{2!\\,(8\\kappa)^2} + \\ldots\\right)$$

Source: https://dlmf.nist.gov/10.40.E1
"""

import torch
from torch import Tensor

from ._deviance import bregman, excess


def log_i0e(kappa: Tensor) -> Tensor:
    """log I₀(κ) - κ for κ > 0."""
    large = _series(kappa)[0]
    near = kappa.clamp_max(large)
    far = torch.log1p(_sums(kappa)[0]) - 0.5 * (2 * torch.pi * kappa.clamp_min(large)).log()
    return torch.where(kappa > large, far, torch.special.i0e(near).log())


def lost_length(kappa: Tensor) -> Tensor:
    """1 - I₁(κ)/I₀(κ) = 1/(2κ) - T'(κ), which falls from 1 to 0 as κ grows."""
    large = _series(kappa)[0]
    near = kappa.clamp_max(large)
    s, slope, _ = _sums(kappa)
    far = (0.5 + slope / (1 + s)) / kappa.clamp_min(large)
    return torch.where(kappa > large, far, 1 - torch.special.i1e(near) / torch.special.i0e(near))


def log_i0_divergence(kappa: Tensor, other: Tensor) -> Tensor:
    """What the logarithm of I₀ at `other` lies above its tangent at κ."""
    gap = other - kappa
    by_series = 0.5 * excess(gap / kappa, other / kappa) + torch.log1p(_sums(other)[0]) - torch.log1p(_sums(kappa)[0])
    by_series = by_series - gap * (0.5 / kappa - lost_length(kappa))
    exact = log_i0e(other) - log_i0e(kappa) + gap * lost_length(kappa)
    far = torch.where(torch.minimum(kappa, other) > _series(kappa)[0], by_series, exact)
    return bregman(_curvature, kappa, gap, gap.abs() < (kappa + 2) / 3, far)


def _curvature(kappa: Tensor) -> Tensor:
    """The second derivative of log I₀, 1 - I₁/(κ I₀) - (I₁/I₀)²."""
    large = _series(kappa)[0]
    s, slope, bend = _sums(kappa)
    far = (0.5 + (bend * (1 + s) - slope.square()) / (1 + s).square()) / kappa.clamp_min(large).square()
    near = kappa.clamp_max(large)
    lost = lost_length(near)
    return torch.where(kappa > large, far, lost * (2 - lost) - (1 - lost) / near)


def _sums(kappa: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """S = Σ a_k κ^-k, -κS' = Σ k a_k κ^-k and κ²S'' = Σ k(k+1) a_k κ^-k, over k > 0."""
    large, count = _series(kappa)
    inverse = 1 / kappa.clamp_min(large)
    coefficients = [1.0]
    for k in range(1, count + 1):
        coefficients.append(coefficients[-1] * (2 * k - 1) ** 2 / (8 * k))
    s = slope = bend = torch.zeros_like(inverse)
    for k in range(count, 0, -1):
        s = (s + coefficients[k]) * inverse
        slope = (slope + k * coefficients[k]) * inverse
        bend = (bend + k * (k + 1) * coefficients[k]) * inverse
    return s, slope, bend


def _series(kappa: Tensor) -> tuple[float, int]:
    """Beyond which κ the series has all digits with how many terms."""
    return (30.0, 20) if torch.finfo(kappa.dtype).eps < 1e-9 else (15.0, 10)
