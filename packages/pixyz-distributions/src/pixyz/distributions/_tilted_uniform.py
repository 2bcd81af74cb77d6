r"""The density $\eta e^{\eta x} / (e^\eta - 1)$ on [0, 1], with all digits at every η.

The closed forms are differences that vanish at η = 0, in value or in slope. Near it, with $h = \eta/2$, they are written with

$$\log\frac{\sinh h}{h} = \log\left(1 + \frac{h^2}{2\cdot3}\left(1 + \frac{h^2}{4\cdot5}(1 + \ldots)\right)\right),
\qquad \coth h - \frac1h = \frac{h}{3 + \frac{h^2}{5 + \ldots}}$$

Source:
    https://dlmf.nist.gov/4.33.E1 and https://dlmf.nist.gov/4.39.E1
"""

import torch
from torch import Tensor

from ._logs import not_exp


def log_normaliser(eta: Tensor) -> Tensor:
    """log of η/(e^η - 1)."""
    near, (small, far) = _split(eta, 2.0)
    size = far.abs()
    exact = (size / -torch.expm1(-size)).log() - torch.where(eta > 0, size, torch.zeros_like(size))
    return torch.where(near, -small / 2 - _log_sinhc(small / 2), exact)


def mean(eta: Tensor) -> Tensor:
    """1/(1 - e^-η) - 1/η."""
    near, (small, far) = _split(eta, 2.0)
    size = far.abs()
    ratio = torch.where(eta > 0, torch.ones_like(size), -(-size).exp()) / -torch.expm1(-size)
    return torch.where(near, 0.5 + 0.25 * small * _fraction(small), ratio - 1 / far)


def variance(eta: Tensor) -> Tensor:
    """1/η² - 1/(4 sinh²(η/2))."""
    near, (small, far) = _split(eta, 2.0)
    size, fraction = far.abs(), _fraction(small)
    exact = 1 / size.square() - (-size).exp() / torch.expm1(-size).square()
    return torch.where(near, 0.25 * (1 - 0.25 * (small * fraction).square() - 2 * fraction), exact)


def cdf(eta: Tensor, x: Tensor) -> Tensor:
    """(e^ηx - 1)/(e^η - 1)."""
    near, (small, _) = _split(eta, 1.0)
    above, below = eta.clamp_min(1), eta.clamp_max(-1)  # each form where it does not overflow
    of_above = ((x - 1) * above).exp() * not_exp(above * x) / not_exp(above)
    far = torch.where(eta > 0, of_above, not_exp(-below * x) / not_exp(-below))
    tilt = (x - 1) * small / 2 + _log_sinhc(small * x / 2) - _log_sinhc(small / 2)
    return torch.where(near, x * tilt.exp(), far)


def icdf(eta: Tensor, u: Tensor) -> Tensor:
    """log(1 + u(e^η - 1))/η."""
    near, (small, far) = _split(eta, 0.25)
    above, below = far.clamp_min(0.25), far.clamp_max(-0.25)
    log_share = u.log() + above + (-torch.expm1(-above)).log()  # of u(e^η - 1)
    low = log_share < 0
    of_above = torch.where(
        low, torch.log1p(torch.where(low, log_share, 0.0).exp()) / above, 1 + torch.log(u + (1 - u) * (-above).exp()) / above
    )
    of_below = torch.log1p(u * torch.expm1(below)) / below
    share = u * torch.expm1(small)
    v = share / (2 + share)  # log(1 + share) = 2 artanh v
    series = torch.zeros_like(v)
    for n in range(19, 0, -2):
        series = 1 / n + v.square() * series
    near_zero = u * (small / 2 + _log_sinhc(small / 2)).exp() * (1 - v) * series
    return torch.where(near, near_zero, torch.where(eta > 0, of_above, of_below))


def _split(eta: Tensor, limit: float) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Where η is nearer to 0 than the limit; η there and 0 elsewhere; η elsewhere and the limit there."""
    near = eta.abs() < limit
    return near, (torch.where(near, eta, 0.0), torch.where(near, limit, eta))


def _log_sinhc(h: Tensor) -> Tensor:
    """log(sinh(h)/h) for |h| ≤ 1."""
    square = h.square()
    series = torch.zeros_like(h)
    for n in range(18, 0, -2):
        series = square / (n * (n + 1)) * (1 + series)
    return torch.log1p(series)


def _fraction(eta: Tensor) -> Tensor:
    """(coth h - 1/h)/h at h = η/2, for |h| ≤ 1."""
    square = (0.5 * eta).square()
    fraction = torch.full_like(eta, 19.0)
    for n in range(17, 1, -2):
        fraction = n + square / fraction
    return 1 / fraction
