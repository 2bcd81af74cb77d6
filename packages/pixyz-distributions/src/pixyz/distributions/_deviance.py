"""What is left of a logarithm when its leading terms cancel: differences that keep all their digits where both sides are nearly equal."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._logs import safe_log
from ._slopes import needs_gradient, with_slope

_NEAR = 0.25
_VERY_NEAR = 0.1  # where the loss of a digit beyond is worth the shorter series: it stands in the divergence of normal distributions
# The positive ones of Gauss and Legendre's points on [-1, 1], with their weights: four points for single precision, and eight.
_FOUR = ((0.33998104358485626, 0.65214515486254614), (0.86113631159405258, 0.34785484513745386))
_EIGHT = (
    (0.1834346424956498, 0.36268378337836198),
    (0.52553240991632899, 0.31370664587788729),
    (0.79666647741362674, 0.22238103445337447),
    (0.96028985649753623, 0.10122853629037626),
)


def excess(change: Tensor, ratio: Tensor) -> Tensor:
    r"""r - 1 - log r ≥ 0 for a ratio r > 0, (r-1)²/2 near 1.

    With v = (r-1)/(r+1), log r is 2 artanh v, so that it is v (r - 1 - 2 (artanh(v)/v - 1)), and the series of artanh has all digits.

    Args:
        change: r - 1, to as many digits as are known.
        ratio: r, likewise; through it comes the gradient, whichever of the two is used.
    """
    return _Excess.apply(change, ratio) if needs_gradient(ratio) else _excess(change, ratio)


def scale_divergence(a: Tensor, b: Tensor) -> Tensor:
    """`excess` of the ratio a/b of positive numbers, which need be no number of the dtype; through both comes the gradient."""
    return _ScaleDivergence.apply(a, b) if needs_gradient(a, b) else _scale_divergence(a, b)


def normal_divergence(a: Tensor, b: Tensor, shift: Tensor) -> Tensor:
    r"""KL of normal distributions, $r - 1 - \log r + \tfrac12\left((r-1)^2 + s^2\right)$ with r = a/b.

    Args:
        a: the standard deviation of the left one.
        b: that of the right one.
        shift: how far the means are apart, in standard deviations of the right one.
    """
    by_slope = needs_gradient(a, b, shift)
    return _NormalDivergence.apply(a, b, shift) if by_slope else _normal_divergence(a, b, shift)


def _excess(change: Tensor, ratio: Tensor) -> Tensor:
    v = change / (1 + ratio)
    near = v * torch.sub(change, _artanh_excess(v, _VERY_NEAR), alpha=2)
    return torch.where(v.abs() < _VERY_NEAR, near, change - ratio.log())


def _scale_divergence(a: Tensor, b: Tensor) -> Tensor:
    change = (a - b) / b
    v = (a - b) / (a + b)
    near = v * torch.sub(change, _artanh_excess(v, _VERY_NEAR), alpha=2)
    half_log = (a.sqrt() / b.sqrt()).log()  # a/b may be no number of the dtype
    return torch.where(v.abs() < _VERY_NEAR, near, torch.sub(change, half_log, alpha=2))


def _normal_divergence(a: Tensor, b: Tensor, shift: Tensor) -> Tensor:
    return torch.add(_scale_divergence(a, b), ((a - b) / b).square() + shift.square(), alpha=0.5)


class _Excess(torch.autograd.Function):
    """`excess` with its derivative, (r-1)/r, in place of that of the series and the logarithm, which takes some thirty operations."""

    generate_vmap_rule = True

    @staticmethod
    def forward(change: Tensor, ratio: Tensor) -> Tensor:
        return _excess(change, ratio)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        return None, grad * _slope(*ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, change: Tensor, ratio: Tensor) -> Tensor:  # type: ignore[override]
        return ratio * _slope(*ctx.saved_tensors)


def _slope(change: Tensor, ratio: Tensor) -> Tensor:
    """1 - 1/r."""
    return _Slope.apply(change, ratio) if needs_gradient(ratio) else change / ratio


class _Slope(torch.autograd.Function):
    """The derivative of `excess`, whose own, 1/r², has all digits too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(change: Tensor, ratio: Tensor) -> Tensor:
        return change / ratio

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.save_for_forward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        (ratio,) = ctx.saved_tensors
        return None, grad / ratio / ratio

    @staticmethod
    def jvp(ctx: Any, change: Tensor, ratio: Tensor) -> Tensor:  # type: ignore[override]
        (r,) = ctx.saved_tensors
        return ratio / r / r


class _ScaleDivergence(torch.autograd.Function):
    """`scale_divergence` with its derivatives, 1/b - 1/a and 1/b - a/b²."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return _scale_divergence(a, b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        a, b = ctx.saved_tensors
        by_a, by_b = ctx.needs_input_grad
        return (
            (grad * inverse_gap(a, b)).sum_to_size(a.shape) if by_a else None,
            (grad * ((b - a) / b / b)).sum_to_size(b.shape) if by_b else None,
        )

    @staticmethod
    def jvp(ctx: Any, by_a: Tensor, by_b: Tensor) -> Tensor:  # type: ignore[override]
        a, b = ctx.saved_tensors
        return by_a * inverse_gap(a, b) + by_b * ((b - a) / b / b)


def inverse_gap(a: Tensor, b: Tensor) -> Tensor:
    """1/b - 1/a."""
    return _InverseGap.apply(a, b) if needs_gradient(a, b) else (a - b) / b / a


class _InverseGap(torch.autograd.Function):
    """`inverse_gap` with its derivatives, 1/a² and -1/b², which have all digits too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return (a - b) / b / a

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        a, b = ctx.saved_tensors
        return (grad / a / a).sum_to_size(a.shape), (-grad / b / b).sum_to_size(b.shape)

    @staticmethod
    def jvp(ctx: Any, by_a: Tensor, by_b: Tensor) -> Tensor:  # type: ignore[override]
        a, b = ctx.saved_tensors
        return by_a / a / a - by_b / b / b


class _NormalDivergence(torch.autograd.Function):
    """`normal_divergence` with its derivatives, a/b² - 1/a, 1/b - a²/b³ and s."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor, shift: Tensor) -> Tensor:
        return _normal_divergence(a, b, shift)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # type: ignore[override]
        a, b, shift = ctx.saved_tensors
        by_a, by_b, by_shift = ctx.needs_input_grad
        return (
            (grad * _by_left_scale(a, b)).sum_to_size(a.shape) if by_a else None,
            (grad * _by_right_scale(a, b)).sum_to_size(b.shape) if by_b else None,
            (grad * shift).sum_to_size(shift.shape) if by_shift else None,
        )

    @staticmethod
    def jvp(ctx: Any, by_a: Tensor, by_b: Tensor, by_shift: Tensor) -> Tensor:  # type: ignore[override]
        a, b, shift = ctx.saved_tensors
        return by_a * _by_left_scale(a, b) + by_b * _by_right_scale(a, b) + by_shift * shift


def _by_left_scale(a: Tensor, b: Tensor) -> Tensor:
    return (a - b) / b / b + inverse_gap(a, b)


def _by_right_scale(a: Tensor, b: Tensor) -> Tensor:
    return (b - a) / b * ((a + b) / b) / b


def _exp_excess(r: Tensor) -> Tensor:
    v, t = torch.tanh(r / 2), torch.expm1(r)
    near = v * torch.sub(t, _artanh_excess(v, _VERY_NEAR), alpha=2)
    return torch.where(v.abs() < _VERY_NEAR, near, t - r)


def log_ratio(a: Tensor, b: Tensor, gap: Tensor | None = None) -> Tensor:
    """log a/b for positive a and b, precise where they are nearly equal.

    Args:
        a: the numerator.
        b: the denominator.
        gap: a - b, if it is known to more digits than the difference of both has.
    """
    gap = a - b if gap is None else gap
    return torch.where(gap > 0, torch.log1p(gap.clamp_min(0) / b), -torch.log1p((-gap).clamp_min(0) / a))


def deviance(x: Tensor, m: Tensor, gap: Tensor, log_m: Tensor | None = None) -> Tensor:
    r"""x log(x/m) - x + m ≥ 0, half the unit deviance of a Poisson distribution, for x ≥ 0 and m ≥ 0:

    $$v\,(x-m) + 2x\,(\operatorname{artanh} v - v), \qquad v = \frac{x-m}{x+m}$$

    Where x is 0 it is m; where m alone is 0 it is infinite.

    Args:
        x: what came.
        m: what was expected.
        gap: x - m, to as many digits as are known.
        log_m: log m, where m may be 0 or have lost its digits by underflow.

    Source:
        Loader (2000), Fast and accurate computation of binomial probabilities, section 3
    """
    eps = torch.finfo(gap.dtype).eps
    none = x == 0
    some = torch.where(none, 1.0, x)  # where x is 0, the rest is finite, and not used
    v = gap / (some + m)
    near = v * torch.addcmul(gap, x, _artanh_excess(v, _NEAR), value=2)
    log = (some / m.clamp_min(eps**2)).log()  # by less, the gradient of a division overflows
    if log_m is not None:
        log = log + (2 * math.log(eps) - log_m).clamp_min(0).masked_fill(none & (log_m == -torch.inf), 0.0)
    return torch.where((v.abs() < _NEAR) & ~none, near, x * log - gap)


def poisson_deviance(x: Tensor, rate: Tensor) -> Tensor:
    """The `deviance` of a count, or a rate, from a rate that may be 0."""
    return deviance(x, rate, x - rate, safe_log(rate))


def renyi_of_logs(log_p: Tensor, log_q: Tensor, alpha: float, divergence: Tensor) -> Tensor:
    """The Rényi divergence of order α, in nats, of probabilities over the last dim, of which some may be 0.

    Near to one another it is log(1 + (α-1)(KL + E[e^r - 1 - r]/(α-1)))/(α-1) of r = (α-1) log p/q, in which nothing cancels.
    """
    impossible = log_p.isneginf()
    log_q = torch.where(impossible, 0.0, log_q)
    weighted = alpha * log_p + (1 - alpha) * log_q
    far = weighted.logsumexp(-1) / (alpha - 1)
    rise = (alpha - 1) * (torch.where(impossible, 0.0, log_p) - log_q).masked_fill(impossible, 0.0)
    near = (rise.abs() < 1).all(-1)
    bent = (log_p.exp() * exp_excess(torch.where(near.unsqueeze(-1), rise, 0.0))).sum(-1)
    by_divergence = torch.log1p((alpha - 1) * torch.where(near, divergence, 0.0) + bent) / (alpha - 1)
    return torch.where(near, by_divergence, far)


def bregman(curvature: Callable[[Tensor], Tensor], a: Tensor, gap: Tensor, near: Tensor, far: Tensor) -> Tensor:
    r"""What a convex function A lies above its tangent at a, a gap away: where that is near, by its second derivative,

    $$(b-a)^2\int_0^1 (1-s)\,A''(a + s\,(b-a))\,ds, \qquad b = a + \text{gap}$$

    Args:
        curvature: A''.
        a: where the tangent is.
        gap: b - a.
        near: where the gap is so small that a few points have all digits: a third of the distance of the nearest singularity.
        far: the divergence elsewhere.
    """
    step = torch.where(near, gap, 0.0)
    points = _EIGHT if torch.finfo(step.dtype).eps < 1e-9 else _FOUR
    nodes = [(0.5 + 0.5 * sign * t, 0.5 * weight) for t, weight in points for sign in (-1, 1)]
    bends = curvature(torch.stack([a + s * step for s, _ in nodes])).unbind()
    mean = sum([weight * (1 - s) * bend for (s, weight), bend in zip(nodes, bends)], torch.zeros_like(step))
    return torch.where(near, mean * step.square(), far)


def _artanh_excess(v: Tensor, reach: float) -> Tensor:
    """artanh(v)/v - 1 = v²/3 + v⁴/5 + ..., for |v| < `reach`, to all digits that the sum it stands in has."""
    square, last = v.square(), 1
    while reach ** (2 * last + 1) / (2 * last + 3) > torch.finfo(v.dtype).eps / 4:
        last += 1
    total: Tensor | float = 1 / (2 * last + 1)
    for n in range(last - 1, 0, -1):
        total = total * square + 1 / (2 * n + 1)
    return total * square


exp_excess = with_slope(_exp_excess, torch.expm1)
"""e^r - 1 - r ≥ 0, r²/2 near 0: `excess` of the ratio e^r."""
