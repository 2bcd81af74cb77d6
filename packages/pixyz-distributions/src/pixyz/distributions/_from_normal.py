"""Families whose values are functions of a normal one: e^x and |x|."""

import math

import torch
from torch import Tensor

from ._deviance import normal_divergence
from ._family import Family, Params, Shape
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
    renyi = staticmethod(Normal.renyi)  # as kl, it does not change where x is transformed

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return (params["loc"] + 0.5 * params["scale"].square()).exp()

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return (params["loc"] - params["scale"].square()).exp()

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        square = params["scale"].square()
        height = (params["loc"] + square).exp()
        return height * (height * -torch.expm1(-square))

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
        return normal_divergence(p["scale"], q["scale"], torch.zeros_like(q["scale"]))

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
