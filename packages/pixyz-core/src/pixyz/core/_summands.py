"""A finite expectation, term by term: each term is summed over the variables that it depends on, and no others.

E[Σ_i f_i(y_i)] under independent y_i takes as many sums as there are terms, not one over all combinations; in a chain, the marginal
probability of what a term depends on comes from the forward recursion.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ._bindings import Factor
from ._depth import nested
from ._dims import Term
from ._drawing import Draw, Plan, summed_together
from ._estimators import reduce
from ._formula import Formula
from ._loss import Loss
from ._scope import Scope

Names = frozenset[str]


class Summand(Loss):
    """One term of what stands in an expectation; its value is its expectation under the draw of the scope."""

    def __init__(self, term: Loss) -> None:
        super().__init__([term])
        self._term = term

    @property
    def formula(self) -> Formula:
        return self._term.formula

    def evaluate(self, scope: Scope) -> Term:
        return reduce(self._term.evaluate(scope), draw_in(scope))  # not through the scope: it is the same term to whoever watches


class Summands(NamedTuple):
    """What stands in an expectation as a sum.

    Attributes:
        loss: the sum of the terms' expectations.
        together: the variables of every table that this takes.
    """

    loss: Loss
    together: tuple[Names, ...]


def put_draw(scope: Scope, d: Draw) -> None:
    """Lets the summands in this scope, of the draw's number, know the draw."""
    scope.shared.memo["draw", scope.group] = d


def draw_in(scope: Scope) -> Draw:
    """The draw in whose scope this is."""
    found: Draw = scope.shared.memo["draw", scope.group]
    return found


@nested("taken apart")
def summands(f: Loss, plans: Sequence[Plan]) -> Summands | None:
    """f term by term; None where a draw is asked for, or where one table has all variables anyway."""
    drawn = summed_together(plans)
    if len(drawn) < 2 or f.mixes_batch:
        return None
    factors = [p.factor for p in plans]
    together: list[Names] = []

    def summand(term: Loss) -> Loss:
        together.extend(_tables(_roots({*term.input_var, *term.optional_var}, factors), factors))
        return Summand(term)

    loss = f.each_term(summand)
    every = {v for x in drawn for v in x.var}
    return None if any(every.issubset(names) for names in together) else Summands(loss, tuple(dict.fromkeys(together)))


def _roots(names: set[str], factors: Sequence[Factor]) -> Names:
    """Names, with what is computed replaced by what it is computed from."""
    for x in reversed(factors):
        if x.dist.is_deterministic and not names.isdisjoint(x.var):
            names = names.difference(x.var).union(x.cond_var)
    return frozenset(names)


def _tables(kept: Names, factors: Sequence[Factor]) -> list[Names]:
    """The variables of each table on the way to the marginal of `kept`, as `_estimators` makes them."""
    owned = {v for x in factors if not x.dist.is_deterministic for v in x.var}
    needed, above = set(kept), []
    for x in reversed(factors):
        if not x.dist.is_deterministic and not needed.isdisjoint(x.var):
            inputs = _roots({*x.cond_var}, factors)
            above.append({*x.var, *inputs})
            needed.update(inputs)
    tables = [kept & owned]
    now: set[str] = set()
    for i, names in enumerate(reversed(above)):
        now |= names & owned
        tables.append(frozenset(now))
        later = {v for group in above[: len(above) - 1 - i] for v in group}
        now &= later | kept
    return tables
