"""Monotone rational-quadratic splines."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pixyz.core import KindError, is_whole

from ._bijection import Mapped
from ._monotone import MonotoneMap, bound_by, need_smallest, soft_bounded


class SplineMap(MonotoneMap):
    r"""A monotone rational-quadratic spline on [-bound, bound], and the identity beyond.

    With the knots $(x_k, y_k)$, slopes $d_k$ there, $s_k = (y_{k+1}-y_k)/(x_{k+1}-x_k)$ and $\xi = (x-x_k)/(x_{k+1}-x_k)$:

    $$y = y_k + \frac{(y_{k+1}-y_k)\left[s_k\xi^2 + d_k\,\xi(1-\xi)\right]}{s_k + (d_{k+1}+d_k-2s_k)\,\xi(1-\xi)}$$

    The parameters are K widths and K heights, of which the softmax is taken, and the logarithms of the K - 1 inner slopes; each is bounded
    softly, so that no bin and no slope vanishes. All 0 give the identity.

    Args:
        bins: K, at least 2.
        bound: the half of the interval.
        smallest: the least slope, and the least ratio of two bins' sizes, in (0, 1).

    Raises:
        KindError: for sizes that are none.

    Source:
        Durkan et al. (2019), eq. 4 to 8, https://arxiv.org/abs/1906.04032

    Examples:
        >>> spline = SplineMap(bins=4, bound=3.0)
        >>> y, log_slope = spline.push(torch.tensor([0.5, 7.0]), torch.zeros(2, spline.size))
        >>> y
        tensor([0.5000, 7.0000])
    """

    def __init__(self, bins: int = 8, bound: float = 5.0, *, smallest: float = 1e-3) -> None:
        super().__init__()
        if not is_whole(bins) or bins < 2:
            raise KindError(f"SplineMap: bins must be a whole number of at least 2; got {bins!r}.")
        if not bound > 0:
            raise KindError(f"SplineMap: bound must be positive; got {bound!r}.")
        need_smallest(smallest, "SplineMap")
        self.bins, self.bound = bins, bound
        self.size = 3 * bins - 1
        rate = -1.0 / math.log(smallest)
        bound_by(self, [2 * rate] * (2 * bins) + [rate] * (bins - 1))

    def push(self, x: Tensor, params: Tensor) -> Mapped:
        inside = x.clamp(-self.bound, self.bound)
        u = (inside + self.bound) / (2 * self.bound)
        w, h, right, top, d0, d1 = self._bin(u, params, 0)
        s = h / w
        xi = (u - right) / w + 1
        rest = 1 - xi
        both = xi * rest
        below = s + (d0 + d1 - 2 * s) * both
        v = top - h + h * (s * xi.square() + d0 * both) / below
        slope = s.square() * (d1 * xi.square() + 2 * s * both + d0 * rest.square()) / below.square()
        # Outside, what was clamped off is added to the end of the spline, which is the identity there with slope 1.
        return torch.add(v * (2 * self.bound) - self.bound, x - inside), slope.log()

    def pull(self, y: Tensor, params: Tensor) -> Mapped:
        inside = y.clamp(-self.bound, self.bound)
        v = (inside + self.bound) / (2 * self.bound)
        w, h, right, top, d0, d1 = self._bin(v, params, 1)
        s = h / w
        t = (v - top) / h + 1
        bent = (d0 + d1 - 2 * s) * t
        a, b, c = s - d0 + bent, d0 - bent, -s * t
        # The root in the form without cancellation; rounding may make the discriminant negative at a rim.
        xi = 2 * c / (-b - (b.square() - 4 * a * c).clamp_min(0).sqrt())
        rest = 1 - xi
        both = xi * rest
        below = s + (d0 + d1 - 2 * s) * both
        slope = s.square() * (d1 * xi.square() + 2 * s * both + d0 * rest.square()) / below.square()
        u = right - w + w * xi
        return torch.add(u * (2 * self.bound) - self.bound, y - inside), -slope.log()

    def _bin(self, u: Tensor, params: Tensor, side: int) -> tuple[Tensor, ...]:
        """The bin in which numbers in [0, 1] lie, by widths (side 0) or heights (side 1).

        Returns:
            Its width and height, its right and upper end, and the slopes at both ends, of the shape of u.
        """
        k = self.bins
        params = soft_bounded(self, params)
        sizes = params[..., : 2 * k].unflatten(-1, (2, k)).softmax(-1)
        ends = sizes.cumsum(-1)
        slopes = self._at_knots(params[..., 2 * k :]).exp()
        table = torch.cat([sizes, ends, torch.stack([slopes[..., :-1], slopes[..., 1:]], -2)], -2)
        index = (u.unsqueeze(-1) >= ends[..., side, :-1]).sum(-1)
        found = table.gather(-1, index[..., None, None].expand(*index.shape, 6, 1)).squeeze(-1)
        return found.unbind(-1)

    def _at_knots(self, log_slopes: Tensor) -> Tensor:
        """The logarithms of the slopes at all K + 1 knots: 0 at both ends, where the identity follows."""
        return F.pad(log_slopes, (1, 1))

    def extra_repr(self) -> str:
        """Its sizes, for `print`."""
        return f"bins={self.bins}, bound={self.bound:g}"
