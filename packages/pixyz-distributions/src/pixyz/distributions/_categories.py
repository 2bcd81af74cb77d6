"""Families of several categories: the index of one, and how often each comes."""

import itertools
import math
from types import MappingProxyType

import torch
from torch import Tensor

from ._categorical import Categorical, probs_of
from ._choice import draw_categories
from ._family import Family, Params, Shape, device_of_params
from ._logs import log_weights
from ._special import log_multinomial
from ._supports import count_vectors, counts, indices, real_vectors, simplex


class CategoricalIndex(Family):
    r"""The categorical distribution over the numbers 0 to K-1, independent over the features: `Categorical` without one-hot vectors.

    $$\log p(x) = \log\pi_x$$

    Args:
        probs: the probabilities π, `(*features, K)`, non-negative with sum 1.
        logits: log π up to a constant, instead.

    The other arguments are those of every family.
    """

    parametrisations = (("probs",), ("logits",))
    supports = {"probs": simplex, "logits": real_vectors}
    value_support = indices
    relaxes_as = "Categorical"

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        log_probs = log_weights(params)
        k = log_probs.shape[-1]
        index = x.long().clamp(0, k - 1).unsqueeze(-1)
        log_probs, index = torch.broadcast_tensors(log_probs, index)
        return torch.where(x < k, log_probs.gather(-1, index[..., :1]).squeeze(-1), -torch.inf)

    @staticmethod
    def draw(params: Params, shape: Shape) -> Tensor:
        probs = params["probs"] if "probs" in params else params["logits"].softmax(-1)
        return draw_categories(probs, shape).to(probs.dtype)

    @staticmethod
    def outcomes(event: Shape, params: Params, count: int) -> Tensor:
        return torch.arange(next(iter(params.values())).shape[-1], device=device_of_params(params))

    kl = staticmethod(Categorical.kl)
    renyi = staticmethod(Categorical.renyi)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        probs = probs_of(params)
        return probs @ _numbers(probs)

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        probs = probs_of(params)
        numbers = _numbers(probs)
        return (probs * (numbers - (probs @ numbers).unsqueeze(-1)).square()).sum(-1)

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        log_probs = log_weights(params)
        return log_probs.argmax(-1).to(log_probs.dtype)

    entropy_of = staticmethod(Categorical.entropy_of)


class Multinomial(Family):
    r"""The multinomial distribution: how often each of K categories comes in n draws; the last feature dim.

    Counts of another sum are impossible.

    $$\log p(x) = \log n! - \sum_k \log x_k! + \sum_k x_k\log\pi_k$$

    Args:
        total_count: n, a whole number, one for each event.
        probs: the probabilities π, `(*features, K)`, non-negative with sum 1.
        logits: log π up to a constant, instead.

    The other arguments are those of every family.
    """

    parametrisations = (("total_count", "probs"), ("total_count", "logits"))
    supports = {"total_count": counts, "probs": simplex, "logits": real_vectors}
    value_support = count_vectors
    counted_by = "total_count"

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        n, log_probs = params["total_count"], log_weights(params)
        probs = probs_of(params)
        log_density = log_multinomial(x, n, probs, x - n.unsqueeze(-1) * probs, log_probs)
        return torch.where(x.sum(-1) == n, log_density, -torch.inf)

    @staticmethod
    def draw(params: Params, shape: Shape) -> Tensor:
        probs = params["probs"] if "probs" in params else params["logits"].softmax(-1)
        left = params["total_count"].expand(shape[:-1])
        # Each category's share of itself and those after it.
        shares = (probs / probs.flip(-1).cumsum(-1).flip(-1)).nan_to_num(0.0).clamp_max(1).expand(shape)
        out = []
        for share in shares.unbind(-1)[:-1]:
            out.append(torch.binomial(left, share))
            left = left - out[-1]
        return torch.stack([*out, left], -1)

    @staticmethod
    def outcomes(event: Shape, params: Params, count: int) -> Tensor:
        # Where the bars between the categories stand, among as many places as there are draws and bars.
        (k,) = event
        places = count + k - 1
        ends = torch.tensor([(-1, *bars, places) for bars in itertools.combinations(range(places), k - 1)])
        return ends.diff() - 1

    @classmethod
    def count_support(cls, features: Shape, params: Params = MappingProxyType({}), count: int = 0) -> int:
        # Without the list, which is too long where there are many categories.
        (k,), over = cls._split(features)
        return math.comb(count + k - 1, k - 1) ** math.prod(over)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        """For equal numbers of draws; infinite for others, which have no count vector in common."""
        n = p["total_count"]
        return torch.where(n == q["total_count"], n * Categorical.kl(p, q), torch.inf)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return params["total_count"].unsqueeze(-1) * probs_of(params)

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return params["total_count"].unsqueeze(-1) * Categorical.variance_of(params)


def _numbers(probs: Tensor) -> Tensor:
    return torch.arange(probs.shape[-1], dtype=probs.dtype, device=probs.device)
