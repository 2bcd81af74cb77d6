"""The categorical distribution over one-hot vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ._choice import draw_categories
from ._family import Family, Params, uniform_draw
from ._logs import log_weights, renyi_of_logs
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
        probs = _probs(params)
        index = draw_categories(probs, shape[:-1])
        return torch.zeros(shape, dtype=probs.dtype, device=probs.device).scatter_(-1, index.unsqueeze(-1), 1.0)

    @staticmethod
    def relax(params: Params, shape: tuple[int, ...], temperature: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        log_p = log_weights(params).clamp_min(-1 / torch.finfo(next(iter(params.values())).dtype).eps)
        z = log_p - (-uniform_draw(params, shape).log()).log()
        highest, index = z.detach().max(-1, keepdim=True)
        hard = F.one_hot(index.squeeze(-1), shape[-1]).to(z.dtype)
        # Given which is the highest, it does not depend on π, and the others are Gumbel draws cut off there. With the noise at which
        # those are z, their derivative is this much of the change of log π.
        given = z.detach() - torch.expm1(z.detach() - highest) * (log_p - log_p.detach())
        return hard, (z / temperature).softmax(-1), (given / temperature).softmax(-1)

    @staticmethod
    def outcomes(event: tuple[int, ...], params: Params, count: int) -> Tensor:
        return torch.eye(event[0])

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        probs = _probs(p)
        absent = probs == 0
        return (probs * (_log_probs(p, absent) - _log_probs(q, absent))).sum(-1)

    @staticmethod
    def renyi(p: Params, q: Params, alpha: float) -> Tensor:
        return renyi_of_logs(log_weights(p), log_weights(q), alpha)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return _probs(params)

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        probs = _probs(params)
        return probs * (1 - probs)

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        probs = _probs(params)
        return F.one_hot(probs.argmax(-1), probs.shape[-1]).to(probs.dtype)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        probs = _probs(params)
        return -(probs * _log_probs(params, probs == 0)).sum(-1)


def _log_probs(params: Params, absent: Tensor) -> Tensor:
    """log π, with 0 in place of -inf where `absent`; at π = 0 its gradient is zero, never nan."""
    if "logits" in params:
        log_probs = params["logits"].log_softmax(-1)
        return torch.where(absent & log_probs.isneginf(), 0.0, log_probs)
    probs = params["probs"]
    zero = probs == 0
    return torch.where(zero, 1.0, probs).log().masked_fill(zero & ~absent, -torch.inf)


def _probs(params: Params) -> Tensor:
    return params["probs"] if "probs" in params else params["logits"].softmax(-1)
