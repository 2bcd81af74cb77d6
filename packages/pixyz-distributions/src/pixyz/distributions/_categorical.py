"""The categorical distribution over one-hot vectors."""

import torch
from torch import Tensor

from ._choice import draw_categories, unit_vector
from ._deviance import deviance, exp_excess, renyi_of_logs
from ._family import Family, Params, device_of_params, uniform_draw
from ._logs import log_softmax, log_weights, sum_of_others
from ._supports import one_hot, real_vectors, simplex


class Categorical(Family):
    r"""The categorical distribution; its values are one-hot over the last feature dim, and independent over the others.

    $$\log p(x) = \sum_k x_k \log \pi_k$$

    Args:
        probs: the probabilities π, `(*features, K)`, non-negative with sum 1.
        logits: log π up to a constant, instead.

    The other arguments are those of every family.

    Examples:
        >>> import torch
        >>> y = Categorical(var=["y"], probs=torch.tensor([0.2, 0.8]))
        >>> y.log_likelihood({"y": torch.tensor([[0.0, 1.0]])})
        tensor([-0.2231])
    """

    parametrisations = (("probs",), ("logits",))
    supports = {"probs": simplex, "logits": real_vectors}
    value_support = one_hot

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        # An impossible category that did not occur adds nothing, 0 log 0 = 0; one that did is -inf.
        return (x * _log_probs(params, absent=x == 0)).sum(-1)

    @staticmethod
    def draw(params: Params, shape: tuple[int, ...]) -> Tensor:
        probs = params["probs"] if "probs" in params else params["logits"].softmax(-1)
        index = draw_categories(probs, shape[:-1])
        return torch.zeros(shape, dtype=probs.dtype, device=probs.device).scatter_(-1, index.unsqueeze(-1), 1.0)

    @staticmethod
    def relax(params: Params, shape: tuple[int, ...], temperature: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        log_p = log_weights(params).clamp_min(-1 / torch.finfo(next(iter(params.values())).dtype).eps)
        z = log_p - (-uniform_draw(params, shape).log()).log()
        highest, index = z.detach().max(-1, keepdim=True)
        hard = unit_vector(index.squeeze(-1), shape[-1], z.dtype)
        # Given which is the highest, it does not depend on π, and the others are Gumbel draws cut off there. With the noise at which
        # those are z, their derivative is this much of the change of log π.
        given = z.detach() - torch.expm1(z.detach() - highest) * (log_p - log_p.detach())
        return hard, (z / temperature).softmax(-1), (given / temperature).softmax(-1)

    @staticmethod
    def outcomes(event: tuple[int, ...], params: Params, count: int) -> Tensor:
        return torch.eye(event[0], device=device_of_params(params))

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        if "probs" in p or "probs" in q:
            a, b = probs_of(p), probs_of(q)
            return deviance(a, b, a - b, log_weights(q)).sum(-1)
        log_a, log_b = log_softmax(p["logits"]), log_softmax(q["logits"])
        a = log_a.exp()
        apart = (a * (log_a - log_b).masked_fill(a == 0, 0.0)).sum(-1)
        # log Σ π e^c, where c = log of the ratio of both up to a constant, so chosen that Σ π c = 0.
        change = q["logits"] - p["logits"]
        change = change - (a * change).sum(-1, keepdim=True)
        near = (change.abs() < 1).all(-1)
        by_logits = torch.log1p((a * exp_excess(torch.where(near.unsqueeze(-1), change, 0.0))).sum(-1))
        return torch.where(near, by_logits, apart)

    @staticmethod
    def renyi(p: Params, q: Params, alpha: float) -> Tensor:
        return renyi_of_logs(log_weights(p), log_weights(q), alpha, Categorical.kl(p, q))

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return probs_of(params)

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        probs = probs_of(params)
        return probs * sum_of_others(probs)

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        probs = probs_of(params)
        return unit_vector(probs.argmax(-1), probs.shape[-1], probs.dtype)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        probs = probs_of(params)
        return -(probs * _log_probs(params, probs == 0)).sum(-1)


def _log_probs(params: Params, absent: Tensor) -> Tensor:
    """log π, with 0 in place of -inf where `absent`; at π = 0 its gradient is zero, never nan."""
    if "logits" in params:
        log_probs = log_softmax(params["logits"])
        return torch.where(absent & log_probs.isneginf(), 0.0, log_probs)
    probs = params["probs"]
    zero = probs == 0
    return torch.where(zero, 1.0, probs).log().masked_fill(zero & ~absent, -torch.inf)


def probs_of(params: Params) -> Tensor:
    """π over the last dim, from `probs` or `logits`."""
    return params["probs"] if "probs" in params else log_softmax(params["logits"]).exp()
