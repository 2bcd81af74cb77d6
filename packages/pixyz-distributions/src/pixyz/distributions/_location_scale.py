"""Families with a location and a scale, on the whole line."""

import math

import torch
import torch.distributions as td
from torch import Tensor

from ._deviance import excess, exp_excess, scale_divergence
from ._family import Family, Params, Shape
from ._from_torch import TorchFamily
from ._logs import not_exp, sigmoid
from ._slopes import exp_less, log_logistic, log_quotient
from ._special import HALF_LOG_TWO_PI, digamma_gap, log_gamma_above_tangent, stirling_error
from ._supports import positive, real
from ._symmetric import Symmetric

EULER = 0.5772156649015329
_LOG_2 = math.log(2)
_ENTROPY_ABOVE_NORMAL = (1.0, 1 / 4, -1 / 6, -1 / 8, 3 / 10, 1 / 4, -17 / 14, -17 / 16, 155 / 18)
"""Of Student's t over a normal's, as a series in 1/ν: the coefficients from ν^-1 on."""


class Laplace(Symmetric):
    r"""The Laplace distribution, independent over the features.

    $$\log p(x) = -\frac{|x-\mu|}{\sigma} - \log 2\sigma$$

    Args:
        loc: the mean μ, `(*features)` or rank 0.
        scale: the scale σ > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("loc", "scale"),)
    supports = {"loc": real, "scale": positive}
    value_support = real

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        loc, scale = params["loc"], params["scale"]
        return -_LOG_2 - scale.log() - (x - loc).abs() / scale  # the gradient of addcdiv squares the scale

    @staticmethod
    def rsample(params: Params, shape: Shape) -> Tensor:
        loc, scale = params["loc"], params["scale"]
        # Its sign is that of the draw, its size the probability of what lies nearer.
        u = torch.empty(shape, dtype=loc.dtype, device=loc.device).uniform_(torch.finfo(loc.dtype).eps - 1, 1)
        return torch.addcmul(loc, scale, u.abs().neg_().log1p_().copysign_(u))

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        z = (x - params["loc"]) / params["scale"]
        below = z < 0
        tail = 0.5 * torch.where(below, z, -z).exp()  # not of -|z|, whose gradient at 0 is 0
        return torch.where(below, tail, 1 - tail)

    @classmethod
    def between(cls, params: Params, lower: Tensor, upper: Tensor) -> Tensor:
        a, b = (lower - params["loc"]) / params["scale"], (upper - params["loc"]) / params["scale"]
        nearer = (-torch.minimum(a.abs(), b.abs())).exp() * torch.expm1((lower - upper) / params["scale"])
        return -0.5 * torch.where((a < 0) & (b > 0), torch.expm1(-a.abs()) + torch.expm1(-b.abs()), nearer)

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        below = u < 0.5
        tail = (2 * torch.where(below, u, 1 - u)).log()
        return params["loc"] + params["scale"] * torch.where(below, tail, -tail)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        s, t, distance = p["scale"], q["scale"], (p["loc"] - q["loc"]).abs()
        gap = (distance / s).detach()
        far, distinct = gap > 1, gap > 100
        near = scale_divergence(s, t) + s / t * exp_excess(-torch.where(far, 0.0, distance) / s)
        reach = s / t * (-torch.where(distinct, 0.0, distance) / s).exp().masked_fill(distinct, 0.0)
        return torch.where(far, distance / t - 1 - log_quotient(s, t) + reach, near)

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return 2 * params["scale"].square()

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return (1 + _LOG_2) + params["scale"].log()


class Cauchy(Symmetric):
    r"""The Cauchy distribution, independent over the features. It has no mean and no variance.

    $$\log p(x) = -\log \pi\sigma - \log\left(1 + \left(\frac{x-\mu}{\sigma}\right)^2\right)$$

    Args:
        loc: the median μ, `(*features)` or rank 0.
        scale: the scale σ > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("loc", "scale"),)
    supports = {"loc": real, "scale": positive}
    value_support = real

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        loc, scale = params["loc"], params["scale"]
        # In units of x: in units of the scale, what is far away overflows.
        return scale.log() - math.log(math.pi) - 2 * torch.hypot(scale, x - loc).log()

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        gap, scale = torch.broadcast_tensors(x - params["loc"], params["scale"])
        # The angle from the vertical, or from the nearer side, as the arctangent of a ratio that is at most 1.
        steep, below = gap.abs() < scale, gap < 0
        upright = 0.5 + torch.where(steep, gap / scale, 0.0).atan() / math.pi
        flat = (scale / torch.where(steep, scale, gap)).atan() / math.pi
        return torch.where(steep, upright, torch.where(below, -flat, 1 - flat))

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        middle, below = (u - 0.5).abs() < 0.25, u < 0.5
        tail = torch.where(below, u, 1 - u)
        far = 1 / torch.tan(math.pi * torch.where(middle, 0.25, tail))
        z = torch.where(middle, torch.tan(math.pi * torch.where(middle, u - 0.5, 0.0)), torch.where(below, -far, far))
        return params["loc"] + params["scale"] * z

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        s, t = p["scale"], q["scale"]
        gaps = s - t, p["loc"] - q["loc"]
        near = torch.maximum(*[(g / s).abs() * (g / t).abs() for g in gaps]).detach() < 1
        within = [torch.where(near, g, 0.0) for g in gaps]
        small = sum([0.25 * (g / s) * (g / t) for g in within], torch.zeros_like(within[0]))
        # Far from one another by the logarithm of the distance, without squares.
        distance = torch.hypot(s + t, gaps[1])
        far = 2 * distance.log() - math.log(4) - s.log() - t.log()
        return torch.where(near, torch.log1p(small), far)

    mean_of = staticmethod(Family.mean_of)  # there is none

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return math.log(4 * math.pi) + params["scale"].log()


class Logistic(Symmetric):
    r"""The logistic distribution, independent over the features.

    $$\log p(x) = -z - \log\sigma - 2\log(1 + e^{-z}), \qquad z = \frac{x-\mu}{\sigma}$$

    Args:
        loc: the mean μ, `(*features)` or rank 0.
        scale: the scale σ > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("loc", "scale"),)
    supports = {"loc": real, "scale": positive}
    value_support = real

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        return log_logistic((x - params["loc"]) / params["scale"]) - params["scale"].log()

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return sigmoid((x - params["loc"]) / params["scale"])

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return params["loc"] + params["scale"] * u.logit()

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return params["scale"].square() * (math.pi**2 / 3)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return params["scale"].log() + 2


class Gumbel(Family):
    r"""The Gumbel distribution (of the maximum), independent over the features.

    $$\log p(x) = -z - e^{-z} - \log\sigma, \qquad z = \frac{x-\mu}{\sigma}$$

    Args:
        loc: the mode μ, `(*features)` or rank 0.
        scale: the scale σ > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("loc", "scale"),)
    supports = {"loc": real, "scale": positive}
    value_support = real

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        return -exp_less((params["loc"] - x) / params["scale"]) - params["scale"].log()

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return (-(-(x - params["loc"]) / params["scale"]).exp()).exp()

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return params["loc"] - params["scale"] * (-u.log()).log()

    @staticmethod
    def sf(params: Params, x: Tensor) -> Tensor:
        return not_exp((-(x - params["loc"]) / params["scale"]).exp())

    @staticmethod
    def isf(params: Params, u: Tensor) -> Tensor:
        return params["loc"] - params["scale"] * (-torch.log1p(-u)).log()

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        ratio, change = p["scale"] / q["scale"], (p["scale"] - q["scale"]) / q["scale"]
        return gumbel_divergence(ratio, change, (p["loc"] - q["loc"]) / q["scale"])

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return params["loc"] + EULER * params["scale"]

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return params["loc"]

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return params["scale"].square() * (math.pi**2 / 6)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return params["scale"].log() + (EULER + 1)


def gumbel_divergence(ratio: Tensor, change: Tensor, shift: Tensor) -> Tensor:
    r"""KL of Gumbel distributions with scales of the ratio ρ = 1 + `change`, and locations `shift` apart in units of the right one's scale:

    $$e^L - 1 - L + \log\Gamma(\rho) + \gamma\,(\rho-1), \qquad L = \log\Gamma(1+\rho) - \text{shift}$$
    """
    one = torch.ones_like(change)
    rise = (1 - EULER) * change + log_gamma_above_tangent(2 * one, 1 + ratio, change) - shift
    return exp_excess(rise) + log_gamma_above_tangent(one, ratio, change)


class StudentT(TorchFamily):
    r"""Student's t distribution, independent over the features.

    $$\log p(x) = -\frac{\nu+1}{2}\log\left(1 + \frac{z^2}{\nu}\right) - \log\sigma - \tfrac{1}{2}\log\nu\pi
    + \log\Gamma\left(\tfrac{\nu+1}{2}\right) - \log\Gamma\left(\tfrac{\nu}{2}\right)$$

    Args:
        df: the degrees of freedom ν > 0, `(*features)` or rank 0.
        loc: the median μ.
        scale: the scale σ > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("df", "loc", "scale"),)
    supports = {"df": positive, "loc": real, "scale": positive}
    value_support = real
    torch_class = td.StudentT

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        df, scale, gap = params["df"], params["scale"], x - params["loc"]
        unit, log_scale = df.sqrt() * scale, scale.log()
        near = gap.detach().abs() < 0.5 * unit.detach()
        # (ν+1)/2 log(1 + z²/ν), in which z²/2 does not depend on ν.
        within = torch.where(near, gap, 0.0)  # what is far away overflows in units of the scale
        small = (within / unit).square()
        by_series = 0.5 * ((within / scale).square() - df * excess(small, 1 + small) + torch.log1p(small))
        length = torch.hypot(unit, gap)
        share = unit / length
        # Where ν is small, the derivative by σ is a small difference unless log σ stands in one place.
        apart = (share < 1e-3) | (df < 1)
        by_ratio = log_scale - (df + 1) * torch.where(apart, 1.0, share).log()
        far = torch.where(apart, (df + 1) * (length.log() - 0.5 * df.log()) - df * log_scale, by_ratio)
        return _log_norm(df) - HALF_LOG_TWO_PI - torch.where(near, log_scale + by_series, far)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return torch.where(params["df"] > 1, params["loc"], torch.nan)

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return params["loc"]

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        df = params["df"]
        variance = params["scale"] * (params["scale"] * (1 + 2 / torch.where(df > 2, df - 2, 1.0)))
        return torch.where(df > 2, variance, torch.where(df > 1, torch.inf, torch.nan))

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        df = params["df"]
        many = df > (30 if torch.finfo(df.dtype).eps > 1e-9 else 80)
        few = torch.where(many, 1.0, df)
        exact = (0.5 * few + 0.5) * digamma_gap(0.5 * few, 0.5) - _log_norm(few) - 0.5
        # What it lies above a normal's: its derivative falls as 1/ν², and that of both terms as 1/ν.
        inverse = 1 / torch.where(many, df, 1e3)
        series = torch.zeros_like(inverse)
        for c in reversed(_ENTROPY_ABOVE_NORMAL):
            series = (series + c) * inverse
        return torch.where(many, series, exact) + (HALF_LOG_TWO_PI + 0.5) + params["scale"].log()


def _log_norm(df: Tensor) -> Tensor:
    """log of √(2/ν) Γ((ν+1)/2) / Γ(ν/2), which falls to 0 as 1/4ν."""
    half = 0.5 * df
    return stirling_error(half + 0.5) - stirling_error(half) - half * excess(1 / df, 1 + 1 / df)
