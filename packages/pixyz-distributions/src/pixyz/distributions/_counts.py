"""Families of counts."""

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor

from ._bernoulli import Bernoulli, rarer_outcome, spread
from ._deviance import excess, exp_excess, poisson_deviance
from ._family import Family, Params, Shape, device_of_params, uniform_draw
from ._from_torch import TorchFamily
from ._logs import both, finite_log_both, log_both, tilt, times_log
from ._special import log_binomial, log_factorial_excess
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
        return -poisson_deviance(x, params["rate"]) - log_factorial_excess(x)

    @staticmethod
    def draw(params: Params, shape: Shape) -> Tensor:
        return torch.poisson(params["rate"].expand(shape))

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        return poisson_deviance(p["rate"], q["rate"])

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
        if "logits" in p and "logits" in q:
            return _divergence_over_probability(p["logits"], q["logits"])
        return Bernoulli.kl(p, q) / both(p)[0]  # that of a trial, and there are so many of them

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return (-params["logits"]).exp() if "logits" in params else (1 - params["probs"]) / params["probs"]

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        if "logits" in params:
            return (-params["logits"] - F.logsigmoid(params["logits"])).exp()
        return Geometric.mean_of(params) / params["probs"]

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return torch.zeros_like(next(iter(params.values())))

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        if "logits" in params:
            logits = params["logits"]
            return -F.logsigmoid(logits) + (_log_softplus(logits) - logits).exp()
        probs, failing = both(params)
        never = failing == 0
        return -probs.log() - torch.where(never, 0.0, failing * (torch.log1p(-torch.where(never, 0.0, probs)) / probs))


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
        return torch.arange(count + 1, device=device_of_params(params))

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        n = params["total_count"]
        log_density = log_binomial(x, (n - x).clamp_min(0), n, *both(params), tilt(params), finite_log_both(params))
        return torch.where(x <= n, log_density, -torch.inf)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        """For equal numbers of trials; infinite where p has more of them, nan where q has, for which no closed form is known."""
        n = p["total_count"]
        equal = n * Bernoulli.kl(p, q)
        return torch.where(n == q["total_count"], equal, torch.where(n > q["total_count"], torch.inf, torch.nan))

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        n = params["total_count"]
        return ((n + 1) * both(params)[0]).floor().clamp_max(n)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return params["total_count"] * both(params)[0]

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return params["total_count"] * spread(params)


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
        odds = params["logits"].exp() if "logits" in params else params["probs"] / (1 - params["probs"])
        return params["total_count"] * odds

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        if "logits" in params:
            return params["total_count"] * (params["logits"] - F.logsigmoid(-params["logits"])).exp()
        return NegativeBinomial.mean_of(params) / (1 - params["probs"])

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        n = params["total_count"]
        odds = NegativeBinomial.mean_of({**params, "total_count": torch.ones_like(n)}).detach()
        return ((n - 1).clamp_min(0) * odds.clamp_max(torch.finfo(n.dtype).max)).floor()

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        n, logs = params["total_count"], log_both(params)
        some = log_binomial(x, n, n + x, *both(params), tilt(params), logs) - torch.log1p(x / n)
        # At 0 its derivative by n is a difference of larger numbers; that by x is asked for where a count is relaxed.
        return some if x.requires_grad else torch.where(x == 0, n * logs[1], some)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        """For equal numbers of failures; nan for others, for which no closed form is known."""
        n = p["total_count"]
        if "logits" in p and "logits" in q:
            trial = _divergence_over_probability(-p["logits"], -q["logits"])
        else:
            trial = Bernoulli.kl(p, q) / both(p)[1]
        return torch.where(n == q["total_count"], n * trial, torch.nan)


def _divergence_over_probability(s: Tensor, t: Tensor) -> Tensor:
    """KL of Bernoulli distributions over the probability of a 1 in the left one, which may have underflowed."""
    step, rarer, is_one = rarer_outcome(s, t)
    bent = torch.expm1(step)
    rise = rarer * bent
    lost = excess(rise, 1 + rise) / torch.where(rise == 0, 1.0, rise)
    near = (exp_excess(step) - lost * bent) * torch.where(is_one, 1.0, (-s.clamp_min(0)).exp())
    far = F.logsigmoid(s) - F.logsigmoid(t) + ((_log_softplus(t) - s).exp() - (_log_softplus(s) - s).exp())
    return torch.where((t - s).abs() < 1, near, far)


def _log_softplus(t: Tensor) -> Tensor:
    """log log(1 + e^t), which is t - e^t/2 where e^t is small."""
    low = t < -20
    exact = (-F.logsigmoid(-torch.where(low, 0.0, t))).log()
    return torch.where(low, t - 0.5 * torch.where(low, t, 0.0).exp(), exact)
