"""What stands between raw data and a flow of the real numbers: a scale, the logit, dequantisation."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pixyz.core import KindError, ShapeError, SupportError, WithConstants, is_whole
from pixyz.distributions import Interval, outside

from ._bijection import Bijection, Inverse, Mapped, sum_features


class Scale(WithConstants, Bijection):
    r"""A fixed affine map: y = a x + b, with log-determinant $\sum_i \log|a_i|$.

    Data of mean m and deviation s are standardised by a = 1 / s, b = -m / s. The constants are saved with the weights.

    Args:
        scale: a, not 0: a number, which has all its digits in every dtype, or a tensor that broadcasts to the features.
        shift: b, likewise.
        shape: the features; any, if not given.
        bounds: the least and the greatest number that x may have, if there are such; needed before a `Logit`. For these, a and b are
            numbers.

    Raises:
        SupportError: for a scale of 0, or bounds in the wrong order.
        ShapeError: for bounds beside tensors.

    Examples:
        >>> f = Scale(2.0, torch.tensor([0.0, 1.0]))
        >>> y, log_det = f.forward_and_log_det(torch.ones(1, 2))
        >>> y, log_det
        (tensor([[2., 3.]]), tensor([1.3863]))
        >>> f.inverse_and_log_det(y)[0]
        tensor([[1., 1.]])
    """

    push_passes = pull_passes = 0
    constant_names = ("scale", "shift")
    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        scale: float | Tensor,
        shift: float | Tensor = 0.0,
        *,
        shape: int | Sequence[int] | None = None,
        bounds: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(shape)
        given = {"scale": scale, "shift": shift}
        kind = torch.get_default_dtype()
        self.give_constants({k: v if isinstance(v, (int, float)) else torch.as_tensor(v, dtype=kind) for k, v in given.items()})
        if not self.scale.is_meta and not (self.scale.isfinite() & (self.scale != 0)).all():
            raise SupportError(f"Scale: by 0, or by what is no finite number, there is no inverse; scale is {scale!r}.")
        if not self.shift.is_meta and not self.shift.isfinite().all():
            raise SupportError(f"Scale: shift must be finite; got {shift!r}.")
        if bounds is not None:
            low, high = bounds
            if self.scale.ndim or self.shift.ndim:
                raise ShapeError("Scale: bounds are the same for all features, so scale and shift must be numbers.")
            if not low < high:
                raise SupportError(f"Scale: bounds are the least and the greatest number, in this order; got {bounds!r}.")
            ends = sorted(float(scale) * t + float(shift) for t in bounds)
            self.domain, self.codomain = _between(low, high), _between(*ends)

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        return torch.addcmul(self._beside("shift", x), x, self._beside("scale", x)), self._log_det(x)

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        return (y - self._beside("shift", y)) / self._beside("scale", y), -self._log_det(y)

    def _log_det(self, x: Tensor) -> Tensor:
        return self._beside("scale", x).abs().log().expand(x.shape[1:]).sum()

    def _beside(self, name: str, x: Tensor) -> Tensor:
        """The constant in the dtype of x; whole numbers, as bytes, have none for it."""
        return self.constant_in(name, x.dtype) if x.is_floating_point() else getattr(self, name)


class Logit(Bijection):
    r"""The logit of numbers in (0, 1), of which a margin can be kept from both ends.

    $$y = \log\frac{p}{1 - p}, \quad p = \alpha + (1 - 2\alpha)\,x, \qquad \log\left|\det\frac{\partial y}{\partial x}\right| =
    \sum_i \log(1 - 2\alpha) - \log p_i - \log(1 - p_i)$$

    With α > 0, x may be 0 and 1 too. Its inverse, the `Sigmoid`, then reaches a little beyond [0, 1], as far as p is in (0, 1).

    Args:
        alpha: α, in [0, 1/2).
        shape: the features; any, if not given.

    Raises:
        SupportError: for another α.

    Source:
        Papamakarios et al. (2017), section 4.3, https://arxiv.org/abs/1705.07057

    Examples:
        >>> y, log_det = Logit().forward_and_log_det(torch.tensor([[0.5, 0.9]]))
        >>> y, log_det
        (tensor([[0.0000, 2.1972]]), tensor([3.7942]))
    """

    push_passes = pull_passes = 0

    def __init__(self, alpha: float = 0.0, *, shape: int | Sequence[int] | None = None) -> None:
        super().__init__(shape)
        if not 0 <= alpha < 0.5:
            raise SupportError(f"Logit: alpha, the margin at both ends, must be in [0, 1/2); got {alpha!r}.")
        self.alpha = alpha
        beyond = alpha / (1 - 2 * alpha)
        words = f"in ({-beyond:.4g}, {1 + beyond:.4g})" if alpha else "in (0, 1)"
        self.domain = Interval(words, lower=-beyond, upper=1 + beyond, open_below=True, open_above=True)

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        p = self.alpha + (1 - 2 * self.alpha) * x if self.alpha else x
        below, above = p.log(), (-p).log1p()
        return below - above, sum_features(math.log1p(-2 * self.alpha) - below - above)

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        # Rounding must not reach the ends, where push is infinite.
        kind = torch.finfo(y.dtype)
        p = y.sigmoid().clamp(kind.eps if self.alpha else kind.tiny, 1 - kind.eps)
        x = (p - self.alpha) / (1 - 2 * self.alpha) if self.alpha else p
        return x, sum_features(F.logsigmoid(y) + F.logsigmoid(-y) - math.log1p(-2 * self.alpha))

    def extra_repr(self) -> str:
        """Its margin, for `print`."""
        return f"alpha={self.alpha:g}"


class Sigmoid(Inverse):
    r"""From all numbers to (0, 1), the inverse of a `Logit`: $x = (\sigma(y) - \alpha) / (1 - 2\alpha)$.

    Args:
        alpha: α, in [0, 1/2).
        shape: the features; any, if not given.

    Raises:
        SupportError: for another α.

    Examples:
        >>> Sigmoid().forward_and_log_det(torch.zeros(1, 1))
        (tensor([[0.5000]]), tensor([-1.3863]))
    """

    def __init__(self, alpha: float = 0.0, *, shape: int | Sequence[int] | None = None) -> None:
        super().__init__(Logit(alpha, shape=shape))

    @property
    def words(self) -> str:
        return "the Sigmoid"


def dequantize(v: Tensor, levels: int, *, generator: torch.Generator | None = None) -> Tensor:
    r"""Whole numbers with uniform noise, as numbers in (0, 1), of which a density can be learnt: x = (v + u) / L, u from [0, 1).

    That density bounds the probability of the whole numbers, D to a datum, which `Model.log_likelihood(..., divided_by=L)` gives:

    $$\log P(v) \ge \mathbb{E}_u\left[\log p\left(\tfrac{v + u}{L}\right)\right] - D \log L$$

    It is no bijection, so it is called on the data, anew in each epoch. `(x * levels).floor()` is v again.

    Args:
        v: whole numbers from 0 to levels - 1, of any shape.
        levels: L, 256 for bytes.
        generator: draws u; torch's own, if not given.

    Returns:
        Of the shape of v, and of its kind if that is a floating one.

    Raises:
        KindError: for levels that are no whole number of at least 2.
        SupportError: for other values.

    Source:
        Theis et al. (2016), section 3.1, https://arxiv.org/abs/1511.01844

    Examples:
        >>> v = torch.tensor([[0, 128, 255]])
        >>> x = dequantize(v, 256)
        >>> (x * 256).floor()
        tensor([[  0., 128., 255.]])
    """
    if not is_whole(levels) or levels < 2:
        raise KindError(f"dequantize: levels, how many values there are, must be a whole number of at least 2; got {levels!r}.")
    whole = Interval(f"a whole number from 0 to {levels - 1}", lower=0.0, upper=levels - 1.0, whole=True)
    if not whole.holds(v):
        raise outside(v, whole, "dequantize: v")
    kind = v.dtype if v.is_floating_point() else torch.get_default_dtype()
    u = torch.rand(v.shape, generator=generator, dtype=kind, device=v.device)
    # A sum that rounding makes the next whole number would be another value; and 0 would be outside of a Logit's domain.
    x = torch.minimum((v + u) / levels, torch.nextafter((v.to(kind) + 1) / levels, torch.zeros((), dtype=kind, device=v.device)))
    return x.clamp_min(torch.finfo(kind).tiny)


def _between(low: float, high: float) -> Interval:
    return Interval(f"in [{low:g}, {high:g}]", lower=low, upper=high)
