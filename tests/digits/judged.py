"""Rows, judged: how many units each number is off, beside torch's and scipy's."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from .bars import is_off
from .exemptions import EXEMPTIONS
from .grid import computed, fits, off
from .quantities import QUANTITIES
from .rows import Quantity, Right, Row, Subject, mp, right
from .subjects import subjects

Known = tuple[Row, dict[str, Right]]


@dataclass(frozen=True)
class Verdict:
    """One number of one row: how many units of rounding it is off by the library, by torch and by scipy; None where they have it not."""

    row: Row
    number: str
    units: float
    torch: float | None
    scipy: float | None
    found: float
    right: float

    @property
    def is_off(self) -> bool:
        return is_off(self.units, self.torch)

    def __str__(self) -> str:
        beside = "" if self.torch is None else f", torch {self.torch:.3g}"
        return f"{self.number} of {self.row}: {self.units:.3g} units off{beside}; found {self.found:.9g}, right {self.right:.9g}"


def known(subject: Subject, quantity: Quantity, rows: Iterable[Row]) -> list[Known]:
    """Rows with their right values; without those where the value is infinite, or depends on the way to the rim."""
    found = [(row, right(subject, quantity, row.point)) for row in rows]
    return [(row, rights) for row, rights in found if mp.isfinite(rights["value"].value)]


def judged(rows: list[Known], dtype: torch.dtype, peers: bool = True) -> list[Verdict]:
    """The numbers of rows of one subject and quantity."""
    subject, quantity = subjects()[rows[0][0].subject], QUANTITIES[rows[0][0].quantity]
    rows = [known for known in rows if fits(subject, quantity, known[0].point, dtype)]
    if not rows:
        return []
    points = [row.point for row, _ in rows]
    found = computed(subject, quantity, points, dtype)
    errors = [off(numbers, rights, dtype) for numbers, (_, rights) in zip(found, rows)]
    beside = {}
    for by, kind in (("torch", dtype), ("scipy", torch.float64)) if peers else ():
        try:
            theirs = computed(subject, quantity, points, kind, by)
            beside[by] = [off(numbers, rights, kind) for numbers, (_, rights) in zip(theirs, rows)]
        except NotImplementedError:
            pass
    return [
        Verdict(
            row,
            number,
            units,
            *(beside[by][i].get(number) if by in beside else None for by in ("torch", "scipy")),
            float(numbers[number]),
            float(rights[number].value),
        )
        for i, ((row, rights), numbers, each) in enumerate(zip(rows, found, errors))
        for number, units in each.items()
    ]


def unexcused(verdicts: Iterable[Verdict], dtype: str) -> list[Verdict]:
    """Those that are off, and not exempted."""
    return [v for v in verdicts if v.is_off and not any(e.holds(v.row, v.number, dtype) for e in EXEMPTIONS)]
