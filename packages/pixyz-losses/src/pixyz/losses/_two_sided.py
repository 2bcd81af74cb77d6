"""What the divergences share that are estimated from draws of both sides."""

from typing import Any, ClassVar, cast

from torch import Tensor

from pixyz.core import (
    AnyEstimator,
    Dims,
    Distribution,
    Expectation,
    Factor,
    FormulaError,
    Loss,
    Quantities,
    Quantity,
    Scope,
    Term,
    broadcast,
    estimator_for,
    need_distribution,
    need_one_measure,
)
from pixyz.core import formula as f


class TwoSided(Loss):
    """A divergence of p from q: by a closed form, else from E_m[...], where m = (p+q)/2 is drawn by halves, K from each side.

    Where p or q alone is small, m is not: weights by 1/m are at most twice those by 1/p or 1/q, whichever is better.

    Args:
        p: the left side.
        q: the right side, over the same variables.
        body: what stands in the expectation.
        rule: the closed form, a function of both conditionals; or None.
        num_samples: K.
        estimator: as in `Expectation`.
        nonlinear: whether the divergence is a nonlinear function of the expectation, so that its estimate is biased.

    Attributes:
        is_analytic: whether the closed form is used.
    """

    symbol: ClassVar[str]

    def __init__(
        self,
        p: Distribution,
        q: Distribution,
        body: Loss,
        rule: Any,
        num_samples: int,
        estimator: AnyEstimator,
        *,
        nonlinear: bool = False,
    ) -> None:
        # Built in either case, for their checks.
        known, who = p.defined | q.defined, f"{self.symbol}[{p.prob_text}||{q.prob_text}]"
        left, right = (
            Expectation(side, body, num_samples=num_samples, estimator=estimator_for(estimator, side.defined, known, who), exact=True)
            for side in (p, q)
        )
        super().__init__((p, q) if rule else (left, right), bound_var=p.var, biased=nonlinear and not rule)
        self.is_analytic = bool(rule)
        self._rule = rule
        self._sides = None if rule else (left, right)
        self._pair = (p, q)

    @property
    def formula(self) -> f.Formula:
        p, q = self._pair
        return f.Divergence(self.symbol, p.density, q.density)

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities:
        return frozenset([(Quantity.DISTANCE, -1)])

    def by_rule(self, scope: Scope, **options: float) -> Term:
        """What the closed form gives."""
        p, q = self._pair
        return self._rule(scope.conditional(p.factors[0]), scope.conditional(q.factors[0]), self, **options)

    def both_sides(self, scope: Scope) -> tuple[Tensor, Tensor, Dims]:
        """E_p[body] and E_q[body], with their dims."""
        left, right = cast(tuple[Expectation, Expectation], self._sides)
        return broadcast(scope.evaluate(left), scope.evaluate(right), self)

    def under_mixture(self, scope: Scope) -> Term:
        """E_m[body]: half the expectations on both sides."""
        x, y, dims = self.both_sides(scope)
        return Term(0.5 * (x + y), dims)


def need_same_variables(p: Distribution, q: Distribution, name: str) -> None:
    """An error unless both are distributions over the same variables."""
    need_distribution(p, name)
    need_distribution(q, name)
    if set(p.var) != set(q.var):
        raise FormulaError(
            f"{name}[{p.prob_text}||{q.prob_text}]: the left side is over {', '.join(p.var)}, the right side over {', '.join(q.var)}."
        )


def need_comparable(p: Distribution, q: Distribution, name: str) -> None:
    """An error unless both are distributions over the same variables, whose densities have a ratio."""
    need_same_variables(p, q, name)
    need_one_measure((p.factors, q.factors), p.var, f"{name}[{p.prob_text}||{q.prob_text}]")


def closed_form(what: str, p: Distribution, q: Distribution) -> Any:
    """The rule by which two single conditionals know a divergence, or None."""
    if len(p.factors) == len(q.factors) == 1 and not p.hidden_var and not q.hidden_var and p.var == q.var:
        return p.factors[0].dist.divergence_rule(what, q.factors[0].dist)
    return None
