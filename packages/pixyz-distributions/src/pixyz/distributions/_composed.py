"""Families made of another: truncated to an interval, or with zeros more often than they should be."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from pixyz.core import BATCH, Binding, Dims, Factor, KindError, Leaf, ParameterError, Scope, ShapeError, SupportError, Term, align, union

from ._eventwise import Eventwise
from ._family import Family, uniform_draw
from ._given import Given, broadcast_shapes
from ._logs import log_complement, safe_log
from ._rounding import between_zero_and_one
from ._supports import unit_interval


class Composed(Leaf):
    """A leaf over the variables of another, its `base`, for which it asks the scope."""

    has_scores = True

    def __init__(self, base: Family, name: str | None, **given: Any) -> None:
        if not isinstance(base, Family):
            raise KindError(f"{type(self).__name__} takes a family of distributions; got a {type(base).__name__}.")
        super().__init__(var=base.var, cond_var=base.cond_var, name=base.name if name is None else name, **given)
        self.base = base

    def base_of(self, scope: Scope, factor: Factor) -> Given:
        """The base given its inputs."""
        return cast(Given, scope.conditional(Factor(self.base, factor.var, factor.cond_var)))


class Truncated(Composed):
    r"""A family whose values are kept to an interval, independent over the features; outside of it a value is impossible.

    $$\log p(x) = \log f(x) - \log\left(F(b) - F(a)\right), \qquad a \le x \le b$$

    Args:
        base: a family whose distribution function F and its inverse are known, given parameters or a network.
        lower: a, a number or `(*features)`; -inf, if not given.
        upper: b, likewise; inf, if not given.
        name: the letter before the brackets; that of the base, if not given.

    Raises:
        ParameterError: if the base is a family without them, or no bound is given.
        SupportError: if a bound does not lie below the other; at an evaluation, if the bounds are so far in a tail that its probability is
            0 in the dtype. Above the median it is counted from above, by the base's `sf` and `isf`; where a base does not write them, the
            precision is that of 1 - F(a).

    Examples:
        >>> from pixyz.distributions import Normal
        >>> p = Truncated(Normal("p(x)", loc=0.0, scale=1.0), lower=0.0)
        >>> p.log_likelihood({"x": torch.tensor([1.0])})
        tensor([-0.7258])
    """

    distribution_name = "Truncated"
    has_rsample = True

    def __init__(
        self, base: Family, *, lower: Tensor | float | None = None, upper: Tensor | float | None = None, name: str | None = None
    ) -> None:
        bounds = {k: v for k, v in (("lower", lower), ("upper", upper)) if v is not None}
        super().__init__(base, name, **bounds)
        if not (base.knows("cdf") and base.knows("icdf")):
            raise ParameterError(
                f"{self.prob_text}: a {base.distribution_name} has no distribution function here, so it cannot be truncated."
            )
        if set(self.constant_names) != set(bounds) or not bounds:
            raise ParameterError(f"{self.prob_text}: a Truncated takes lower, upper or both, numbers or tensors.")
        given = [getattr(self, k).detach() for k in bounds]
        if any(t.isnan().any() for t in given) or (len(given) == 2 and not torch.lt(*given).all()):
            raise SupportError(f"{self.prob_text}: it must be that lower < upper.")

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "TruncatedGiven":
        base = self.base_of(scope, factor)
        bounds = {k: _fitting(t, base, k, self.prob_text).tensor for k, t in self.given_terms(()).items()}
        return TruncatedGiven(base, bounds.get("lower"), bounds.get("upper"), factor, scope.shared.validate)


class TruncatedGiven(Eventwise):
    """A truncated family, in one evaluation.

    Where the interval lies above the median, probabilities are counted from above: there 1 - F is precise, and F is nearly 1.

    Attributes:
        above: where that is so.
        start: the probability of what is beyond the interval, on the side from which it is counted.
        mass: that of the interval.
    """

    def __init__(self, base: Given, lower: Tensor | None, upper: Tensor | None, factor: Factor, validate: bool) -> None:
        self.base = base
        self.dims: Dims = base.dims
        self.batch = base.batch
        self.lower = lower
        self.upper = upper
        self.above = torch.zeros((), dtype=torch.bool, device=base.like.device)
        if lower is not None:
            self.above = self._level(lower, self.above.to(base.like.dtype)).detach() > 0.5
        floor = self.above.to(base.like.dtype)
        at_lower, at_upper = (
            absent if bound is None else self._level(bound, floor) for bound, absent in ((lower, floor), (upper, 1 - floor))
        )
        self.mass = torch.where(self.above, at_lower - at_upper, at_upper - at_lower)
        self.start = torch.where(self.above, at_upper, at_lower).expand_as(self.mass)
        if validate and not (self.mass > 0).all():
            raise SupportError(
                f"{factor}: for {int((self.mass <= 0).sum())} of {self.mass.numel()} the base has no probability between the bounds, "
                f"as far as {self.mass.dtype} can tell; bound it nearer to where it lies, or use float64."
            )

    @property
    def plain(self) -> Given:
        return self.base

    def scores(self, values: tuple[Binding, ...], factor: Factor, validate: bool) -> tuple[Tensor, Dims]:
        scores, dims = self.base.scores(values, factor, validate)
        x = align(values[0].tensor, values[0].dims, dims)
        scores = scores - align(self.mass.log(), self.dims, dims)
        for outside in ([] if self.lower is None else [x < self.lower]) + ([] if self.upper is None else [x > self.upper]):
            scores = scores.masked_fill(outside, -torch.inf)
        return scores, dims

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """One draw through the inverse of the distribution function, with its gradient."""
        with torch.set_grad_enabled(pathwise and torch.is_grad_enabled()):
            params, family = self.base.aligned(dims), self.base.family
            above, start, mass = (align(t.expand_as(self.mass), self.dims, dims) for t in (self.above, self.start, self.mass))
            u = uniform_draw(params, (*sizes, *self.base.features))
            level = between_zero_and_one(start + u * mass)  # where the inverse is finite
            x = _either(above, lambda u: family.isf(params, u), lambda u: family.icdf(params, u), level, 0.5)
            return [Term(x.clamp(self.lower, self.upper) if x.numel() else x, dims)]

    def statistic(self, what: str) -> Term:
        """None is known in closed form for every base."""
        raise NotImplementedError

    def _level(self, bound: Tensor, floor: Tensor) -> Tensor:
        """F, or 1 - F where it is counted from above, at a bound.

        At and beyond the rim of the base's support it is 0 or 1, the `floor` below, without a gradient, and F is asked elsewhere.
        """
        family, params = self.base.family, self.base.aligned(self.dims)
        support = family.value_support
        below, beyond = bound <= support.lower, bound >= support.upper
        inside = 0.5 * (max(support.lower, -1.0) + min(support.upper, 1.0 + max(support.lower, -1.0)))
        reached = torch.where(below | beyond, inside, bound)
        level = _either(floor > 0, lambda x: family.sf(params, x), lambda x: family.cdf(params, x), reached, inside)
        return torch.where(below, floor, torch.where(beyond, 1 - floor, level))


class ZeroInflated(Composed):
    r"""A family of counts with more zeros than it has by itself, independent over the features.

    $$p(x) = \pi\,[x = 0] + (1 - \pi)\,f(x)$$

    Args:
        base: a family of whole numbers, given parameters or a network.
        gate: π in [0, 1], the probability of a zero that is none of the base's: a constant, the name of a conditioning variable of the
            base, or a network that is called with them.
        name: the letter before the brackets; that of the base, if not given.

    Raises:
        ParameterError: if the base has densities, whose zeros have no probability.

    Examples:
        >>> from pixyz.distributions import Poisson
        >>> p = ZeroInflated(Poisson("p(x)", rate=2.0), gate=0.5)
        >>> p.log_likelihood({"x": torch.tensor([0.0, 1.0])}).exp()
        tensor([0.5677, 0.1353])
    """

    distribution_name = "ZeroInflated"

    def __init__(self, base: Family, *, gate: Tensor | float | str | Callable[..., Any], name: str | None = None) -> None:
        super().__init__(base, name, gate=gate)
        if not base.value_support.whole:
            raise ParameterError(
                f"{self.prob_text}: a {base.distribution_name} has no counts to inflate; its values are {base.value_support.words}."
            )
        self.has_enumerate = base.has_enumerate  # zero is one of the values of every family of whole numbers
        if self.constant_names:
            self._check(self.given_terms(()))

    def _check(self, terms: dict[str, Term]) -> Term:
        gate = terms["gate"]
        if not unit_interval.holds(gate.tensor.detach()):
            raise SupportError(f"{self.prob_text}: gate must be {unit_interval.words}.")
        return gate

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "ZeroInflatedGiven":
        terms = self.given_terms(inputs)
        if self.has_network:
            terms.update(self.run(factor, inputs, scope.shared.validate).parameters({}))
        base = self.base_of(scope, factor)
        gate = self._check(terms) if scope.shared.validate else terms["gate"]
        return ZeroInflatedGiven(base, _fitting(gate, base, "gate", self.prob_text))


class ZeroInflatedGiven(Eventwise):
    """A zero-inflated family, in one evaluation."""

    def __init__(self, base: Given, gate: Term) -> None:
        self.base = base
        self.gate = gate
        self.dims: Dims = union(base.dims, gate.dims)
        self.batch = base.batch if base.batch is not None or BATCH not in gate.dims else gate.tensor.shape[len(gate.dims) - 1]

    @property
    def plain(self) -> Given:
        return self.base

    def scores(self, values: tuple[Binding, ...], factor: Factor, validate: bool) -> tuple[Tensor, Dims]:
        scores, dims = self.base.scores(values, factor, validate)
        target = union(dims, self.dims)
        scores, x = align(scores, dims, target), align(values[0].tensor, values[0].dims, target)
        gate = align(self.gate.tensor, self.gate.dims, target)
        own = log_complement(gate) + scores
        return torch.where(x == 0, torch.logaddexp(safe_log(gate), own), own), target

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """One draw, without gradient."""
        (x, _), *_ = self.base.draw(dims, sizes, pathwise=False)
        keep = torch.bernoulli(1 - align(self.gate.tensor, self.gate.dims, dims).detach().expand(x.shape).to(x))
        return [Term(x * keep, dims)]

    def support_size(self) -> int:
        """As many values as the base takes; asked only where it takes finitely many."""
        return self.base.support_size()

    def enumerate_support(self) -> list[Tensor]:
        """All values of the base."""
        return self.base.enumerate_support()

    def statistic(self, what: str) -> Term:
        """The mean and the variance, where those of the base are known."""
        if what not in ("mean", "variance"):
            raise NotImplementedError
        mean, dims = self.base.statistic("mean")
        gate = align(self.gate.tensor, self.gate.dims, self.dims)
        mean = align(mean, dims, self.dims)
        if what == "mean":
            return Term((1 - gate) * mean, self.dims)
        variance = align(self.base.statistic("variance").tensor, dims, self.dims)
        return Term((1 - gate) * (variance + gate * mean.square()), self.dims)


def _either(where: Tensor, f: Callable[[Tensor], Tensor], g: Callable[[Tensor], Tensor], x: Tensor, elsewhere: float) -> Tensor:
    """f(x) here and g(x) there; each sees `elsewhere` in place of what is the other's, for its gradient there may be nan."""
    return torch.where(where, f(torch.where(where, x, elsewhere)), g(torch.where(where, elsewhere, x)))


def _fitting(term: Term, base: Given, name: str, who: str) -> Term:
    """The term, if it is of the base's kind and broadcasts to its features, all or one of each."""
    tensor, dims = term
    features = tuple(tensor.shape[len(dims) :])
    if tensor.dtype != base.like.dtype and tensor.ndim:
        raise KindError(f"{who}: {name} is {tensor.dtype}, the parameters of the base are {base.like.dtype}. Convert one with .to().")
    if (features or dims) and broadcast_shapes([features, base.features]) != base.features:
        raise ShapeError(f"{who}: {name} has features {features}, but the base has {base.features}.")
    return Term(tensor.to(base.like.dtype), dims)
