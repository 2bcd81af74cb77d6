r"""Means over the samples of an expectation: the arithmetic one, and those of importance-weighted bounds.

The power mean of order α, of values whose exponentials are averaged (Li and Turner 2016, eq. 5, https://arxiv.org/abs/1602.02311), is

$$\frac{1}{1-\alpha}\log\frac{1}{K}\sum_{k=1}^K e^{(1-\alpha) f_k} ,$$

the arithmetic mean for α → 1, and the log-mean-exp for α = 0.
"""

import math

import torch
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


def advantages(t: Tensor, axis: int, order: float) -> Tensor:
    r"""For each place on the axis, K times what the power mean gains over that with the arithmetic mean of the others in its place.

    In the arithmetic mean that is what the place has more than the others have in the mean; in another one, with s = 1 - α, and L the
    log-sum-exp of the others' s f,

    $$\frac{K}{s}\left[\log\left(1 + e^{s f_k - L_k}\right) - \log\left(1 + e^{s \bar f_{-k} - L_k}\right)\right] .$$

    It takes memory for K numbers, not K². A single place has no others, and gains all of itself.
    """
    count = t.shape[axis]
    if count == 1:
        return t
    if order == 1:
        return t - (t.sum(axis, keepdim=True) - t) / (count - 1)
    scale = 1 - order
    scaled = scale * t
    scaled = scaled - scaled.amax(axis, keepdim=True).clamp_min(torch.finfo(t.dtype).min)  # the greatest is 0
    others = _sum_of_others(scaled, axis) / (count - 1)
    place = scaled.argmax(axis, keepdim=True)
    without_greatest = scaled.scatter(axis, place, -math.inf).logsumexp(axis, keepdim=True)
    rest = _sum_of_others(scaled.exp(), axis).log().scatter(axis, place, without_greatest)
    zero = t.new_zeros(())
    return (torch.logaddexp(scaled - rest, zero) - torch.logaddexp(others - rest, zero)) * (count / scale)


def _sum_of_others(t: Tensor, axis: int) -> Tensor:
    """For each place on the axis, the sum of the others. The greatest in size is never subtracted, for it may be all of the sum."""
    place = t.abs().argmax(axis, keepdim=True)
    rest = t.scatter(axis, place, 0.0).sum(axis, keepdim=True)
    total = rest + t.gather(axis, place)
    return torch.where(t.isinf(), total, total - t).scatter(axis, place, rest)
