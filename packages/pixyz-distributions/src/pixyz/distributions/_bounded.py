"""Families on an interval."""

import math

import torch
import torch.distributions as td
from torch import Tensor

from pixyz.core import uniform_noise

from . import _tilted_uniform as tilted
from ._deviance import bregman, log_ratio
from ._family import Family, Params, Shape
from ._from_torch import TorchFamily
from ._location_scale import EULER
from ._logs import logits_of, not_exp, share
from ._rounding import between_zero_and_one
from ._simplex import Dirichlet
from ._special import digamma, log_binomial, log_gamma_bend, log_gamma_ratio
from ._supports import open_interval, positive, real, unit_interval

_LOG_2 = math.log(2)


class Uniform(Family):
    r"""The uniform distribution, independent over the features; outside of its bounds a value is impossible.

    $$\log p(x) = -\log(b - a), \qquad a \le x \le b$$

    Args:
        low: the lower bound a, `(*features)` or rank 0.
        high: the upper bound b > a.

    The other arguments are those of every family.
    """

    parametrisations = (("low", "high"),)
    ends = ("low", "high")
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
        return torch.addcmul(low, high - low, uniform_noise(shape, low))

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        below, above = p["low"] - q["low"], q["high"] - p["high"]
        wider = log_ratio(q["high"] - q["low"], p["high"] - p["low"], below + above)
        return torch.where((below >= 0) & (above >= 0), wider, torch.inf)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return 0.5 * params["low"] + 0.5 * params["high"]

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
        log_x, log_rest = x.log(), torch.log1p(-x)
        # In powers of x and 1-x of at least 0: of those below there is one more, and the factor before them is another.
        a_above, b_above = a >= 1, b >= 1
        m, n = torch.where(a_above, a - 1, a), torch.where(b_above, b - 1, b)
        both, total = a_above & b_above, m + n
        factor = torch.where(a_above, torch.where(b_above, total + 1, n), torch.where(b_above, m, m * (n / torch.where(both, 1.0, total))))
        outside = torch.where(a_above, 0.0, log_x) + torch.where(b_above, 0.0, log_rest)
        return factor.log() - outside + log_binomial(m, n, total, x, 1 - x, x - 0.5, (log_x, log_rest))

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        return Dirichlet.kl(_as_dirichlet(p), _as_dirichlet(q))

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return share(params["concentration1"], params["concentration0"])

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return Dirichlet.variance_of(_as_dirichlet(params))[..., 0]

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        """Where α and β are 1 or less, a bound at which the density is greatest or unbounded."""
        return Dirichlet.mode_of(_as_dirichlet(params))[..., 0]

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return Dirichlet.entropy_of(_as_dirichlet(params))


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
        return not_exp(-b * _log_not_power(x, a))

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
        return _log_moment(1 / params["concentration1"], params["concentration0"]).exp()

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        inverse, b = 1 / params["concentration1"], params["concentration0"]
        # log of E[x²] over (E x)².
        spread = log_gamma_bend(torch.ones_like(b), inverse) - log_gamma_bend(b + 1, inverse)
        return (2 * _log_moment(inverse, b) + spread).exp() * -torch.expm1(-spread)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        a, b = params["concentration1"], params["concentration0"]
        harmonic = digamma(b + 1) + EULER
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
        # Of x or of 1-x, whichever has the smaller mean.
        above = logits_of(p) > 0
        a, b = (torch.where(above, -t, t) for t in (logits_of(p), logits_of(q)))
        near = (b - a).abs() < (a.abs() / 3).clamp_min(2)
        far = tilted.mean(a) * (a - b) + tilted.log_normaliser(a) - tilted.log_normaliser(b)
        return bregman(lambda eta: ContinuousBernoulli.variance_of({"logits": eta}), a, b - a, near, far)

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
        below = torch.where(logits_of(params) > 0, -logits_of(params), logits_of(params))  # that of 1-x is the same
        return -tilted.mean(below) * below - tilted.log_normaliser(below)


def _as_dirichlet(params: Params) -> Params:
    """The parameters of the Dirichlet distribution of (x, 1-x)."""
    return {"concentration": torch.stack(torch.broadcast_tensors(params["concentration1"], params["concentration0"]), -1)}


def _log_not_power(x: Tensor, a: Tensor) -> Tensor:
    """log(1 - x^a), by what is precise for small powers, and for those near 1."""
    log_power = a * x.log()
    small, near_one = log_power.clamp_max(-_LOG_2), log_power.clamp_min(-_LOG_2)
    return torch.where(log_power < -_LOG_2, torch.log1p(-small.exp()), (-torch.expm1(near_one)).log())


def _log_moment(order: Tensor, b: Tensor) -> Tensor:
    """log E[y^order] where y is beta with concentrations 1 and b."""
    return torch.lgamma(1 + order) - log_gamma_ratio(b + 1, order)
