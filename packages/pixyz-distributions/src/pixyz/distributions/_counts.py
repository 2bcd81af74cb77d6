"""Families of counts."""

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor

from ._family import Family, Params, Shape, uniform_draw
from ._from_torch import TorchFamily
from ._logs import finite_log_both, log_both, safe_log, times_log
from ._special import log_gamma_ratio
from ._supports import counts, half_open_interval, non_negative, positive, probability, real, unit_interval


class Poisson(Family):
    r"""The Poisson distribution, independent over the features.

    $$\log p(x) = x\log\lambda - \lambda - \log x!$$

    Args:
        rate: the mean λ ≥ 0, `(*features)` or rank 0.

    The other arguments are those of every family.
    """

    parametrisations = (("rate",),)
    supports = {"rate": non_negative}
    value_support = counts

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        rate = params["rate"]
        return times_log(x, safe_log(rate)) - rate - torch.lgamma(x + 1)

    @staticmethod
    def draw(params: Params, shape: Shape) -> Tensor:
        return torch.poisson(params["rate"].expand(shape))

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        rate = p["rate"]
        return times_log(rate, safe_log(rate)) - times_log(rate, safe_log(q["rate"])) - rate + q["rate"]

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return params["rate"]

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return params["rate"]

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return params["rate"].floor()


class Geometric(Family):
    r"""The geometric distribution of the number of failures before a success, independent over the features.

    $$\log p(x) = x\log(1-\pi) + \log\pi$$

    Args:
        probs: the probability π in (0, 1] of a success, `(*features)` or rank 0.
        logits: log π/(1-π), instead.

    The other arguments are those of every family.
    """

    parametrisations = (("probs",), ("logits",))
    supports = {"probs": probability, "logits": real}
    value_support = counts

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        log_p, log_not_p = log_both(params)
        return times_log(x, log_not_p) + log_p

    @staticmethod
    def draw(params: Params, shape: Shape) -> Tensor:
        log_not_p = F.logsigmoid(-params["logits"]) if "logits" in params else torch.log1p(-params["probs"])
        return (uniform_draw(params, shape).log() / log_not_p).floor()

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        (log_p, log_not_p), (log_q, log_not_q) = log_both(p), log_both(q)
        failures = (log_not_p - log_p).exp()
        return log_p - log_q + torch.where(failures == 0, 0.0, failures * (log_not_p.nan_to_num() - log_not_q))

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        log_p, log_not_p = log_both(params)
        return (log_not_p - log_p).exp()

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        log_p, log_not_p = log_both(params)
        return (log_not_p - 2 * log_p).exp()

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return torch.zeros_like(next(iter(params.values())))

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        log_p, log_not_p = log_both(params)
        failures = (log_not_p - log_p).exp()
        return -log_p - times_log(failures, log_not_p)


class Binomial(TorchFamily):
    r"""The binomial distribution, independent over the features; more successes than trials are impossible.

    $$\log p(x) = \log\binom{n}{x} + x\log\pi + (n-x)\log(1-\pi)$$

    Args:
        total_count: the number n of trials, a whole number, `(*features)` or rank 0.
        probs: the probability π of a success.
        logits: log π/(1-π), instead.

    The other arguments are those of every family.
    """

    parametrisations = (("total_count", "probs"), ("total_count", "logits"))
    supports = {"total_count": counts, "probs": unit_interval, "logits": real}
    value_support = counts
    torch_class = td.Binomial
    counts_to_parameters = True
    counted_by = "total_count"

    @staticmethod
    def outcomes(event: Shape, params: Params, count: int) -> Tensor:
        return torch.arange(count + 1)

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        n = params["total_count"]
        log_p, log_not_p = finite_log_both(params)
        failures = (n - x).clamp_min(0)
        choices = torch.lgamma(n + 1) - torch.lgamma(x + 1) - torch.lgamma(failures + 1)
        log_density = choices + times_log(x, log_p) + times_log(failures, log_not_p)
        return torch.where(x <= n, log_density, -torch.inf)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        """For equal numbers of trials; infinite where p has more of them, nan where q has, for which no closed form is known."""
        n = p["total_count"]
        (log_p, log_not_p), (log_q, log_not_q) = log_both(p), log_both(q)
        probs = log_p.exp()
        once = torch.where(probs == 0, 0.0, probs * (log_p - log_q)) + torch.where(
            probs == 1, 0.0, log_not_p.exp() * (log_not_p - log_not_q)
        )
        return torch.where(n == q["total_count"], n * once, torch.where(n > q["total_count"], torch.inf, torch.nan))

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        n = params["total_count"]
        return ((n + 1) * log_both(params)[0].exp()).floor().clamp_max(n)


class NegativeBinomial(TorchFamily):
    r"""The negative binomial distribution of the number of successes before the n-th failure, independent over the features.

    $$\log p(x) = \log\frac{\Gamma(n+x)}{x!\,\Gamma(n)} + x\log\pi + n\log(1-\pi)$$

    Args:
        total_count: the number n > 0 of failures, not necessarily whole, `(*features)` or rank 0.
        probs: the probability π in [0, 1) of a success.
        logits: log π/(1-π), instead.

    The other arguments are those of every family.
    """

    parametrisations = (("total_count", "probs"), ("total_count", "logits"))
    supports = {"total_count": positive, "probs": half_open_interval, "logits": real}
    value_support = counts
    torch_class = td.NegativeBinomial

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        log_p, log_not_p = log_both(params)
        return params["total_count"] * (log_p - log_not_p).exp()

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        log_p, log_not_p = log_both(params)
        return params["total_count"] * (log_p - 2 * log_not_p).exp()

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        n = params["total_count"]
        log_p, log_not_p = log_both(params)
        ways = log_gamma_ratio(n, x) - torch.lgamma(x + 1)
        return torch.addcmul(ways, n, log_not_p) + times_log(x, log_p)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        """For equal numbers of failures; nan for others, for which no closed form is known."""
        (log_p, log_not_p), (log_q, log_not_q) = log_both(p), log_both(q)
        odds = (log_p - log_not_p).exp()
        once = log_not_p - log_not_q + torch.where(odds == 0, 0.0, odds * (log_p - log_q))
        return torch.where(p["total_count"] == q["total_count"], p["total_count"] * once, torch.nan)
