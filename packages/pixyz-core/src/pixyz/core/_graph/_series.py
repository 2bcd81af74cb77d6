"""Which variables are copies of one another, and in what order: z_1, z_2, z_3.

Copies are the variables of factors that share one `dist`. Their numbers are read from their names where all have one; else a chain is
numbered along itself, what hangs from numbered copies as they are, and the rest in the order written.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .._bindings import Factor

_NUMBERED = re.compile(r"([^\W\d](?:.*[^\d+\-*/:<>=])?)(\d+)(\}?'*)")


class Series(NamedTuple):
    """The common part of copies' names, before and after the number; and which group they are of, where names did not tell."""

    before: str
    after: str
    group: int = 0

    def at(self, index: str) -> str:
        """The name of the copy with this index, `z_t` or `z_{t-1}`."""
        if self.before.endswith(("{", ",")):
            return self.before + index + self.after
        stem = self.before.rstrip("_")
        return f"{stem}_{index if len(index) == 1 else '{' + index + '}'}{self.after}"


class Place(NamedTuple):
    """A variable's series and its number there."""

    series: Series
    number: int


def numbered(name: str) -> Place | None:
    """`z_3`, `z3`, `z_{3}` and `z_{n,3}` have number 3."""
    match = _NUMBERED.fullmatch(name)
    return Place(Series(match[1], match[3]), int(match[2])) if match else None


class Group(NamedTuple):
    """Factors with one `dist`, in the order of their numbers."""

    factors: list[Factor]
    numbers: list[int]


def find_series(factors: Sequence[Factor]) -> tuple[list[Group], dict[str, Place]]:
    """The groups of two or more copies, and the place of every variable that has one. Factors come parents first."""
    found: defaultdict[tuple[object, ...], list[Factor]] = defaultdict(list)
    for f in factors:
        named = [numbered(v) for v in f.var]
        same = {place.number for place in named if place}
        key = tuple(place.series for place in named if place) if None not in named and len(same) == 1 else ()
        found[(id(f.dist), *key)].append(f)
    owned = {v for f in factors for v in f.var}
    groups: list[Group] = []
    places: dict[str, Place] = {}
    for key, copies in found.items():
        if len(copies) == 1:
            continue
        numbers = [place.number for f in copies if (place := numbered(f.var[0]))]
        neighbours = any(n + 1 in numbers for n in numbers)  # of x_1, x_3 and x_5 there are three, but no stretch
        by_name = len(key) > 1 and len(set(numbers)) == len(copies) and neighbours
        if not by_name:
            copies, numbers = _ordered(copies, places)
        group = Group(*map(list, zip(*sorted(zip(copies, numbers), key=lambda pair: pair[1]))))
        groups.append(group)
        label = 0 if by_name else len(groups)
        _place_own(group, label, places)
        _place_parents(group, label, places, owned)
    return groups, places


def _ordered(copies: list[Factor], places: Mapping[str, Place]) -> tuple[list[Factor], list[int]]:
    """The copies and their numbers, where names do not tell."""
    owner = {v: i for i, f in enumerate(copies) for v in f.var}
    parents = [{owner[c] for c in f.cond_var if c in owner} for f in copies]
    following = {p: i for i, above in enumerate(parents) for p in above}
    if len(following) == len(copies) - 1 and max(map(len, parents)) == 1:
        path = [next(i for i, above in enumerate(parents) if not above)]
        while path[-1] in following:
            path.append(following[path[-1]])
        return [copies[i] for i in path], list(range(2, len(path) + 2))
    above = [max((places[c].number for c in f.cond_var if c in places), default=None) for f in copies]
    known = [n for n in above if n is not None]
    if len(set(known)) == len(copies):
        return copies, known
    return copies, list(range(1, len(copies) + 1))


def _place_own(group: Group, label: int, places: dict[str, Place]) -> None:
    for f, number in zip(group.factors, group.numbers):
        for own, v in zip(f.dist.var, f.var):
            place = None if label else numbered(v)
            places[v] = place or Place(Series(f"{own}_", "", label), number)


def _place_parents(group: Group, label: int, places: dict[str, Place], owned: set[str]) -> None:
    """The start of a chain, and conditioning variables that come with the copies."""
    for slot, own in enumerate(group.factors[0].dist.cond_var):
        column = [f.cond_var[slot] for f in group.factors]
        if len(set(column)) < len(column):
            continue
        named = [numbered(c) for c in column]
        shifts = {p.number - n for p, n in zip(named, group.numbers) if p}
        if not label and None not in named and len(shifts) == len({p.series for p in named if p}) == 1:
            for c, place in zip(column, named):
                if place:
                    places.setdefault(c, place)
        elif label:
            second = places.get(column[1])
            if second is not None and column[1] in group.factors[0].var:
                places.setdefault(column[0], Place(second.series, second.number - 1))
            elif owned.isdisjoint(column):
                for c, n in zip(column, group.numbers):
                    places.setdefault(c, Place(Series(f"{own}_", "", label), n))
