"""Families that are truncated to an interval."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pixyz.core import Binding, Checks, Dims, Factor, ParameterError, Scope, SupportError, Term, align

from ._composed import Composed, fitting
from ._eventwise import Eventwise
from ._family import Family, uniform_draw
from ._given import Given
from ._rounding import between_zero_and_one


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
        self.has_fixed_support = base.has_fixed_support and not any(getattr(self, k).requires_grad for k in bounds)
        given = [t.detach() for t in (getattr(self, k) for k in bounds) if not t.is_meta]
        if any(t.isnan().any() for t in given) or (len(given) == 2 and not torch.lt(*given).all()):
            raise SupportError(f"{self.prob_text}: it must be that lower < upper.")

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "TruncatedGiven":
        base = self.base_of(scope, factor)
        bounds = {k: fitting(self, k, t, base).tensor for k, t in self.given_terms(()).items()}
        return TruncatedGiven(base, bounds.get("lower"), bounds.get("upper"), factor, scope.shared.checks)


class TruncatedGiven(Eventwise):
    """A truncated family, in one evaluation.

    Where the interval lies above the median, probabilities are counted from above: there 1 - F is precise, and F is nearly 1. Where it is
    so short that both ends have nearly the same, its own probability is integrated, not their difference.

    Attributes:
        above: where the interval lies above the median.
        start: the probability of what is beyond the interval, on the side from which it is counted.
        mass: that of the interval.
        short: where the interval is short; None where both bounds are not given, or none is.
    """

    def __init__(self, base: Given, lower: Tensor | None, upper: Tensor | None, factor: Factor, checks: Checks) -> None:
        self.base = base
        self.dims: Dims = base.dims
        self.batch = base.batch
        self.lower = lower
        self.upper = upper
        self.above = torch.zeros((), dtype=torch.bool, device=base.like.device)
        if lower is not None:
            self.above = self._level(lower, self.above).detach() > 0.5
        floor = self.above.to(base.dtype)
        at_lower, at_upper = (
            absent if bound is None else self._level(bound, self.above) for bound, absent in ((lower, floor), (upper, 1 - floor))
        )
        self.mass = torch.where(self.above, at_lower - at_upper, at_upper - at_lower)
        self.start = torch.where(self.above, at_upper, at_lower).expand_as(self.mass)
        self.short = self._where_short(torch.maximum(at_lower, at_upper), checks)
        if self.short is not None:
            self.mass = torch.where(self.short, self._between(self.base.aligned(self.dims), self.short, lower, upper), self.mass)
        if checks and not checks.passed(checks.every(self.mass > 0), factor):
            raise SupportError(
                f"{factor}: for {int((self.mass <= 0).sum())} of {self.mass.numel()} the base has no probability between the bounds, "
                f"as far as {self.mass.dtype} can tell; bound it nearer to where it lies, or use float64."
            )

    @property
    def plain(self) -> Given:
        return self.base

    def scores(self, values: tuple[Binding, ...], factor: Factor, checks: Checks) -> tuple[Tensor, Dims]:
        scores, dims = self.base.scores(values, factor, checks)
        x = align(values[0].tensor, values[0].dims, dims)
        scores = scores - align(self.mass.log(), self.dims, dims)
        if self.lower is not None:
            scores = scores.masked_fill(x < self.lower.to(x.dtype), -torch.inf)
        if self.upper is not None:
            scores = scores.masked_fill(x > self.upper.to(x.dtype), -torch.inf)
        return scores, dims

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """One draw through the inverse of the distribution function, with its gradient."""
        with torch.set_grad_enabled(pathwise and torch.is_grad_enabled()):
            params, family = self.base.aligned(dims), self.base.family
            above, start, mass = (align(t.expand_as(self.mass), self.dims, dims) for t in (self.above, self.start, self.mass))
            u = uniform_draw(params, (*sizes, *self.base.features))
            level = between_zero_and_one(start + u * mass)  # where the inverse is finite
            x = _either(above, lambda u: family.isf(params, u), lambda u: family.icdf(params, u), level, 0.5)
            x = x.clamp(self.lower, self.upper) if x.numel() else x
            if self.short is not None:
                short = align(self.short.expand_as(self.mass), self.dims, dims)
                x = torch.where(short, self._refined(params, short, x.detach(), torch.where(above, 1 - u, u) * mass), x)
            return [Term(self.base.narrow(x), dims)]

    def _where_short(self, level: Tensor, checks: Checks) -> Tensor | None:
        """Where the difference of both levels loses digits. Where the host may look, it is asked for only if that is so anywhere."""
        if self.lower is None or self.upper is None:
            return None
        short = (self.mass < 0.2 * level).detach()
        return short if not checks.on_host or short.any() else None

    def _between(self, params: dict[str, Tensor], short: Tensor, lower: Any, upper: Any) -> Tensor:
        """The probability between these, where they are near to one another; what is elsewhere is not looked at."""
        middle = self.base.family.value_support.middle
        return self.base.family.between(params, torch.where(short, lower, middle), torch.where(short, upper, middle))

    def _refined(self, params: dict[str, Tensor], short: Tensor, x: Tensor, mass: Tensor) -> Tensor:
        """The place up to which the interval has this probability, by one step of Newton's from x, and so with its gradient."""
        excess = self._between(params, short, self.lower, x) - mass
        slope = self.base.family.log_density(params, x).exp().detach()
        return (x - torch.where(short, excess / slope, 0.0)).clamp(self.lower, self.upper)

    def statistic(self, what: str) -> Term:
        """None is known in closed form for every base."""
        raise NotImplementedError

    def _level(self, bound: Tensor, above: Tensor) -> Tensor:
        """F, or 1 - F where it is counted from above, at a bound.

        At and beyond the rim of the base's support it is 0 or 1, the `floor` below, without a gradient, and F is asked elsewhere.
        """
        family, params = self.base.family, self.base.aligned(self.dims)
        support, floor = family.value_support, above.to(self.base.dtype)
        below, beyond = bound <= support.lower, bound >= support.upper
        inside = support.middle
        reached = torch.where(below | beyond, inside, bound)
        level = _either(above, lambda x: family.sf(params, x), lambda x: family.cdf(params, x), reached, inside)
        return torch.where(below, floor, torch.where(beyond, 1 - floor, level))


def _either(where: Tensor, f: Callable[[Tensor], Tensor], g: Callable[[Tensor], Tensor], x: Tensor, elsewhere: float) -> Tensor:
    """f(x) here and g(x) there; each sees `elsewhere` in place of what is the other's, for its gradient there may be nan."""
    return torch.where(where, f(torch.where(where, x, elsewhere)), g(torch.where(where, elsewhere, x)))
