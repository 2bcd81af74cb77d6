"""The Bernoulli distribution."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ._deviance import deviance, excess, exp_excess, renyi_of_logs
from ._family import Family, Params, device_of_params, uniform_draw
from ._logs import both, finite_log_both, log_both, sigmoid
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
        if "logits" in p and "logits" in q:
            return divergence_of_logits(p["logits"], q["logits"])
        (a, b), (c, d), (log_c, log_d) = both(p), both(q), log_both(q)
        gap = a - c
        return deviance(a, c, gap, log_c) + deviance(b, d, -gap, log_d)

    @staticmethod
    def renyi(p: Params, q: Params, alpha: float) -> Tensor:
        return renyi_of_logs(torch.stack(log_both(p), -1), torch.stack(log_both(q), -1), alpha, Bernoulli.kl(p, q))

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return both(params)[0]

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return spread(params)

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        likely = params["logits"] > 0 if "logits" in params else params["probs"] > 0.5
        return likely.to(next(iter(params.values())).dtype)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        far = _surprise(params, 1) + _surprise(params, -1)
        if "logits" not in params:
            return far
        # What log 2 is above it is a divergence, whose gradient is 0 at 0.
        small = params["logits"].abs() < 1
        near = torch.where(small, params["logits"], 0.0)
        return torch.where(small, math.log(2) - divergence_of_logits(near, torch.zeros_like(near)), far)


def spread(params: Params) -> Tensor:
    """π(1-π), of logits near 0 as 1/(2 cosh(t/2))², whose gradient is 0 at 0."""
    if "logits" not in params:
        return params["probs"] * (1 - params["probs"])
    logits = params["logits"]
    small = logits.abs() < 1
    near = (0.5 / torch.cosh(0.5 * torch.where(small, logits, 0.0))).square()
    return torch.where(small, near, (F.logsigmoid(logits) + F.logsigmoid(-logits)).exp())


def divergence_of_logits(s: Tensor, t: Tensor) -> Tensor:
    """KL of Bernoulli distributions. Near to one another it is what log(1-π+πe^c) lies above its tangent, of the rarer outcome."""
    step, rarer, _ = rarer_outcome(s, t)
    rise = rarer * torch.expm1(step)
    near = rarer * exp_excess(step) - excess(rise, 1 + rise)
    far = torch.zeros_like(near)
    for sign in (1, -1):
        probs = sigmoid(sign * s)
        far = far + probs * (F.logsigmoid(sign * s) - F.logsigmoid(sign * t)).masked_fill(probs == 0, 0.0)
    return torch.where((t - s).abs() < 1, near, far)


def rarer_outcome(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of two distributions whose logits are less than 1 apart, by how much those of the outcome that is rarer in the first grow; its
    probability there; and whether it is a 1."""
    step = torch.where((t - s).abs() < 1, t - s, 0.0)
    is_one = s <= 0
    return torch.where(is_one, step, -step), sigmoid(torch.where(is_one, s, -s)), is_one


def _outcome(params: Params, sign: int, absent: Tensor | None) -> tuple[Tensor, Tensor]:
    if "logits" in params:
        logits = sign * params["logits"]
        return sigmoid(logits), F.logsigmoid(logits)
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
