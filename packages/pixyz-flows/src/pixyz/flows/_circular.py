"""Splines of the circle."""

import math

import torch
from torch import Tensor

from pixyz.distributions import Interval

from ._bijection import Mapped
from ._monotone import bound_by
from ._spline import SplineMap

angle = Interval("an angle in [-π, π]", lower=-3.1415928, upper=3.1415928)  # as wide as π in float32, which is above π


class CircularSplineMap(SplineMap):
    r"""A rational-quadratic spline of angles in [-π, π), turned by a phase: a smooth map of the circle to itself.

    $$y = s(x) + \varphi \mod 2\pi, \qquad s(\pm\pi) = \pm\pi, \quad s'(-\pi) = s'(\pi)$$

    The parameters are those of a `SplineMap`, one slope more, which both ends have, and φ. All 0 give the identity. Networks see an angle
    as its cosine and its sine, so that what they give has no jump at ±π either. An angle π is the same as -π, and comes back as that.

    Args:
        bins: K, at least 2.
        smallest: the least slope, and the least ratio of two bins' sizes, in (0, 1).

    Raises:
        KindError: for sizes that are none.

    Source:
        Rezende et al. (2020), section 2.3, https://arxiv.org/abs/2002.02428

    Examples:
        >>> quarter_turn = torch.zeros(2, CircularSplineMap().size)
        >>> quarter_turn[:, -1] = math.pi / 2
        >>> CircularSplineMap().push(torch.tensor([0.0, 3.0]), quarter_turn)[0]
        tensor([ 1.5708, -1.7124])
    """

    domain = angle
    views = 2

    def __init__(self, bins: int = 8, *, smallest: float = 1e-3) -> None:
        super().__init__(bins, math.pi, smallest=smallest)
        self.size = 3 * bins + 1
        rate = -1.0 / math.log(smallest)
        bound_by(self, [2 * rate] * (2 * bins) + [rate] * bins)

    def push(self, x: Tensor, params: Tensor) -> Mapped:
        y, log_slope = super().push(x, params[..., :-1])
        return _wrap(y + _wrap(params[..., -1])), log_slope

    def pull(self, y: Tensor, params: Tensor) -> Mapped:
        return super().pull(_wrap(y - _wrap(params[..., -1])), params[..., :-1])

    def seen(self, x: Tensor) -> Tensor:
        return torch.cat([x.cos(), x.sin()], 1)

    def _at_knots(self, log_slopes: Tensor) -> Tensor:
        return torch.cat([log_slopes, log_slopes[..., :1]], -1)

    def extra_repr(self) -> str:
        """Its size, for `print`."""
        return f"bins={self.bins}"


def _wrap(angle: Tensor) -> Tensor:
    """The same angle in [-π, π)."""
    return (angle + math.pi).remainder(2 * math.pi) - math.pi
