"""Differences of log-densities inside of an expectation, which must be of one measure."""

import itertools
from collections.abc import Iterable

from ._bindings import Factor
from ._distribution import Distribution
from ._leaves import leaves_of
from ._log_prob import LogProb
from ._loss import Loss
from ._measures import need_one_measure
from ._operators import Constant
from ._single import Single


def check_differences(f: Loss, q: Distribution) -> None:
    """An error where f subtracts the logarithm of a mass of what q draws from that of a density, or the other way round.

    Raises:
        FormulaError: naming the variable and both distributions.
    """
    known = [leaf.support_of(v) for leaf in leaves_of(f) if isinstance(leaf, Single) for v in leaf.var]
    if len({support.measure for support in known if support is not None} - {None}) < 2:
        return  # found without taking f apart, which of a long chain takes long
    found = _densities(f)
    measures: dict[str, set[str]] = {v: set() for v in q.var}
    for x in _joined(found) if len(found) > 1 else ():
        for own, v in zip(x.dist.var, x.var):
            support = x.dist.support_of(own) if v in measures else None
            if support is not None and support.measure is not None:
                measures[v].add(support.measure)
    for v in [v for v, several in measures.items() if len(several) > 1]:
        signs = [(term, _sign(f, i)) for i, term in enumerate(found) if any(v in x.var for x in term.parts)]
        added, subtracted = (_joined(term for term, s in signs if s == sign) for sign in (1, -1))
        for pair in itertools.product(added, subtracted):
            need_one_measure((pair,), (v,), f"E_{q.prob_text}[{f}]")


def _densities(f: Loss) -> list[LogProb]:
    """The log-densities among the terms of a sum, in the order of the terms."""
    found: list[LogProb] = []

    def look(term: Loss) -> Loss:
        if isinstance(term, LogProb):
            found.append(term)
        return Constant(0.0)

    f.each_term(look)
    return found


def _sign(f: Loss, number: int) -> int:
    """The sign of the coefficient that a log-density has; parameters count as positive."""
    seen = -1

    def look(term: Loss) -> Loss:
        nonlocal seen
        seen += isinstance(term, LogProb)
        return Constant(1.0 if isinstance(term, LogProb) and seen == number else 0.0)

    one = f.each_term(look)
    weight = one.estimate(dict.fromkeys(one.input_var, 1.0))
    return int(weight.sum().sign())


def _joined(terms: Iterable[LogProb]) -> list[Factor]:
    return [factor for term in terms for factor in term.parts]
