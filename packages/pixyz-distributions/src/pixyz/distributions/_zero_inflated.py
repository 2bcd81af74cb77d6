"""Families of counts that have zeros more often than they should be."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pixyz.core import BATCH, ON_HOST, Binding, Checks, Dims, Factor, ParameterError, Scope, SupportError, Term, align, union

from ._composed import Composed, fitting
from ._eventwise import Eventwise
from ._family import Family
from ._given import Given
from ._logs import log_complement
from ._supports import in_support, unit_interval


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
            self._check(self.given_terms(()), ON_HOST)

    def _check(self, terms: dict[str, Term], checks: Checks) -> Term:
        gate = terms["gate"]
        if checks and not checks.passed(unit_interval.holds(gate.tensor.detach(), checks), self.prob_text):
            raise SupportError(f"{self.prob_text}: gate must be {unit_interval.words}.")
        return gate

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "ZeroInflatedGiven":
        terms = self.given_terms(inputs)
        if self.has_network:
            terms.update(self.run(factor, inputs).parameters({}))
        base = self.base_of(scope, factor)
        gate = self._check(terms, scope.shared.checks)
        return ZeroInflatedGiven(base, fitting(self, "gate", gate, base))


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

    def scores(self, values: tuple[Binding, ...], factor: Factor, checks: Checks) -> tuple[Tensor, Dims]:
        scores, dims = self.base.scores(values, factor, checks)
        target = union(dims, self.dims)
        scores, x = align(scores, dims, target), align(values[0].tensor, values[0].dims, target)
        gate = align(self.gate.tensor, self.gate.dims, target)
        zero = x == 0
        at_zero = _log_mass_at_zero(gate, torch.where(zero, scores, 0.0))
        return torch.where(zero, at_zero, log_complement(gate) + scores), target

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """One draw, without gradient."""
        (x, _), *_ = self.base.draw(dims, sizes, pathwise=False)
        gate = align(self.gate.tensor, self.gate.dims, dims).detach()
        if not self.base.checks.on_host:
            gate = in_support(gate, unit_interval)
        return [Term(x * torch.bernoulli(1 - gate.expand(x.shape)).to(x.dtype), dims)]

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
            return Term(self.base.narrow((1 - gate) * mean), self.dims)
        variance = align(self.base.statistic("variance").tensor, dims, self.dims)
        return Term(self.base.narrow((1 - gate) * (variance + gate * mean.square())), self.dims)


def _log_mass_at_zero(gate: Tensor, log_f: Tensor) -> Tensor:
    """log(π + (1-π)f) for f ≤ 1, each size by the form that has all digits there; its gradient is right at both ends of π."""
    gap = (1 - gate) * torch.expm1(log_f)  # less than 1 by that
    raised = gate * torch.expm1((-log_f).clamp_max(math.log(torch.finfo(gate.dtype).max) - 1))  # more than f by that factor
    is_near_one, is_near_f = gap > -0.5, raised < 1
    total = torch.where(is_near_one | is_near_f, 1.0, gate + (1 - gate) * log_f.exp())
    low = torch.where(is_near_f, log_f + torch.log1p(torch.where(is_near_f, raised, 0.0)), total.log())
    return torch.where(is_near_one, torch.log1p(torch.where(is_near_one, gap, 0.0)), low)
