"""What a loss is a sum of, each term with its sign: from this it follows whether the whole is a lower bound, which is to be maximised.

By Jensen's inequality, an expectation of log p(x,z) - log q(z) under q(z) is a lower bound on log p(x): an evidence term and the entropy of
what is drawn, both with the sign +. A positive number, a mean and a sum over the batch keep the signs, a negative number flips them, and a
constant adds nothing. A term of another kind makes the whole unknown.
"""

from collections.abc import Iterable
from enum import Enum
from typing import TypeAlias


class Quantity(Enum):
    """The kinds of terms whose sign is known."""

    LIKELIHOOD = "the log-density of what is given"
    EVIDENCE = "the log-density of what is given, averaged over draws"
    PRIOR = "the log-density of draws under another distribution than theirs"
    ENTROPY = "minus the log-density of draws under their own distribution"
    BOUND = "a lower bound in itself"
    DISTANCE = "a divergence, or a distance"


Quantities: TypeAlias = frozenset[tuple[Quantity, int]]


def add_quantities(terms: Iterable[Quantities | None]) -> Quantities | None:
    """Those of a sum; None if one term is unknown."""
    found: Quantities = frozenset()
    for term in terms:
        if term is None:
            return None
        found |= term
    return found


def scale_quantities(terms: Quantities | None, sign: int) -> Quantities | None:
    """The same with their signs times `sign`; unknown if that is 0, which stands for a sign that is not known."""
    return None if terms is None or not sign else frozenset([(quantity, sign * s) for quantity, s in terms])


def says(terms: Quantities | None) -> str | None:
    """`"a lower bound"` or `"a log-likelihood"`, where a sum is one, of which more is better; else None."""
    if not terms or any([sign < 0 for _, sign in terms]):
        return None
    kinds = {quantity for quantity, _ in terms}
    if Quantity.BOUND in kinds or (Quantity.ENTROPY in kinds and not kinds.isdisjoint((Quantity.EVIDENCE, Quantity.LIKELIHOOD))):
        return "a lower bound"
    return "a log-likelihood" if kinds == {Quantity.LIKELIHOOD} else None
