"""The categorical distribution over one-hot vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ._family import Family, Params
from ._supports import one_hot, real_vectors, simplex


class Categorical(Family):
    r"""The categorical distribution; its values are one-hot over the last feature dim, and independent over the others.

    $$\log p(x) = \sum_k x_k \log \pi_k$$

    Args:
        probs: the probabilities π, `(*features, K)`, non-negative with sum 1. A probability that has rounded to 0 is taken as the smallest
            normal number, so the log-density stays finite.
        logits: log π up to a constant, instead.

    The other arguments are those of every family.

    Example:
        >>> import torch
        >>> y = Categorical(var=["y"], probs=torch.tensor([0.2, 0.8]))
        >>> y.log_likelihood({"y": torch.tensor([[0.0, 1.0]])})
        tensor([-0.2231])
    """

    distribution_name = "Categorical"
    parametrisations = (("probs",), ("logits",))
    supports = {"probs": simplex, "logits": real_vectors}
    value_support = one_hot
    has_kl = True

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        return (x * _log_probs(params)).sum(-1)

    @staticmethod
    def draw(params: Params, shape: tuple[int, ...]) -> Tensor:
        probs = params["probs"] if "probs" in params else params["logits"].softmax(-1)
        k = shape[-1]
        index = torch.multinomial(probs.expand(shape).reshape(-1, k), 1, replacement=True)
        return F.one_hot(index, k).to(probs.dtype).reshape(shape)

    @staticmethod
    def count_support(features: tuple[int, ...]) -> int | None:
        return features[-1] ** torch.Size(features[:-1]).numel()

    @staticmethod
    def enumerate_support(features: tuple[int, ...]) -> Tensor:
        k, n = features[-1], torch.Size(features[:-1]).numel()
        codes = torch.arange(k**n).unsqueeze(-1) // k ** torch.arange(n - 1, -1, -1) % k
        return F.one_hot(codes, k).reshape(-1, *features)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        log_p = _log_probs(p)
        return (log_p.exp() * (log_p - _log_probs(q))).sum(-1)


def _log_probs(params: Params) -> Tensor:
    if "logits" in params:
        return params["logits"].log_softmax(-1)
    probs = params["probs"]
    return probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
