"""Formulas that print alike and have different values."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass

import torch

from .case import Case, OutsideError

AT_MOST = 4
"""How many formulas of one text are kept, to be compared with the next."""


class Alike:
    """Remembers the texts of formulas, and tells when two descriptions have one text and, with the same numbers, different values."""

    def __init__(self) -> None:
        self.known: dict[tuple[type, str], list[Case]] = {}

    def add(self, case: Case, text: str) -> tuple[frozenset[str], Case, Case] | None:
        """What differs, and two such descriptions; None where no earlier formula printed so, or none with another value."""
        plain = case.at(0)
        if plain is None or not text:
            return None
        before = self.known.setdefault((type(case), text), [])
        if plain in before or len(before) == AT_MOST:
            return None
        found = next((other for other in before if _differ(other, plain)), None)
        before.append(plain)
        return found and (differences(found, plain), found, plain)


def _differ(a: Case, b: Case) -> bool:
    try:
        x, y = a.truth().value, b.truth().value
    except OutsideError:
        return False
    return x.shape == y.shape and not torch.allclose(x, y, rtol=1e-6, atol=1e-9)


def differences(a: object, b: object) -> frozenset[str]:
    """What differs between two descriptions: fields, and classes that stand for one another, as "Leaf.letter" and "Leaf | Marginal"."""
    return frozenset(_differences(a, b, ""))


def _differences(a: object, b: object, where: str) -> Sequence[str]:
    if type(a) is not type(b):
        return [" | ".join(sorted({type(a).__name__, type(b).__name__}))]
    if is_dataclass(a):
        name = type(a).__name__
        return [d for f in fields(a) for d in _differences(getattr(a, f.name), getattr(b, f.name), f"{name}.{f.name}")]
    if isinstance(a, tuple) and isinstance(b, tuple):
        if len(a) != len(b):
            return [where]
        return [d for x, y in zip(a, b) for d in _differences(x, y, where)]
    return [] if a == b else [where]
