"""The Kullback–Leibler divergence of two joints, factor by factor."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from pixyz.core import (
    AnyEstimator,
    Distribution,
    Expectation,
    Factor,
    Joint,
    Loss,
    Quantities,
    Quantity,
    Scope,
    Term,
    estimator_for,
)
from pixyz.core import formula as f

from ._log_ratio import LogRatio


class Chain(NamedTuple):
    """A divergence as a sum.

    Attributes:
        loss: the sum.
        is_analytic: whether all of its terms are closed forms that depend on nothing drawn.
    """

    loss: Loss
    is_analytic: bool


class OfConditionals(Loss):
    """KL[q(z|x)||p(z|y)] of two single conditionals in closed form, given x and y."""

    def __init__(self, q: Factor, p: Factor, rule: Any) -> None:
        super().__init__([q.dist, p.dist], input_var=[*q.cond_var, *p.cond_var])
        self._pair = (q, p)
        self._rule = rule

    @property
    def formula(self) -> f.Formula:
        q, p = self._pair
        return f.Divergence("KL", q.density, p.density)

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities:
        return frozenset([(Quantity.ENTROPY, -1), (Quantity.PRIOR, -1)])

    def evaluate(self, scope: Scope) -> Term:
        q, p = self._pair
        return self._rule(scope.conditional(q), scope.conditional(p), self)


def by_chain_rule(q: Distribution, p: Distribution, *, num_samples: int, estimator: AnyEstimator) -> Chain | None:
    """KL[q||p] with closed forms for pairs of factors; None where there is no such pair, or something random is marginalised out.

    A pair q_i(v|a), p_i(v|b) has the term E_q[KL[q_i||p_i]] where b does not depend on v under q. The rest is E_q[log q/p]. All of the
    terms that depend on something drawn stand in one expectation over all of q, so they share its draws, also with other expectations
    over q.
    """
    if any(not x.dist.is_deterministic and not d.hidden_var.isdisjoint(x.var) for d in (q, p) for x in d.factors):
        return None
    both = _all_computed(q, p)
    if both is None:
        return None
    outer, p = both
    right = {f.var: f for f in p.factors if not f.dist.is_deterministic}
    left = {f.var: f for f in outer.factors if not f.dist.is_deterministic}
    pairs: list[tuple[Factor, Factor, Any]] = []
    for v, factor in left.items():
        rule = factor.dist.divergence_rule("kl", right[v].dist) if v in right else None
        if rule and _reached(outer, v).isdisjoint(right[v].cond_var):
            pairs.append((factor, right[v], rule))
    paired = [factor.var for factor, _, _ in pairs]
    rest = [Joint([x for v, x in side.items() if v not in paired]) for side in (left, right) if len(side) > len(paired)]
    if not pairs or len(rest) == 1:
        return None
    drawn = frozenset(v for group in left for v in _reached(outer, group))
    outright = [OfConditionals(*pair) for pair in pairs if outer.defined.isdisjoint((*pair[0].cond_var, *pair[1].cond_var))]
    below = [OfConditionals(*pair) for pair in pairs if not outer.defined.isdisjoint((*pair[0].cond_var, *pair[1].cond_var))]
    is_analytic = not rest and all(drawn.isdisjoint(term.input_var) for term in below)
    terms: list[Loss] = [*below, *([LogRatio(*rest)] if rest else [])]
    if terms:
        computed = [x for x in outer.factors if x.dist.is_deterministic]
        # Over all of q, whose draws another expectation may need as well; not where drawing has a price and no use.
        free = all(x.dist.has_rsample or x.dist.is_deterministic for x in outer.factors)
        under = outer if free or not is_analytic else Joint(computed)
        chosen = estimator_for(estimator, under.defined, outer.defined, f"E_{q.prob_text}")
        outright = [*outright, Expectation(under, _total(terms), num_samples=num_samples, estimator=chosen, exact=True)]
    return Chain(_total(outright), is_analytic)


def _total(terms: Iterable[Loss]) -> Loss:
    first, *more = terms
    for term in more:
        first = first + term
    return first


def _all_computed(q: Distribution, p: Distribution) -> tuple[Distribution, Distribution] | None:
    """q with whatever p computes, and p, both with nothing hidden; None if their names clash."""
    shared = {v for x in q.factors if x in p.factors and x.dist.is_deterministic for v in x.var}
    theirs = {*q.defined, *q.cond_var}
    names: dict[str, str] = {}
    for v in sorted((p.hidden_var - shared) & theirs):
        names[v] = v + "'"
        while names[v] in theirs | p.defined | set(p.cond_var):
            names[v] += "'"
    p = p.showing(p.hidden_var)
    p = p.replace_var(**names) if names else p
    computed = [x for x in p.factors if x.dist.is_deterministic and x not in q.factors]
    if not (q.hidden_var - shared).isdisjoint((*p.defined, *p.cond_var)) or any(v in q.defined for x in computed for v in x.var):
        return None
    return (Joint([*q.factors, *computed]) if computed else q.showing(q.hidden_var)), p


def _reached(p: Distribution, names: Iterable[str]) -> frozenset[str]:
    """These variables of p and all that depend on them."""
    reached = set(names)
    for factor in p.ancestral:
        if not reached.isdisjoint(factor.cond_var):
            reached.update(factor.var)
    return frozenset(reached)
