"""Bijections as transforms of torch.distributions."""

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from pixyz.core import ShapeError
from pixyz.distributions import Support

from ._bijection import Bijection, Shape


class BijectionTransform(Transform):
    """A bijection, at one context, as a transform of torch.distributions; made by `f.as_transform()`.

    An event has the features' dims; before them there may be as many batch dims as there are. With `cache_size=1` the last value is kept,
    and its log-determinant, so that what was drawn is scored without another pass.

    Args:
        of: the bijection; its parameters are shared.
        context: `(context,)`, or `(*batch, context)`, which broadcasts to the batch.
        cache_size: 0 or 1.
    """

    bijective = True

    def __init__(self, of: Bijection, context: Tensor | None, *, cache_size: int = 0) -> None:
        if of.in_shape is None:
            raise ShapeError(f"as_transform: {of.words} takes any features, of which an event is not known; make it with a shape.")
        super().__init__(cache_size=cache_size)
        self.of, self.context = of, context
        self.shapes: tuple[Shape, Shape] = (of.in_shape, of.out_shape or of.in_shape)
        self._kept: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def domain(self) -> constraints.Constraint:  # type: ignore[override]
        return _constraint(self.of.domain, len(self.shapes[0]))

    @property
    def codomain(self) -> constraints.Constraint:  # type: ignore[override]
        return _constraint(self.of.codomain if self.of.codomain is not None else self.of.domain, len(self.shapes[1]))

    def with_cache(self, cache_size: int = 1) -> "BijectionTransform":
        """The same transform with another cache."""
        return self if cache_size == self._cache_size else BijectionTransform(self.of, self.context, cache_size=cache_size)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log|det dy/dx| in nats, `(*batch)`; by the direction that costs less."""
        if self._kept is not None and self._kept[0] is x and self._kept[1] is y:
            return self._kept[2]
        push, pull = self.of.push_passes, self.of.pull_passes
        if push is None or (pull is not None and pull < push):
            return -self._map(y, self.of.inverse)[1]
        return self._map(x, self.of)[1]

    def forward_shape(self, shape: Shape) -> Shape:
        """The shape of y for one of x."""
        return self._replaced(shape, *self.shapes)

    def inverse_shape(self, shape: Shape) -> Shape:
        """The shape of x for one of y."""
        return self._replaced(shape, *self.shapes[::-1])

    def _call(self, x: Tensor) -> Tensor:
        y, log_det = self._map(x, self.of)
        self._keep(x, y, log_det)
        return y

    def _inverse(self, y: Tensor) -> Tensor:
        x, log_det = self._map(y, self.of.inverse)
        self._keep(x, y, -log_det)
        return x

    def _keep(self, x: Tensor, y: Tensor, log_det: Tensor) -> None:
        if self._cache_size:
            self._kept = (x, y, log_det)

    def _map(self, t: Tensor, way: Bijection) -> tuple[Tensor, Tensor]:
        shape, behind = self.shapes if way is self.of else self.shapes[::-1]
        batch = t.shape[: t.ndim - len(shape)]
        context = self.context
        if context is not None:
            batch = torch.broadcast_shapes(batch, context.shape[:-1])
            context = context.expand(*batch, context.shape[-1]).reshape(-1, context.shape[-1])
            t = t.expand(*batch, *t.shape[t.ndim - len(shape) :])
        mapped, log_det = way.forward_and_log_det(t.reshape(-1, *t.shape[len(batch) :]), context)
        return mapped.reshape(*batch, *behind), log_det.reshape(batch)

    @staticmethod
    def _replaced(shape: Shape, old: Shape, new: Shape) -> Shape:
        if tuple(shape[len(shape) - len(old) :]) != old:
            raise ShapeError(f"The shape {tuple(shape)} does not end in the features {old}.")
        return torch.Size((*shape[: len(shape) - len(old)], *new))


def _as_transform(self: Bijection, context: Tensor | None = None, *, cache_size: int = 0) -> BijectionTransform:
    """This bijection as a `torch.distributions.Transform`, for that package's `TransformedDistribution` and whatever takes one.

    Args:
        context: at which context, `(context,)`, or `(*batch, context)`, which broadcasts to the batch.
        cache_size: 1 keeps the last value and its log-determinant, so that a draw is scored without another pass.

    Raises:
        ShapeError: for a bijection of any features, of which an event is not known.

    Examples:
        >>> from torch.distributions import Independent, Normal, TransformedDistribution
        >>> from pixyz.flows import Coupling
        >>> base = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
        >>> p = TransformedDistribution(base, [Coupling(2, context=3).as_transform(torch.zeros(3), cache_size=1)])
        >>> p.log_prob(p.rsample((5,))).shape
        torch.Size([5])
    """
    return BijectionTransform(self, context, cache_size=cache_size)


def _constraint(inside: Support | None, rank: int) -> constraints.Constraint:
    low, high = (inside.lower, inside.upper) if inside is not None else (-torch.inf, torch.inf)
    if low == -torch.inf and high == torch.inf:
        element: constraints.Constraint = constraints.real
    elif high == torch.inf:
        element = constraints.greater_than_eq(low)
    elif low == -torch.inf:
        element = constraints.less_than(high)
    else:
        element = constraints.interval(low, high)
    return constraints.independent(element, rank) if rank else element


Bijection.as_transform = _as_transform  # type: ignore[method-assign]
