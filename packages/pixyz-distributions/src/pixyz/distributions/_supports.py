"""Sets where parameters and values may lie."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Support:
    """A set of tensors.

    Attributes:
        words: how an error says it, "positive".
        contains: a boolean tensor, true where the entry (or the last dim, if `event_rank` is 1) lies inside.
        event_rank: how many trailing dims one element has.
    """

    words: str
    contains: Callable[[Tensor], Tensor]
    event_rank: int = 0


def _one_hot(x: Tensor) -> Tensor:
    return ((x == 0) | (x == 1)).all(-1) & (x.sum(-1) == 1)


def _simplex(x: Tensor) -> Tensor:
    tolerance = 1e-5 if x.dtype == torch.float32 else 1e-2 if x.dtype.itemsize < 4 else 1e-9
    return (x >= 0).all(-1) & ((x.sum(-1) - 1).abs() < tolerance * max(1, x.shape[-1]) ** 0.5)


real = Support("a number", lambda x: x == x)
positive = Support("positive", lambda x: x > 0)
unit_interval = Support("in [0, 1]", lambda x: (x >= 0) & (x <= 1))
binary = Support("0 or 1", lambda x: (x == 0) | (x == 1))
one_hot = Support("one-hot over its last dim", _one_hot, event_rank=1)
simplex = Support("non-negative with sum 1 over its last dim", _simplex, event_rank=1)
real_vector = Support("a number", lambda x: (x == x).all(-1), event_rank=1)
