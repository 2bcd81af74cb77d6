"""Transforms of torch.distributions, Pyro and zuko as bijections."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.transforms import Transform, _InverseTransform

from pixyz.core import ON_HOST, Checks, IntractableError, KindError, ShapeError
from pixyz.distributions import Interval, Support

from ._as_transform import BijectionTransform
from ._bijection import Bijection, Mapped, as_shape, real, sum_features


def from_transform(transform: Any, features: int | Sequence[int] | None = None, *, context: int = 0) -> Bijection:
    """A transform of torch.distributions, Pyro or zuko as a bijection, with its parameters.

    Forward is the transform's own direction: in zuko it leads from data to noise, in Pyro from noise to data.

    Args:
        transform: a `torch.distributions.Transform`, composed or not, as Pyro's are; one of Pyro's that `.condition(context)` gives; or
            of zuko, a lazy transform, or a flow, of which it is the transform.
        features: the features of x, D or a shape; any, if not given.
        context: how many features the context has, of a conditional one.

    Returns:
        A bijection like any other; of `f.as_transform()`, f. Numbers that a transform has as constants stay as they are; modules in it are
        trained, moved and saved.

    Raises:
        KindError: for what is no transform, or one that is not bijective, or for a context where none is taken.
        ShapeError: for features of fewer dims than one event of it has, or which it changes and that are not given.
        IntractableError: at an evaluation, for a direction that it does not have.

    Examples:
        >>> from torch.distributions import AffineTransform, ComposeTransform, ExpTransform
        >>> f = from_transform(ComposeTransform([AffineTransform(0.0, 2.0), ExpTransform()]))
        >>> f.forward_and_log_det(torch.zeros(1, 2))
        (tensor([[1., 1.]]), tensor([1.3863]))
    """
    if isinstance(transform, nn.Module) and isinstance(getattr(transform, "base", None), nn.Module):
        transform = getattr(transform, "transform", transform)  # a flow of zuko's: a transform of a base
    if isinstance(transform, BijectionTransform) and transform.context is None:
        return transform.of
    if isinstance(transform, _InverseTransform):  # a copy of which forgets what it inverts
        behind = as_shape(features, "from_transform")
        return from_transform(transform.inv, behind and transform.forward_shape(behind), context=context).inverse
    return FromTransform(transform, features, context=context)


class FromTransform(Bijection):
    """A transform of another library; made by `from_transform`.

    Args:
        of: the transform, or what gives it for a context.
        shape: the features of x; any, if not given.
        context: how many features the context has.
    """

    def __init__(self, of: Any, shape: int | Sequence[int] | None, *, context: int) -> None:
        super().__init__(shape, context=context)
        self.of = of
        self.inside = nn.ModuleList([] if isinstance(of, nn.Module) else _modules_in(of))
        who = f"from_transform: {self.words}"
        is_conditional = not isinstance(of, Transform)
        if is_conditional and not (hasattr(of, "condition") or isinstance(of, nn.Module)):
            raise KindError(f"from_transform takes a transform of torch.distributions, Pyro or zuko; got a {type(of).__name__}.")
        if context and not is_conditional:
            raise KindError(f"{who} takes no context; leave context= out.")
        if not context and hasattr(of, "condition"):
            raise KindError(f"{who} takes a context; say how many features it has, with context=.")
        like = next(self.parameters(), torch.empty(()))
        with torch.no_grad():
            transform = self._given(torch.zeros(1, context, dtype=like.dtype, device=like.device) if context else None)
        if not isinstance(transform, Transform):
            raise KindError(f"{who} gives a {type(transform).__name__}, where a transform of torch.distributions is needed.")
        if not transform.bijective:
            raise KindError(f"{who} is not bijective, so it has no density; only bijective transforms make flows.")
        self.rank = transform.domain.event_dim
        self.domain, self.codomain = _support(transform.domain), _support(transform.codomain)
        self.out_shape = self._shape_behind(transform, who)

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        if not x.shape[0]:  # which torch's transforms cannot map
            return x.reshape(0, *(self.out_shape or x.shape[1:])), x.new_zeros(0)
        with self._unchanged():
            return _apply(self._given(context), x)

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        if not y.shape[0]:
            return y.reshape(0, *(self.in_shape or y.shape[1:])), y.new_zeros(0)
        with self._unchanged():
            transform = self._given(context)
            try:
                if hasattr(transform, "call_and_ladj"):
                    return _apply(transform.inv, y)
                x = transform.inv(y)
            except (NotImplementedError, KeyError) as error:  # Pyro's planar one looks for the value in its cache
                raise IntractableError(f"{self.words} has no inverse in closed form; only its forward_and_log_det is known.") from error
            return x, sum_features(-transform.log_abs_det_jacobian(x, y))

    @property
    def words(self) -> str:
        return f"the {type(self.of).__name__}"

    def check(self, x: Tensor, context: Tensor | None, *, who: object, name: str, checks: Checks = ON_HOST) -> None:
        self._check_rank(x, who, name)
        super().check(x, context, who=who, name=name, checks=checks)

    def check_back(self, y: Tensor, context: Tensor | None, *, who: object, name: str, checks: Checks = ON_HOST) -> None:
        self._check_rank(y, who, name)
        super().check_back(y, context, who=who, name=name, checks=checks)

    def _check_rank(self, t: Tensor, who: object, name: str) -> None:
        if t.ndim <= self.rank:
            raise ShapeError(f"{who}: {name} has features {tuple(t.shape[1:])}, but an event of {self.words} has {self.rank} dims.")

    def _given(self, context: Tensor | None) -> Any:
        if isinstance(self.of, Transform):
            return self.of
        return self.of.condition(context) if hasattr(self.of, "condition") else self.of(context)

    def _shape_behind(self, transform: Transform, who: str) -> tuple[int, ...] | None:
        if self.in_shape is None:
            probe = (2,) * self.rank
            if getattr(transform, "in_shape", None) is not None or tuple(transform.forward_shape(probe)) != probe:
                raise ShapeError(f"{who} changes the shape of what it maps, so the features of x must be given.")
            return None
        if len(self.in_shape) < self.rank:
            raise ShapeError(f"{who} maps events of {self.rank} dims, but the features are {self.in_shape}.")
        try:
            return tuple(transform.forward_shape(self.in_shape))
        except ValueError as error:
            raise ShapeError(f"{who} cannot map features {self.in_shape}: {error}.") from error

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Forgets what modules have kept of an evaluation, as Pyro's do."""
        if torch.compiler.is_compiling():
            yield
            return
        held = [(m.__dict__, dict(m.__dict__)) for m in self.modules()]
        try:
            yield
        finally:
            for now, before in held:
                now.clear()
                now.update(before)


def _apply(transform: Any, x: Tensor) -> Mapped:
    if hasattr(transform, "call_and_ladj"):  # zuko's, which computes both in one pass
        y, log_det = transform.call_and_ladj(x)
    else:
        y = transform(x)
        log_det = transform.log_abs_det_jacobian(x, y)
    return y, sum_features(log_det)


def _modules_in(transform: Any) -> list[nn.Module]:
    """The modules that a transform is made of."""
    found: list[nn.Module] = []
    seen: list[Any] = []
    waiting = [transform]
    while waiting:
        one = waiting.pop()
        if any(one is other for other in seen):  # the inverse of an inverse
            continue
        seen.append(one)
        if isinstance(one, nn.Module):
            found.append(one)
        elif isinstance(one, Transform):
            inner = (getattr(one, "base_transform", None), getattr(one, "_inv", None), getattr(one, "of", None))
            waiting += [*getattr(one, "parts", ()), *getattr(one, "transforms", ()), *inner]
    return found


def _support(constraint: Any) -> Support:
    """An interval where a constraint is one; any numbers where it is another, which the transform itself looks after."""
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    low, high = getattr(constraint, "lower_bound", -math.inf), getattr(constraint, "upper_bound", math.inf)
    if isinstance(low, Tensor) or isinstance(high, Tensor) or (math.isinf(low) and math.isinf(high)):
        return real
    is_open = isinstance(constraint, (constraints.greater_than, constraints.less_than))
    words = f"in [{low:g}, {high:g}]" if not is_open else f"greater than {low:g}" if math.isinf(high) else f"less than {high:g}"
    return Interval(words, lower=low, upper=high, open_below=is_open, open_above=is_open or not math.isfinite(high))
