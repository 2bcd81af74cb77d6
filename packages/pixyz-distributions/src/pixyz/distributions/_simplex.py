"""Families on the simplex, and relaxations of discrete ones."""

import math
from dataclasses import dataclass

import torch
import torch.distributions as td
from torch import Tensor

from pixyz.core import ON_HOST, Checks

from ._choice import unit_vector
from ._deviance import deviance
from ._family import Family, Params, Shape, uniform_draw
from ._from_torch import TorchFamily
from ._logs import logits_of, share, sigmoid, sum_of_others
from ._rounding import between_zero_and_one
from ._slopes import log_logistic
from ._special import digamma, gamma_entropy, log_gamma_divergence, log_multinomial
from ._supports import (
    Held,
    Interval,
    has_numbers,
    open_interval,
    positive_simplex,
    positive_vectors,
    real,
    real_vectors,
    simplex,
    unit_interval,
)


@dataclass(frozen=True)
class _Temperatures(Interval):
    """Positive numbers without infinity, at which no relaxation has a density."""

    def holds(self, t: Tensor, checks: Checks = ON_HOST) -> Held:
        if not has_numbers(t):
            return True
        low, high = torch.aminmax(t)
        return (checks.read(low) > 0) & (checks.read(high) < math.inf)


_temperature = _Temperatures("positive and finite", lower=0.0, open_below=True, open_above=True)


class Dirichlet(TorchFamily):
    r"""The Dirichlet distribution over probability vectors, the last feature dim, and independent over the others.

    $$\log p(x) = \sum_k (\alpha_k - 1)\log x_k - \sum_k\log\Gamma(\alpha_k) + \log\Gamma\left(\sum_k\alpha_k\right)$$

    Args:
        concentration: α > 0, `(*features, K)`.

    The other arguments are those of every family.
    """

    parametrisations = (("concentration",),)
    supports = {"concentration": positive_vectors}
    value_support = simplex
    torch_class = td.Dirichlet

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        alpha = params["concentration"]
        total = alpha.sum(-1)
        # On the rim an element of α that is 1 leaves no trace; others make the density 0 or infinite.
        inside = x.clamp_min(torch.finfo(x.dtype).tiny)
        rim = torch.where((x == 0) & (alpha != 1), torch.copysign(alpha.new_full((), torch.inf), 1 - alpha), 0.0).sum(-1)
        log_x = inside.log()
        here, at = inside.detach(), log_x.detach()
        smooth = log_multinomial(alpha, total, here, alpha - total.unsqueeze(-1) * here, at)
        # The derivative by x is that of Σ(α-1)log x, and not of a deviance, which has as many digits as Σα.
        along = ((alpha - 1) * (log_x - at)).sum(-1) if x.requires_grad else 0.0
        return smooth + (alpha.log() - at).sum(-1) - total.log() + along + rim

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return share(params["concentration"], sum_of_others(params["concentration"]))

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        """Where elements of α are 1 or less, a point of the rim at which the density is greatest or unbounded."""
        above = (params["concentration"] - 1).clamp_min(0)
        peaked = above.sum(-1, keepdim=True) > 0
        corner = unit_vector(params["concentration"].argmax(-1), above.shape[-1], above.dtype)
        return torch.where(peaked, share(*[torch.where(peaked, t, 1.0) for t in (above, sum_of_others(above))]), corner)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        a, b = p["concentration"], q["concentration"]
        gap, total, other_total = b - a, a.sum(-1), b.sum(-1)
        others, gap_of_others = sum_of_others(a), sum_of_others(gap)
        one, rest = share(a, others), share(others, a)
        # b less what is expected of it: by the differences of both sides, or by the sides, whichever are smaller.
        by_gaps, by_sides = (gap * rest, one * gap_of_others), (b * rest, one * sum_of_others(b))
        nearer = by_gaps[0].abs() + by_gaps[1].abs() < by_sides[0] + by_sides[1]
        gaps = torch.where(nearer, by_gaps[0] - by_gaps[1], by_sides[0] - by_sides[1])
        apart = deviance(b, other_total.unsqueeze(-1) * one, gaps, other_total.log().unsqueeze(-1) + one.log())
        return (apart + log_gamma_divergence(a, b, gap)).sum(-1) - log_gamma_divergence(total, other_total, gap.sum(-1))

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        alpha = params["concentration"]
        total = alpha.sum(-1, keepdim=True)
        others = sum_of_others(alpha)
        return share(alpha, others) * share(others, alpha) / (total + 1)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        alpha = params["concentration"]
        total = alpha.sum(-1)
        gaps = digamma(alpha) - digamma(total).unsqueeze(-1)
        return (gamma_entropy(alpha) + gaps).sum(-1) - gamma_entropy(total)


class RelaxedBernoulli(Family):
    r"""The relaxed Bernoulli (binary concrete) distribution on (0, 1), independent over the features.

    $$\log p(x) = \log\tau + \ell - \tau\operatorname{logit} x - \log x(1-x) - 2\log\left(1 + e^{\ell - \tau\operatorname{logit} x}\right)$$

    Args:
        temperature: τ > 0, one number for each event; towards 0 the draws are discrete.
        probs: π in (0, 1), the probability that a draw is above one half.
        logits: ℓ = log π/(1-π), instead.

    The other arguments are those of every family.

    Source:
        Maddison, Mnih and Teh (2017), https://arxiv.org/abs/1611.00712
    """

    parametrisations = (("temperature", "probs"), ("temperature", "logits"))
    supports = {"temperature": _temperature, "probs": open_interval, "logits": real}
    value_support = unit_interval
    rims = {0.0: lambda params: params["temperature"] - 1, 1.0: lambda params: params["temperature"] - 1}

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        log_x, log_not_x = x.log(), torch.log1p(-x)
        gap = logits_of(params) - params["temperature"] * (log_x - log_not_x)
        return params["temperature"].log() - log_x - log_not_x + log_logistic(gap)

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return sigmoid(params["temperature"] * x.logit() - logits_of(params))

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return between_zero_and_one(sigmoid((u.logit() + logits_of(params)) / params["temperature"]))

    @staticmethod
    def sf(params: Params, x: Tensor) -> Tensor:
        return sigmoid(logits_of(params) - params["temperature"] * x.logit())

    @staticmethod
    def isf(params: Params, u: Tensor) -> Tensor:
        return between_zero_and_one(sigmoid((logits_of(params) - u.logit()) / params["temperature"]))


class RelaxedCategorical(Family):
    r"""The relaxed categorical (concrete, Gumbel-softmax) distribution over probability vectors, the last feature dim.

    $$\log p(x) = \log\Gamma(K) + (K-1)\log\tau + \sum_k\left(\log\pi_k - (\tau+1)\log x_k\right) - K\log\sum_k\pi_k x_k^{-\tau}$$

    Args:
        temperature: τ > 0, one number for each event; towards 0 the draws are discrete.
        probs: π, `(*features, K)`, positive with sum 1.
        logits: log π up to a constant, instead.

    The other arguments are those of every family.

    Source:
        Maddison, Mnih and Teh (2017), eq. 10, https://arxiv.org/abs/1611.00712; Jang, Gu and Poole (2017), https://arxiv.org/abs/1611.01144
    """

    parametrisations = (("temperature", "probs"), ("temperature", "logits"))
    supports = {"temperature": _temperature, "probs": positive_simplex, "logits": real_vectors}
    value_support = simplex

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        log_x = x.clamp_min(torch.finfo(x.dtype).tiny).log()  # as draws have it, for the density on the rim depends on the way there
        # Whatever is added to all scores leaves no trace: the great ones are near 0, so that no digits are lost beside them.
        scores = _scores(params) - params["temperature"].unsqueeze(-1) * (log_x - log_x.detach().amin(-1, keepdim=True))
        scores = scores - scores.detach().amax(-1, keepdim=True)
        k = x.new_full((), x.shape[-1])
        constant = torch.lgamma(k) + (k - 1) * params["temperature"].log()
        return constant + (scores - log_x).sum(-1) - k * scores.logsumexp(-1)

    @staticmethod
    def rsample(params: Params, shape: Shape) -> Tensor:
        gumbels = -(-uniform_draw(params, shape).log()).log()
        x = ((_scores(params) + gumbels) / params["temperature"].unsqueeze(-1)).softmax(-1)
        return x.clamp_min(torch.finfo(x.dtype).tiny)


def _scores(params: Params) -> Tensor:
    """log π up to a constant."""
    return params["logits"] if "logits" in params else params["probs"].log()
