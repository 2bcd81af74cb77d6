"""Draws of indices, without a number that the host reads."""

import torch
from torch import Tensor


def draw_indices(weights: Tensor, count: int) -> Tensor:
    r"""Indices of categories, `(N, count)`, from weights `(N, K)` that need not sum to 1.

    One draw is the first arrival of $K$ Poisson processes, $\arg\min_k E_k / w_k$ with exponential $E_k$. `torch.multinomial` draws it so
    too, after it has read from the device whether the weights are fit for it.

    Examples:
        >>> import torch
        >>> draw_indices(torch.tensor([[0.0, 1.0], [2.0, 0.0]]), 1)
        tensor([[1],
                [0]])

    Source:
        Maddison et al. (2014), https://arxiv.org/abs/1411.0030
    """
    if count == 1:
        return (weights / torch.empty_like(weights).exponential_()).argmax(-1, keepdim=True)
    return torch.multinomial(weights, count, replacement=True)
