"""Monotone rational-quadratic splines."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pixyz.core import KindError, is_whole, need_finite

from ._bijection import Mapped
from ._monotone import MonotoneMap, bound_by, need_smallest, soft_bounded


class SplineMap(MonotoneMap):
    r"""A monotone rational-quadratic spline on [-bound, bound], and the identity beyond.

    With the knots $(x_k, y_k)$, slopes $d_k$ there, $s_k = (y_{k+1}-y_k)/(x_{k+1}-x_k)$ and $\xi = (x-x_k)/(x_{k+1}-x_k)$:

    $$y = y_k + \frac{(y_{k+1}-y_k)\left[s_k\xi^2 + d_k\,\xi(1-\xi)\right]}{s_k + (d_{k+1}+d_k-2s_k)\,\xi(1-\xi)}$$

    The parameters are K widths and K heights, of which the softmax is taken, and the logarithms of the K - 1 inner slopes; each is bounded
    softly, so that no bin and no slope vanishes. All 0 give the identity.

    Where the slope is tiny, its inverse is ill-conditioned: x is then as good as y is known, which is to the last digit of the interval.
    Values stay in the interval, and x and y lie on the graph of the spline to a few such digits, whatever the parameters.

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
        need_finite(bound, "bound", "SplineMap")
        if bound <= 0:
            raise KindError(f"SplineMap: bound must be positive; got {bound!r}.")
        need_smallest(smallest, "SplineMap")
        self.bins, self.bound = bins, bound
        self.size = 3 * bins - 1
        rate = -1.0 / math.log(smallest)
        bound_by(self, [2 * rate] * (2 * bins) + [rate] * (bins - 1))

    def push(self, x: Tensor, params: Tensor) -> Mapped:
        inside = x.clamp(-self.bound, self.bound)
        u = (inside + self.bound) / (2 * self.bound)
        left, right, bottom, top, d0, d1, s = self._bin(u, params, 0)
        xi = (u - left) / (right - left)
        lower, upper = torch.lerp(d0, s, xi), torch.lerp(s, d1, xi)
        # Both parts of the height are positive, so the ratio stays in [0, 1], whatever is rounded.
        before = xi * lower
        below = before + (1 - xi) * upper
        v = torch.lerp(bottom, top, before / below)
        slope = torch.lerp(lower, upper, xi) * (s / below).square()
        # Outside, what was clamped off is added to the end of the spline, which is the identity there with slope 1.
        return torch.add(v * (2 * self.bound) - self.bound, x - inside), slope.log()

    def pull(self, y: Tensor, params: Tensor) -> Mapped:
        inside = y.clamp(-self.bound, self.bound)
        v = (inside + self.bound) / (2 * self.bound)
        left, right, bottom, top, d0, d1, s = self._bin(v, params, 1)
        t = (v - bottom) / (top - bottom)
        rest = 1 - t
        # The discriminant of the quadratic equation for xi, and xi : 1 - xi, as sums of positive terms, so that nothing cancels.
        double = 2 * s
        p, q = double * t, double * rest
        bent = d0 * rest - d1 * t
        root = torch.addcmul(p * q, bent, bent).sqrt()
        larger, rises = root + bent.abs(), bent > 0
        before, behind = torch.where(rises, p, larger), torch.where(rises, larger, q)
        whole = before + behind
        xi = before / whole
        below = torch.addcmul(s, d0 + d1 - double, xi * (behind / whole))  # of 1 - xi, few digits would be left
        u = torch.lerp(left, right, xi)
        return torch.add(u * (2 * self.bound) - self.bound, y - inside), (below / (s * root)).log()

    def _bin(self, u: Tensor, params: Tensor, side: int) -> tuple[Tensor, ...]:
        """The bin in which numbers in [0, 1] lie, by widths (side 0) or heights (side 1).

        Returns:
            x of its two knots, y of both, the slopes there, and its mean slope s, of the shape of u. Neighbouring bins have the same
            knot between them, so a number lies between the knots of its bin; s has all digits, however small the bin is.
        """
        k = self.bins
        params = soft_bounded(self, params)
        sizes = params[..., : 2 * k].unflatten(-1, (2, k)).softmax(-1)
        inner = sizes[..., :-1].cumsum(-1)
        knots = F.pad(F.pad(inner, (1, 0)), (0, 1), value=1.0)
        widths, heights = sizes.unbind(-2)
        slopes = torch.stack([self._at_knots(params[..., 2 * k :]).exp(), F.pad(heights / widths, (0, 1))], -2)
        table = torch.cat([knots, slopes], -2)
        index = (u.unsqueeze(-1) > inner[..., side, :]).sum(-1)
        ends = torch.stack([index, index + 1], -1).unsqueeze(-2)
        found = table.gather(-1, ends.expand(*index.shape, 4, 2))
        return found.flatten(-2).unbind(-1)[:-1]

    def _at_knots(self, log_slopes: Tensor) -> Tensor:
        """The logarithms of the slopes at all K + 1 knots: 0 at both ends, where the identity follows."""
        return F.pad(log_slopes, (1, 1))

    def extra_repr(self) -> str:
        """Its sizes, for `print`."""
        return f"bins={self.bins}, bound={self.bound:g}"
