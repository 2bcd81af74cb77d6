"""Functions with a derivative of their own, where that of their operations is a difference of larger numbers, or overflows."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def needs_gradient(*inputs: Tensor) -> bool:
    """Whether a gradient is asked for, and taken operation by operation; a compiler fuses the operations of the formula itself."""
    return torch.is_grad_enabled() and any([t.requires_grad for t in inputs]) and not torch.compiler.is_compiling()


def with_slope(value: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function of each element, and its derivative, which is derived by its operations."""

    class Own(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(t: Tensor) -> Tensor:
            return value(t)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
            (t,) = ctx.saved_tensors
            return grad * slope(t)

        @staticmethod
        def jvp(ctx: Any, tangent: Tensor) -> Tensor:  # type: ignore[override]
            (t,) = ctx.saved_tensors
            return tangent * slope(t)

    return lambda t: Own.apply(t) if needs_gradient(t) else value(t)


exp_less = with_slope(lambda r: r.exp() - r.clamp_max(100), torch.expm1)
"""e^r - r; where r is beyond 100 it is lost beside e^r, and where both are infinite the difference is none."""
log_logistic = with_slope(lambda z: -z.abs() - 2 * torch.log1p((-z.abs()).exp()), lambda z: -torch.tanh(z / 2))
"""log σ(z) + log σ(-z) for the logistic function σ."""


def log_quotient(a: Tensor, b: Tensor) -> Tensor:
    """log a/b for positive a and b, also where a/b, or the derivative of it, overflows."""
    return _LogQuotient.apply(a, b) if needs_gradient(a, b) else _log_quotient(a, b)


def _log_quotient(a: Tensor, b: Tensor) -> Tensor:
    ratio, limits = a / b, torch.finfo(a.dtype)
    inside = (ratio >= limits.tiny) & (ratio <= limits.max)
    return torch.where(inside, torch.where(inside, ratio, 1.0).log(), a.log() - b.log())


class _LogQuotient(torch.autograd.Function):
    """`log_quotient` with its derivatives, 1/a and -1/b."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return _log_quotient(a, b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        a, b = ctx.saved_tensors
        by_a, by_b = ctx.needs_input_grad
        return (grad / a).sum_to_size(a.shape) if by_a else None, (-grad / b).sum_to_size(b.shape) if by_b else None

    @staticmethod
    def jvp(ctx: Any, of_a: Tensor | None, of_b: Tensor | None) -> Tensor:  # type: ignore[override]
        a, b = ctx.saved_tensors
        slope = torch.zeros_like(a / b)
        slope = slope if of_a is None else slope + of_a / a
        return slope if of_b is None else slope - of_b / b
