"""Families on an interval."""

import torch
import torch.distributions as td
from torch import Tensor

from . import _tilted_uniform as tilted
from ._family import Family, Params, Shape
from ._from_torch import TorchFamily
from ._location_scale import EULER
from ._logs import logits_of
from ._rounding import between_zero_and_one
from ._supports import open_interval, positive, real, unit_interval


class Uniform(Family):
    r"""The uniform distribution, independent over the features; outside of its bounds a value is impossible.

    $$\log p(x) = -\log(b - a), \qquad a \le x \le b$$

    Args:
        low: the lower bound a, `(*features)` or rank 0.
        high: the upper bound b > a.

    The other arguments are those of every family.
    """

    parametrisations = (("low", "high"),)
    supports = {"low": real, "high": real}
    value_support = real
    relations = (("low < high", lambda params: params["low"] < params["high"]),)

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        low, high = params["low"], params["high"]
        return torch.where((x >= low) & (x <= high), -(high - low).log(), -torch.inf)

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        low, high = params["low"], params["high"]
        return ((x - low) / (high - low)).clamp(0, 1)

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        low, high = params["low"], params["high"]
        return low + u * (high - low)

    @staticmethod
    def rsample(params: Params, shape: Shape) -> Tensor:
        low, high = params["low"], params["high"]
        return torch.addcmul(low, high - low, torch.empty(shape, dtype=low.dtype, device=low.device).uniform_())

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        log_ratio = (q["high"] - q["low"]).log() - (p["high"] - p["low"]).log()
        return torch.where((p["low"] >= q["low"]) & (p["high"] <= q["high"]), log_ratio, torch.inf)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return 0.5 * (params["low"] + params["high"])

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return (params["high"] - params["low"]).square() / 12

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return (params["high"] - params["low"]).log()


class Beta(TorchFamily):
    r"""The beta distribution, independent over the features.

    $$\log p(x) = (\alpha-1)\log x + (\beta-1)\log(1-x) - \log\mathrm{B}(\alpha,\beta)$$

    Args:
        concentration1: α > 0, `(*features)` or rank 0.
        concentration0: β > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("concentration1", "concentration0"),)
    supports = {"concentration1": positive, "concentration0": positive}
    value_support = unit_interval
    rims = {0.0: lambda params: params["concentration1"] - 1, 1.0: lambda params: params["concentration0"] - 1}
    torch_class = td.Beta

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        a, b = params["concentration1"], params["concentration0"]
        return (a - 1) * x.log() + (b - 1) * torch.log1p(-x) - _log_beta(a, b)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        a, b, c, d = p["concentration1"], p["concentration0"], q["concentration1"], q["concentration0"]
        gammas = (a - c) * torch.digamma(a) + (b - d) * torch.digamma(b) + (c + d - a - b) * torch.digamma(a + b)
        return _log_beta(c, d) - _log_beta(a, b) + gammas


class Kumaraswamy(Family):
    r"""The Kumaraswamy distribution, independent over the features: like a beta distribution, with quantiles in closed form.

    $$\log p(x) = \log ab + (a-1)\log x + (b-1)\log(1-x^a)$$

    Args:
        concentration1: a > 0, `(*features)` or rank 0.
        concentration0: b > 0.

    The other arguments are those of every family.

    Source:
        Kumaraswamy (1980), https://doi.org/10.1016/0022-1694(80)90036-0
    """

    parametrisations = (("concentration1", "concentration0"),)
    supports = {"concentration1": positive, "concentration0": positive}
    value_support = unit_interval
    rims = {0.0: lambda params: params["concentration1"] - 1, 1.0: lambda params: params["concentration0"] - 1}

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        a, b = params["concentration1"], params["concentration0"]
        return a.log() + b.log() + (a - 1) * x.log() + (b - 1) * _log_not_power(x, a)

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        a, b = params["concentration1"], params["concentration0"]
        return -torch.expm1(b * _log_not_power(x, a))

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        a, b = params["concentration1"], params["concentration0"]
        return between_zero_and_one((-torch.expm1(torch.log1p(-u) / b)) ** (1 / a))

    @staticmethod
    def sf(params: Params, x: Tensor) -> Tensor:
        a, b = params["concentration1"], params["concentration0"]
        return (b * _log_not_power(x, a)).exp()

    @staticmethod
    def isf(params: Params, u: Tensor) -> Tensor:
        a, b = params["concentration1"], params["concentration0"]
        return between_zero_and_one((-torch.expm1(u.log() / b)) ** (1 / a))

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        a, b = params["concentration1"], params["concentration0"]
        return _moment(a, b, 1)

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        a, b = params["concentration1"], params["concentration0"]
        return _moment(a, b, 2) - _moment(a, b, 1).square()

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        a, b = params["concentration1"], params["concentration0"]
        harmonic = torch.digamma(b + 1) + EULER
        return (1 - 1 / b) + (1 - 1 / a) * harmonic - a.log() - b.log()


class ContinuousBernoulli(Family):
    r"""The continuous Bernoulli distribution on [0, 1], independent over the features.

    $$\log p(x) = x\log\lambda + (1-x)\log(1-\lambda) + \log C(\lambda)$$

    Args:
        probs: λ in (0, 1), `(*features)` or rank 0.
        logits: log λ/(1-λ), instead.

    The other arguments are those of every family.

    Source:
        Loaiza-Ganem and Cunningham (2019), https://arxiv.org/abs/1907.06845
    """

    parametrisations = (("probs",), ("logits",))
    supports = {"probs": open_interval, "logits": real}
    value_support = unit_interval

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        logits = logits_of(params)
        return x * logits + tilted.log_normaliser(logits)

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return tilted.cdf(logits_of(params), x)

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return tilted.icdf(logits_of(params), u)

    @staticmethod
    def sf(params: Params, x: Tensor) -> Tensor:
        return ContinuousBernoulli.cdf({"logits": -logits_of(params)}, 1 - x)

    @staticmethod
    def isf(params: Params, u: Tensor) -> Tensor:
        return 1 - ContinuousBernoulli.icdf({"logits": -logits_of(params)}, u)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        a, b = logits_of(p), logits_of(q)
        return tilted.mean(a) * (a - b) + tilted.log_normaliser(a) - tilted.log_normaliser(b)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return tilted.mean(logits_of(params))

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return tilted.variance(logits_of(params))

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return (logits_of(params) > 0).to(logits_of(params).dtype)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        logits = logits_of(params)
        return -tilted.mean(logits) * logits - tilted.log_normaliser(logits)


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def _log_not_power(x: Tensor, a: Tensor) -> Tensor:
    """log(1 - x^a)."""
    return (-torch.expm1(a * x.log())).log()


def _moment(a: Tensor, b: Tensor, n: int) -> Tensor:
    """E[x^n] of a Kumaraswamy."""
    return (b.log() + _log_beta(1 + n / a, b)).exp()
