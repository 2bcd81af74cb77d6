"""Special functions where differences of them would lose their digits."""

import torch
from torch import Tensor


def log_gamma_ratio(a: Tensor, b: Tensor | float) -> Tensor:
    r"""log Γ(a+b) - log Γ(a) for a > 0 and b ≥ 0, precise however large a is, where it is

    $$\left(a+b-\tfrac{1}{2}\right)\log\left(1+\tfrac{b}{a}\right) + b\,(\log a - 1) - \frac{b}{12a(a+b)} + O(a^{-3})$$

    Source:
        The difference of two of Stirling's series, https://dlmf.nist.gov/5.11.E1
    """
    limit = _large(a)
    large, small = a.clamp_min(limit), a.clamp_max(limit)
    total, share = large + b, b / large
    series = torch.addcmul(b * (large.log() - 1), total - 0.5, torch.log1p(share)).addcdiv(share, total, value=-1 / 12)
    return torch.where(a > limit, series, torch.lgamma(small + b) - torch.lgamma(small))


def half_digamma_gap(a: Tensor) -> Tensor:
    r"""ψ(a+½) - ψ(a) for a > 0, precise however large a is, where it is

    $$\frac{1}{2a} + \frac{1}{8a^2} + O(a^{-4})$$
    """
    limit = _large(a)
    large, small = a.clamp_min(limit), a.clamp_max(limit)
    return torch.where(a > limit, (0.5 + 0.125 / large) / large, torch.digamma(small + 0.5) - torch.digamma(small))


def _large(a: Tensor) -> float:
    """Where the term that Stirling's series leaves out, 1/360a³, is as small as the rounding of log Γ(a)."""
    return (1000 * torch.finfo(a.dtype).eps) ** -0.25
