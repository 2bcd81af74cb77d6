"""Where the values of a variable lie, as far as that is known when a formula is built: so a mass is never compared with a density."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from torch import Tensor

from ._bindings import Factor
from ._errors import FormulaError


class KnownSupport(Protocol):
    """Where the values of a variable lie, whatever the parameters.

    Attributes:
        words: for messages: "0 or 1".
        measure: what a distribution gives to such a value: "a mass", "a density"; None where that is not known.
    """

    @property
    def words(self) -> str: ...
    @property
    def measure(self) -> str | None: ...

    def check(self, t: Tensor, who: str) -> None:
        """A `SupportError` if an element lies outside; `who` names the value."""
        ...


def known_supports(factors: Iterable[Factor], name: str) -> Iterator[tuple[Factor, KnownSupport]]:
    """The supports that conditionals know for one of their variables, on either side of the bar."""
    for factor in factors:
        for own, known_as in zip((*factor.dist.var, *factor.dist.cond_var), (*factor.var, *factor.cond_var)):
            if known_as == name:
                support = factor.dist.support_of(own)
                if support is not None:
                    yield factor, support


def need_one_measure(sides: Iterable[Iterable[Factor]], names: Iterable[str], who: object) -> None:
    """An error if one side has a mass for the values of a variable where another has a density.

    Args:
        sides: the conditionals of each of the distributions that are compared.
        names: the variables that they have in common.
        who: the formula, for the message.

    Raises:
        FormulaError: naming the variable, both distributions and where they have their values.
    """
    wanted = frozenset(names)
    first: dict[str, tuple[Factor, KnownSupport]] = {}
    for factor in (x for side in sides for x in side):
        for own, name in zip(factor.dist.var, factor.var):
            support = factor.dist.support_of(own) if name in wanted else None
            if support is None or support.measure is None:
                continue
            known, other = first.setdefault(name, (factor, support))
            if other.measure != support.measure:
                a, b = (
                    f"{s.measure} under {x} ({x.dist.distribution_name}: {name} must be {s.words})"
                    for x, s in ((known, other), (factor, support))
                )
                raise FormulaError(
                    f"{who}: {name} has {a}, but {b}. The ratio of the two has no meaning. "
                    f"Take families of {name} that are both discrete, or both continuous on the same set."
                )
