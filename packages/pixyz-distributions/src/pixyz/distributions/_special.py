"""The gamma function where differences of its logarithms would lose their digits.

Everything is written with what Stirling's formula leaves out,

$$\\delta(x) = \\log\\Gamma(x) - \\left(x - \\tfrac12\\right)\\log x + x - \\tfrac12\\log 2\\pi
= \\frac{1}{12x} - \\frac{1}{360x^3} + \\frac{1}{1260x^5} - \\ldots$$

whose large terms have been cancelled by hand: https://dlmf.nist.gov/5.11.E1
"""

import math

import torch
from torch import Tensor

from ._deviance import bregman, deviance, excess

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)


def stirling_error(x: Tensor) -> Tensor:
    """δ(x) for x > 0."""
    limit, coefficients = _series(x.dtype)
    large, small = x.clamp_min(limit), x.clamp_max(limit)
    by_gamma = torch.lgamma(small + 1) - (small + 0.5) * small.log() + (small - HALF_LOG_TWO_PI)
    inverse = 1 / large
    return torch.where(x > limit, inverse * _horner(coefficients, inverse.square()), by_gamma)


def digamma(x: Tensor) -> Tensor:
    r"""ψ(x) for x > 0, whose slope has as many digits as itself; that of `torch.digamma` has nine.

    $$\psi(x) = \psi(x+n) - \sum_{k=0}^{n-1} \frac{1}{x+k}$$
    """
    if x.dtype != torch.float64:
        return torch.digamma(x)
    limit, coefficients = _series(x.dtype)
    steps = torch.arange(math.ceil(limit) + 1, dtype=x.dtype, device=x.device)
    far = x + len(steps)
    return far.log() - 0.5 / far + _slope_by_series(far, coefficients) - (x.unsqueeze(-1) + steps).reciprocal().sum(-1)


def stirling_slope(x: Tensor) -> Tensor:
    """δ'(x) = ψ(x) - log x + 1/(2x) for x > 0."""
    limit, coefficients = _series(x.dtype)
    large, small = x.clamp_min(limit), x.clamp_max(limit)
    return torch.where(x > limit, _slope_by_series(large, coefficients), digamma(small + 1) - small.log() - 0.5 / small)


def log_factorial_excess(x: Tensor) -> Tensor:
    """log x! - x log x + x = δ(x) + ½ log 2πx for x ≥ 0, which is 0 at 0."""
    limit, coefficients = _series(x.dtype)
    large, small = x.clamp_min(limit), x.clamp_max(limit)
    inverse = 1 / large
    by_series = torch.addcmul(HALF_LOG_TWO_PI + 0.5 * large.log(), inverse, _horner(coefficients, inverse.square()))
    return torch.where(x > limit, by_series, torch.lgamma(small + 1) - small * torch.where(x == 0, 1.0, small).log() + small)


def log_gamma_ratio(a: Tensor, b: Tensor | float) -> Tensor:
    r"""log Γ(a+b) - log Γ(a) for a > 0 and b ≥ 0, precise however large they are:

    $$b\log(a+b) - a\left(\tfrac{b}{a} - \log\left(1 + \tfrac{b}{a}\right)\right) - \tfrac12\log\left(1 + \tfrac{b}{a}\right)
    + \delta(a+b) - \delta(a)$$
    """
    b = b.to(a) if isinstance(b, Tensor) else a.new_full((), b)
    total = a + b
    return b * total.log() - deviance(a, total, -b) - 0.5 * torch.log1p(b / a) + stirling_error(total) - stirling_error(a)


def digamma_gap(a: Tensor, b: Tensor | float) -> Tensor:
    r"""ψ(a+b) - ψ(a) for a > 0 and b ≥ 0, precise however large a is:

    $$\log\left(1 + \tfrac{b}{a}\right) + \frac{b}{2a(a+b)} + \delta'(a+b) - \delta'(a)$$
    """
    share = b / a
    return torch.log1p(share) + 0.5 * share / (a + b) + stirling_slope(a + b) - stirling_slope(a)


def log_gamma_divergence(a: Tensor, b: Tensor, gap: Tensor) -> Tensor:
    r"""What Λ(x) = log Γ(x) - x log x + x lies at b above its tangent at a, without the divergence of x log x, which is a `deviance`:

    $$\Lambda(b) - \Lambda(a) - (b-a)\Lambda'(a) = \tfrac12\left(\tfrac{b}{a} - 1 - \log\tfrac{b}{a}\right)
    + \delta(b) - \delta(a) - (b-a)\,\delta'(a) \ge 0$$

    Args:
        a: where the tangent is, positive.
        b: positive.
        gap: b - a.
    """
    at_a, at_b = stirling_error(torch.stack(torch.broadcast_tensors(a, b))).unbind()
    far = 0.5 * excess(gap / a, b / a) + at_b - at_a - gap * stirling_slope(a)
    return bregman(_curvature, a, gap, gap.abs() < a / 3, far)


def gamma_entropy(x: Tensor) -> Tensor:
    r"""log Γ(x) + x - xψ(x), which is ½ log 2π/x + ½ + δ(x) - xδ'(x): the entropy of a gamma distribution of the rate 1 without ψ(x)."""
    return HALF_LOG_TWO_PI + 0.5 - 0.5 * x.log() + stirling_error(x) - x * stirling_slope(x)


def log_gamma_bend(a: Tensor, step: Tensor) -> Tensor:
    """log Γ(a) - 2 log Γ(a + step) + log Γ(a + 2 step) for positive numbers, to all digits for small steps."""
    middle = a + step
    return sum([log_gamma_above_tangent(middle, middle + gap, gap) for gap in (-step, step)], torch.zeros_like(middle))


def log_gamma_above_tangent(a: Tensor, b: Tensor, gap: Tensor) -> Tensor:
    """What log Γ(b), with b = a + gap, lies above the tangent of log Γ at a."""
    return deviance(b, a, gap) + log_gamma_divergence(a, b, gap)


def _curvature(x: Tensor) -> Tensor:
    """The second derivative of log Γ(x) - x log x + x, ψ'(x) - 1/x = 1/(2x²) + δ''(x)."""
    limit, coefficients = _series(x.dtype)
    inverse, small = 1 / x.clamp_min(limit), x.clamp_max(limit)
    bends = [2 * n * (2 * n - 1) * c for n, c in enumerate(coefficients, 1)]
    by_series = inverse.square() * (0.5 + inverse * _horner(bends, inverse.square()))
    return torch.where(x > limit, by_series, torch.special.zeta(torch.full_like(small, 2), small) - 1 / small)


def log_multinomial(counts: Tensor, total: Tensor, probs: Tensor, gaps: Tensor, log_probs: Tensor | None = None) -> Tensor:
    r"""log of N!/∏x! ∏π^x over the last dim, for x ≥ 0 that need not be whole, with sum N:

    $$\log\frac{N!\,e^N}{N^N} - \sum_k\left(\log\frac{x_k!\,e^{x_k}}{x_k^{x_k}} + x_k\log\frac{x_k}{N\pi_k} - x_k + N\pi_k\right)$$

    Probabilities whose sum is 1 but for rounding count as if it were 1.

    Args:
        counts: x, `(..., K)`.
        total: N, `(...)`.
        probs: π, `(..., K)`.
        gaps: x - Nπ, to as many digits as are known.
        log_probs: log π, where it may be 0 or have underflowed.
    """
    scale = torch.where(total == 0, 1.0, total).unsqueeze(-1)  # of 0 counts nothing is lost, but there is a derivative
    lost = deviance(counts, scale * probs, gaps, None if log_probs is None else scale.log() + log_probs)
    # Where all counts but one are 0, both factorials are the same, and what is left may be small beside them.
    return log_factorial_excess(total) - log_factorial_excess(counts).sum(-1) - lost.sum(-1)


def log_binomial(
    a: Tensor, b: Tensor, total: Tensor, p: Tensor, q: Tensor, tilt: Tensor, logs: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """log of (a+b)!/(a! b!) p^a q^b for a, b ≥ 0 that need not be whole.

    Args:
        a: that of p.
        b: that of q.
        total: a + b.
        p: a probability.
        q: 1 - p.
        tilt: p - 1/2, to as many digits as are known.
        logs: log p and log q, where p and q may be 0.
    """
    a, b, p, q = torch.broadcast_tensors(a, b, p, q)
    # x - Nπ is a q - b p, of the two products the smaller numbers; where they are nearly equal, so are a and b.
    gap = torch.where(tilt.abs() < 0.25, 0.5 * (a - b) - (a + b) * tilt, a * q - b * p)
    log_probs = None if logs is None else torch.stack(torch.broadcast_tensors(*logs), -1)
    return log_multinomial(torch.stack([a, b], -1), total, torch.stack([p, q], -1), torch.stack([gap, -gap], -1), log_probs)


def _series(dtype: torch.dtype) -> tuple[float, tuple[float, ...]]:
    """Beyond which x the series has all digits, and its coefficients; the first that is left out is the error."""
    eps = torch.finfo(dtype).eps
    count = 5 if eps < 1e-9 else 3
    return (2 * abs(_STIRLING[count]) / eps) ** (1 / (2 * count + 1)), _STIRLING[:count]


def _slope_by_series(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """δ'(x) beyond the limit of the series."""
    square = (1 / x).square()
    return square * _horner([(1 - 2 * n) * c for n, c in enumerate(coefficients, 1)], square)


def _horner(coefficients: tuple[float, ...] | list[float], x: Tensor) -> Tensor:
    """The polynomial with these coefficients, that of the lowest power first."""
    total = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total
