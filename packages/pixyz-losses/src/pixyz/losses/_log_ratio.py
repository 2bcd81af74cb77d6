"""The logarithm of a ratio of two densities, and functions of it."""

from collections.abc import Callable

import torch
from torch import Tensor

from pixyz.core import (
    Distribution,
    Factor,
    FormulaError,
    LogProb,
    Loss,
    Quantities,
    Scope,
    Term,
    add_quantities,
    broadcast,
    need_one_measure,
    scale_quantities,
)
from pixyz.core import formula as f


class LogRatio(Loss):
    """log p/q = log p - log q, in nats, `(batch,)`, written as a ratio.

    Args:
        p: the distribution above.
        q: the distribution below.

    Raises:
        FormulaError: where one side computes a variable, or has a mass for its values, and the other has a density.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> q, p = Normal(var=["z"], loc=0.0, scale=1.0, name="q"), Normal(var=["z"], loc=0.0, scale=2.0)
        >>> print(LogRatio(p, q))
        log p(z)/q(z)
    """

    def __init__(self, p: Distribution, q: Distribution) -> None:
        top, bottom = LogProb(p), LogProb(q)
        need_one_measure((p.factors, q.factors), [v for v in p.var if v in q.var], f"log {p.prob_text}/{q.prob_text}")
        for computed, scored, by in ((top, bottom, p), (bottom, top, q)):
            clash = sorted(computed.optional_var.intersection(scored.input_var))
            if clash:
                raise FormulaError(
                    f"log {p.prob_text}/{q.prob_text}: {by.prob_text} computes {clash[0]}, the other side has a density for it; "
                    "the ratio of a density and a point mass is not finite."
                )
        super().__init__([top, bottom])
        self.sides = (top, bottom)
        self._densities = (p.density, q.density)

    @property
    def formula(self) -> f.Formula:
        return f.Log(f.Ratio(*self._densities))

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities | None:
        top, bottom = self.sides
        return add_quantities([top.quantities(drawn), scale_quantities(bottom.quantities(drawn), -1)])

    def signs(self) -> dict[Loss, int]:
        return {self.sides[1]: -1}

    def each_term(self, change: Callable[[Loss], Loss]) -> Loss:
        top, bottom = self.sides
        return top.each_term(change) - bottom.each_term(change)

    def evaluate(self, scope: Scope) -> Term:
        top, bottom = self.sides
        x, y, dims = broadcast(scope.evaluate(top), scope.evaluate(bottom), self)
        return Term(x - y, dims)


class OfLogRatio(Loss):
    """f(log p/q), for a function that is the integrand of a divergence.

    Args:
        ratio: log p/q.
        function: f, of tensors; also of ±inf, where one of the two densities is 0.
    """

    def __init__(self, ratio: LogRatio, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__([ratio])
        self._ratio = ratio
        self._function = function

    @property
    def formula(self) -> f.Formula:
        return f.Call("f", self._ratio.formula)

    def evaluate(self, scope: Scope) -> Term:
        value, dims = self.log_ratio(scope)
        return Term(self._function(value), dims)

    def log_ratio(self, scope: Scope) -> Term:
        """log p/q, and 0 where neither can be: such points of a finite support have no weight, but must not make it nan."""
        top, bottom = self._ratio.sides
        x, y, dims = broadcast(scope.evaluate(top), scope.evaluate(bottom), self)
        return Term(torch.where(x.isneginf() & y.isneginf(), 0.0, x - y), dims)
