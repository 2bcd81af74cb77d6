"""How far a number may be off, and the exemptions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .rows import Row

FEW = 100.0
"""Units of rounding, times the condition: two digits."""
NO_WORSE = 16.0, 2.0
"""How many units, and how many times as many as torch's, are no worse than torch."""


@dataclass(frozen=True)
class Exemption:
    """A place where more digits are lost, by name.

    Attributes:
        subject: the name of one, or of all parametrisations of a family.
        quantity: the name of one.
        number: "value", or the derivatives by an input, as "d/dscale".
        where: whether a point lies there.
        reason: why they are lost.
        figure: about how many units are lost at worst, as "4e5".
        dtype: that of which it is true; None for all.
    """

    subject: str
    quantity: str
    number: str
    where: Callable[[Mapping[str, Any]], bool]
    reason: str
    figure: str
    dtype: str | None = None

    def holds(self, row: Row, number: str, dtype: str) -> bool:
        named = row.subject in (self.subject, f"{self.subject}{row.subject.removeprefix(row.subject.partition('(')[0])}")
        same = self.quantity == row.quantity and number.partition("[")[0] == self.number and self.dtype in (None, dtype)
        return named and same and self.where(row.point)


def is_off(units: float, torch: float | None) -> bool:
    """Whether a number is too far off, or worse than torch's."""
    least, times = NO_WORSE
    return units > FEW or (torch is not None and units > least and units > times * torch)
