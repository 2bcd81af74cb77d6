"""The Bernoulli distribution."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ._deviance import deviance
from ._family import Family, Params, device_of_params, uniform_draw
from ._logs import both, finite_log_both, log_both, renyi_of_logs
from ._supports import binary, real, unit_interval


class Bernoulli(Family):
    r"""The Bernoulli distribution over 0 and 1, independent over the features.

    $$\log p(x) = x \log \pi + (1 - x) \log (1 - \pi)$$

    Args:
        probs: the probability π of a 1, `(*features)` or rank 0. In a log-density, a probability that has rounded to 0 or 1 is taken as
            the nearest number that has not, so that it stays finite.
        logits: log π/(1-π), instead.

    The other arguments are those of every family.

    Examples:
        >>> print(Bernoulli(var=["x"], probs=0.5, dim=3).log_prob())
        log p(x)
    """

    parametrisations = (("probs",), ("logits",))
    supports = {"probs": unit_interval, "logits": real}
    value_support = binary

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        # Not x·logits - softplus(logits), in value and gradient a difference of larger terms where the outcome is all but certain.
        log_p, log_not_p = finite_log_both(params)
        return torch.lerp(log_not_p, log_p, x)

    @staticmethod
    def draw(params: Params, shape: tuple[int, ...]) -> Tensor:
        probs = _probs(params)
        return torch.empty(shape, dtype=probs.dtype, device=probs.device).bernoulli_(probs)

    @staticmethod
    def relax(params: Params, shape: tuple[int, ...], temperature: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        log_p, log_not_p = finite_log_both(params)
        z = log_p - log_not_p + uniform_draw(params, shape).logit()
        hard = (z > 0).to(z.dtype)
        # Given that z > 0, it is softplus(noise - log(1-π)), and given that it is not, -softplus(noise - log π). With the noise at which
        # that is z, its derivative is this much of the change of the logarithms.
        lent = torch.where(z > 0, log_not_p.detach() - log_not_p, log_p - log_p.detach())
        given = z.detach() - torch.expm1(-z.detach().abs()) * lent
        return hard, (z / temperature).sigmoid(), (given / temperature).sigmoid()

    @staticmethod
    def outcomes(event: tuple[int, ...], params: Params, count: int) -> Tensor:
        return torch.arange(2, device=device_of_params(params))

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        (a, b), (c, d), (log_c, log_d) = both(p), both(q), log_both(q)
        gap = a - c
        if "logits" in p and "logits" in q:
            change = q["logits"] - p["logits"]
            gap = torch.where(change < 1, a * d * -torch.expm1(change.clamp_max(1)), gap)
        return deviance(a, c, gap, log_c) + deviance(b, d, -gap, log_d)

    @staticmethod
    def renyi(p: Params, q: Params, alpha: float) -> Tensor:
        return renyi_of_logs(torch.stack(log_both(p), -1), torch.stack(log_both(q), -1), alpha)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return _probs(params)

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        probs, rest = both(params)
        return probs * rest

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return (_probs(params) > 0.5).to(_probs(params).dtype)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return _surprise(params, 1) + _surprise(params, -1)


def _outcome(params: Params, sign: int, absent: Tensor | None) -> tuple[Tensor, Tensor]:
    if "logits" in params:
        logits = sign * params["logits"]
        return logits.sigmoid(), F.logsigmoid(logits)
    given = params["probs"]
    probs, zero = (given, given == 0) if sign > 0 else (1 - given, given == 1)
    log_probs = torch.where(zero, 1.0, given).log() if sign > 0 else torch.log1p(-torch.where(zero, 0.0, given))
    return probs, log_probs if absent is None else log_probs.masked_fill(zero & ~absent, -torch.inf)


def _surprise(params: Params, sign: int) -> Tensor:
    """-P log P for a 1 (sign +1) or a 0 (sign -1), with 0 log 0 = 0."""
    probs, log_probs = _outcome(params, sign, None)
    return torch.where(probs == 0, 0.0, -probs * log_probs)


def _probs(params: Params) -> Tensor:
    return params["probs"] if "probs" in params else params["logits"].sigmoid()
