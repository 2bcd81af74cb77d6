"""Families whose values are functions of an exponential one: a power of it, and e^x."""

import torch
from torch import Tensor

from ._deviance import excess, log_ratio
from ._family import Family, Params
from ._location_scale import EULER, gumbel_divergence
from ._logs import not_exp
from ._rounding import positive_number
from ._slopes import exp_less, log_quotient
from ._special import log_gamma_bend
from ._supports import non_negative, positive


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
    value_support = non_negative
    rims = {0.0: lambda params: params["concentration"] - 1}

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        k, scale = params["concentration"], params["scale"]
        log_z = log_quotient(x, scale)
        power = k * log_z
        # Where k is small, the derivative by λ is a small difference unless log λ stands in one place.
        return k.log() + torch.where(k < 0.5, -exp_less(power) - x.log(), (k - 1) * log_z - scale.log() - power.exp())

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return not_exp((x / params["scale"]) ** params["concentration"])

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
        k, m = p["concentration"], q["concentration"]
        # -log x is Gumbel, with the scale 1/k.
        return gumbel_divergence(m / k, (m - k) / k, -m * log_ratio(p["scale"], q["scale"]))

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return params["scale"] * torch.lgamma(1 + 1 / params["concentration"]).exp()

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        k = params["concentration"]
        peaked = torch.where(k > 1, k, 2.0)
        return params["scale"] * torch.where(k > 1, (torch.log1p(-1 / peaked) / peaked).exp(), 0.0)

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        inverse = 1 / params["concentration"]
        # By the ratio of E[x²] and (E x)².
        bend = log_gamma_bend(torch.ones_like(inverse), inverse)
        root = params["scale"] * (torch.lgamma(1 + inverse) + 0.5 * bend).exp()
        return root * (root * -torch.expm1(-bend))

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        k = params["concentration"]
        return EULER * (1 - 1 / k) + params["scale"].log() - k.log() + 1


class Pareto(Family):
    r"""The Pareto distribution, independent over the features; below its scale a value is impossible.

    $$\log p(x) = \log\alpha + \alpha\log m - (\alpha+1)\log x, \qquad x \ge m$$

    Args:
        scale: the least value m > 0, `(*features)` or rank 0.
        alpha: the tail index α > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("scale", "alpha"),)
    ends = ("scale",)
    supports = {"scale": positive, "alpha": positive}
    value_support = positive

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        scale, alpha = params["scale"], params["alpha"]
        log_density = alpha.log() + alpha * log_quotient(scale, x) - x.log()
        return torch.where(x >= scale, log_density, -torch.inf)

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        above = torch.maximum(x, params["scale"])
        return torch.where(x >= params["scale"], not_exp(params["alpha"] * log_ratio(above, params["scale"])), 0.0)

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
        higher = q["alpha"] * log_ratio(p["scale"], q["scale"])
        return torch.where(higher >= 0, excess((q["alpha"] - p["alpha"]) / p["alpha"], q["alpha"] / p["alpha"]) + higher, torch.inf)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        alpha = params["alpha"]
        return torch.where(alpha > 1, params["scale"] * (1 + 1 / torch.where(alpha > 1, alpha - 1, 1.0)), torch.inf)

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return params["scale"]

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        alpha = params["alpha"]
        known = torch.where(alpha > 2, alpha, 3.0)
        beyond = params["scale"] / (known - 1)
        return torch.where(alpha > 2, beyond * (beyond * (1 + 2 / (known - 2))), torch.inf)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return params["scale"].log() - params["alpha"].log() + 1 / params["alpha"] + 1
