"""Families on the positive half of the line."""

import math

import torch
import torch.distributions as td
from torch import Tensor

from ._family import Family, Params, Shape
from ._from_torch import TorchFamily
from ._location_scale import EULER
from ._normal import Normal
from ._rounding import positive_number
from ._supports import non_negative, positive, real

_HALF_LOG_HALF_PI = 0.5 * math.log(math.pi / 2)


class LogNormal(Family):
    r"""The log-normal distribution: log x is normal; independent over the features.

    $$\log p(x) = \log\mathcal{N}(\log x; \mu, \sigma) - \log x$$

    Args:
        loc: the mean μ of log x, `(*features)` or rank 0.
        scale: the standard deviation σ > 0 of log x.

    The other arguments are those of every family.
    """

    parametrisations = (("loc", "scale"),)
    supports = {"loc": real, "scale": positive}
    value_support = positive

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        log_x = x.log()
        return Normal.log_density(params, log_x) - log_x

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return Normal.cdf(params, x.log())

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return Normal.icdf(params, u).exp()

    @staticmethod
    def sf(params: Params, x: Tensor) -> Tensor:
        return Normal.sf(params, x.log())

    @staticmethod
    def isf(params: Params, u: Tensor) -> Tensor:
        return Normal.isf(params, u).exp()

    @staticmethod
    def rsample(params: Params, shape: Shape) -> Tensor:
        return positive_number(Normal.rsample(params, shape).exp())

    kl = staticmethod(Normal.kl)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return (params["loc"] + 0.5 * params["scale"].square()).exp()

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return (params["loc"] - params["scale"].square()).exp()

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        square = params["scale"].square()
        return torch.expm1(square) * (2 * params["loc"] + square).exp()

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return Normal.entropy_of(params) + params["loc"]


class HalfNormal(Family):
    r"""The half-normal distribution, |x| of a normal with mean 0; independent over the features.

    $$\log p(x) = -\tfrac{1}{2}\left(\frac{x}{\sigma}\right)^2 - \log\sigma - \tfrac{1}{2}\log\frac{\pi}{2}$$

    Args:
        scale: the standard deviation σ > 0 of the normal, `(*features)` or rank 0.

    The other arguments are those of every family.
    """

    parametrisations = (("scale",),)
    supports = {"scale": positive}
    value_support = non_negative

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        scale = params["scale"]
        return -0.5 * (x / scale).square() - scale.log() - _HALF_LOG_HALF_PI

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return torch.erf(x / (params["scale"] * math.sqrt(2)))

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return params["scale"] * math.sqrt(2) * torch.erfinv(u)

    @staticmethod
    def sf(params: Params, x: Tensor) -> Tensor:
        return torch.erfc(x / (params["scale"] * math.sqrt(2)))

    @staticmethod
    def isf(params: Params, u: Tensor) -> Tensor:
        return -params["scale"] * torch.special.ndtri(u / 2)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        ratio = p["scale"] / q["scale"]
        return 0.5 * (ratio.square() - 1) - ratio.log()

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return params["scale"] * math.sqrt(2 / math.pi)

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return torch.zeros_like(params["scale"])

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return params["scale"].square() * (1 - 2 / math.pi)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return params["scale"].log() + _HALF_LOG_HALF_PI + 0.5


class Exponential(Family):
    r"""The exponential distribution, independent over the features.

    $$\log p(x) = \log\lambda - \lambda x$$

    Args:
        rate: λ > 0, `(*features)` or rank 0.
        scale: 1/λ, instead.

    The other arguments are those of every family.
    """

    parametrisations = (("rate",), ("scale",))
    supports = {"rate": positive, "scale": positive}
    value_support = non_negative

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        rate = _rate(params)
        return rate.log() - rate * x

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return -torch.expm1(-_rate(params) * x)

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return -torch.log1p(-u) / _rate(params)

    @staticmethod
    def sf(params: Params, x: Tensor) -> Tensor:
        return (-_rate(params) * x).exp()

    @staticmethod
    def isf(params: Params, u: Tensor) -> Tensor:
        return -u.log() / _rate(params)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        ratio = _rate(q) / _rate(p)
        return ratio - 1 - ratio.log()

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return 1 / _rate(params)

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return torch.zeros_like(_rate(params))

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return 1 / _rate(params).square()

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return 1 - _rate(params).log()


class Gamma(TorchFamily):
    r"""The gamma distribution, independent over the features.

    $$\log p(x) = \alpha\log\beta + (\alpha-1)\log x - \beta x - \log\Gamma(\alpha)$$

    Args:
        concentration: the shape α > 0, `(*features)` or rank 0.
        rate: β > 0.
        scale: 1/β, instead of the rate.

    The other arguments are those of every family.
    """

    parametrisations = (("concentration", "rate"), ("concentration", "scale"))
    supports = {"concentration": positive, "rate": positive, "scale": positive}
    value_support = positive
    torch_class = td.Gamma

    @staticmethod
    def arguments(params: Params) -> Params:
        return {"concentration": params["concentration"], "rate": _rate(params)}

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        concentration, rate = params["concentration"], _rate(params)
        return concentration * rate.log() + (concentration - 1) * x.log() - rate * x - torch.lgamma(concentration)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        a, b, log_ratio = p["concentration"], q["concentration"], (_rate(p) / _rate(q)).log()
        gammas = torch.lgamma(b) - torch.lgamma(a) + (a - b) * torch.digamma(a)
        return b * log_ratio + gammas + a * (_rate(q) / _rate(p) - 1)


class InverseGamma(TorchFamily):
    r"""The inverse gamma distribution: 1/x is gamma; independent over the features.

    $$\log p(x) = \alpha\log\beta - (\alpha+1)\log x - \frac{\beta}{x} - \log\Gamma(\alpha)$$

    Args:
        concentration: the shape α > 0, `(*features)` or rank 0.
        rate: β > 0, the rate of 1/x.

    The other arguments are those of every family.
    """

    parametrisations = (("concentration", "rate"),)
    supports = {"concentration": positive, "rate": positive}
    value_support = positive
    torch_class = td.InverseGamma

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        concentration, rate = params["concentration"], params["rate"]
        return concentration * rate.log() - (concentration + 1) * x.log() - rate / x - torch.lgamma(concentration)

    kl = staticmethod(Gamma.kl)


class Weibull(Family):
    r"""The Weibull distribution, independent over the features.

    $$\log p(x) = \log\frac{k}{\lambda} + (k-1)\log\frac{x}{\lambda} - \left(\frac{x}{\lambda}\right)^k$$

    Args:
        scale: λ > 0, `(*features)` or rank 0.
        concentration: the shape k > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("scale", "concentration"),)
    supports = {"scale": positive, "concentration": positive}
    value_support = positive

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        k, log_z = params["concentration"], (x / params["scale"]).log()
        return (k / params["scale"]).log() + (k - 1) * log_z - (k * log_z).exp()

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return -torch.expm1(-((x / params["scale"]) ** params["concentration"]))

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return positive_number(params["scale"] * (-torch.log1p(-u)) ** (1 / params["concentration"]))

    @staticmethod
    def sf(params: Params, x: Tensor) -> Tensor:
        return (-((x / params["scale"]) ** params["concentration"])).exp()

    @staticmethod
    def isf(params: Params, u: Tensor) -> Tensor:
        return positive_number(params["scale"] * (-u.log()) ** (1 / params["concentration"]))

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        k, m, log_ratio = p["concentration"], q["concentration"], (p["scale"] / q["scale"]).log()
        return (k / m).log() - EULER - m * log_ratio + EULER * m / k - 1 + (m * log_ratio + torch.lgamma(1 + m / k)).exp()

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return params["scale"] * torch.lgamma(1 + 1 / params["concentration"]).exp()

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        k = params["concentration"]
        return params["scale"] * ((k - 1).clamp_min(0) / k) ** (1 / k)

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        inverse = 1 / params["concentration"]
        return params["scale"].square() * (torch.lgamma(1 + 2 * inverse).exp() - torch.lgamma(1 + inverse).exp().square())

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        k = params["concentration"]
        return EULER * (1 - 1 / k) + (params["scale"] / k).log() + 1


class Pareto(Family):
    r"""The Pareto distribution, independent over the features; below its scale a value is impossible.

    $$\log p(x) = \log\alpha + \alpha\log m - (\alpha+1)\log x, \qquad x \ge m$$

    Args:
        scale: the least value m > 0, `(*features)` or rank 0.
        alpha: the tail index α > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("scale", "alpha"),)
    supports = {"scale": positive, "alpha": positive}
    value_support = positive

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        scale, alpha = params["scale"], params["alpha"]
        log_density = alpha.log() + alpha * (scale / x).log() - x.log()
        return torch.where(x >= scale, log_density, -torch.inf)

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return torch.where(x >= params["scale"], -torch.expm1(params["alpha"] * (params["scale"] / x).log()), 0.0)

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return positive_number(params["scale"] * (-torch.log1p(-u) / params["alpha"]).exp())

    @staticmethod
    def sf(params: Params, x: Tensor) -> Tensor:
        return torch.where(x >= params["scale"], (params["alpha"] * (params["scale"] / x).log()).exp(), 1.0)

    @staticmethod
    def isf(params: Params, u: Tensor) -> Tensor:
        return positive_number(params["scale"] * (-u.log() / params["alpha"]).exp())

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        ratio, log_ratio = q["alpha"] / p["alpha"], (p["scale"] / q["scale"]).log()
        return torch.where(log_ratio >= 0, ratio - 1 - ratio.log() + q["alpha"] * log_ratio, torch.inf)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        alpha = params["alpha"]
        return torch.where(alpha > 1, params["scale"] * alpha / (alpha - 1), torch.inf)

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return params["scale"]

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        alpha = params["alpha"]
        return torch.where(alpha > 2, params["scale"].square() * alpha / ((alpha - 1).square() * (alpha - 2)), torch.inf)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return (params["scale"] / params["alpha"]).log() + 1 / params["alpha"] + 1


def _rate(params: Params) -> Tensor:
    return params["rate"] if "rate" in params else 1 / params["scale"]
