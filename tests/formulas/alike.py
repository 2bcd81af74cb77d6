"""Formulas that print alike and have different values."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass

import torch

from .case import Case

AT_MOST = 4
"""How many formulas of one text are kept, to be compared with the next."""


class Alike:
    """Remembers the texts of formulas, and tells when two descriptions have one text and, with the same numbers, different values."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, int], list[Case]] = {}

    def add(self, case: Case, text: str) -> tuple[str, Case, Case] | None:
        """The kind of what differs, and two such descriptions; None where no earlier formula printed so, or none with another value."""
        plain = case.at(0)
        if plain is None or not text:
            return None
        value = None
        before = self.known.setdefault((text, hash(type(case))), [])
        if plain in before:
            return None
        found = None
        for other in before:
            if value is None:
                value = plain.truth().value
            theirs = other.truth().value
            if theirs.shape == value.shape and not torch.allclose(theirs, value, rtol=1e-6, atol=1e-9):
                found = (kind_of(other, plain), other, plain)
                break
        if len(before) < AT_MOST:
            before.append(plain)
        return found


def kind_of(a: object, b: object) -> str:
    """What differs between two descriptions, as the fields in which they do: "Expectation.hidden, Marginal | Product"."""
    return ", ".join(sorted(set(_differences(a, b, ""))))


def _differences(a: object, b: object, where: str) -> Sequence[str]:
    if type(a) is not type(b):
        return [f"{where}: {' | '.join(sorted({type(a).__name__, type(b).__name__}))}"]
    if is_dataclass(a):
        name = type(a).__name__
        return [d for f in fields(a) for d in _differences(getattr(a, f.name), getattr(b, f.name), f"{name}.{f.name}")]
    if isinstance(a, tuple) and isinstance(b, tuple):
        if len(a) != len(b):
            return [f"{where}: how many"]
        return [d for x, y in zip(a, b) for d in _differences(x, y, where)]
    return [] if a == b else [where]
