r"""Means over the samples of an expectation: the arithmetic one, and those of importance-weighted bounds.

The power mean of order α, of values whose exponentials are averaged (Li and Turner 2016, eq. 5, https://arxiv.org/abs/1602.02311), is

$$\frac{1}{1-\alpha}\log\frac{1}{K}\sum_{k=1}^K e^{(1-\alpha) f_k} ,$$

the arithmetic mean for α → 1, and the log-mean-exp for α = 0.
"""

import math

from torch import Tensor

from ._errors import KindError
from ._variables import is_number

ORDERS = {"mean": 1.0, "log_mean_exp": 0.0}


def order_of(aggregate: str | float, who: str) -> float:
    """The order α of an aggregate.

    Raises:
        KindError: for a name that is none, or an order that is no finite number.
    """
    if isinstance(aggregate, str) and aggregate in ORDERS:
        return ORDERS[aggregate]
    if is_number(aggregate) and math.isfinite(aggregate):
        return float(aggregate)
    raise KindError(f"{who}: aggregate must be {', '.join(map(repr, ORDERS))}, or the order of a Rényi bound, a number; got {aggregate!r}.")


def power_mean(t: Tensor, axis: int, order: float) -> Tensor:
    """The power mean over one axis."""
    if order == 1:
        return t.mean(axis)
    scale = 1 - order
    return ((scale * t).logsumexp(axis) - math.log(t.shape[axis])) / scale


def without_each(t: Tensor, axis: int, order: float) -> Tensor:
    """For each place on the axis, the power mean with the arithmetic mean of the others in its place; zero for a single one."""
    count = t.shape[axis]
    if count == 1:
        return t * 0
    others = (t.sum(axis, keepdim=True) - t) / (count - 1)
    if order == 1:
        return others
    # Each row of the square has one place filled with the mean of the others.
    axis = axis % t.ndim
    square = t.unsqueeze(axis).expand(*t.shape[:axis], count, *t.shape[axis:]).clone()
    square.diagonal(dim1=axis, dim2=axis + 1).copy_(others.movedim(axis, -1))
    return power_mean(square, axis + 1, order)
