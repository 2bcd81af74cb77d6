"""Stretches of copies that have one shape, so that they can be drawn once."""

from collections.abc import Mapping
from dataclasses import dataclass

from .._bindings import Factor
from ._series import Group, Place


@dataclass
class Run:
    """Copies with consecutive numbers and one shape.

    Attributes:
        copies: by number.
        offsets: for each parent, by how much its number differs from the copy's; None if it is the same variable for all.
    """

    copies: dict[int, Factor]
    offsets: tuple[int | None, ...]

    def keep(self, numbers: set[int]) -> bool:
        """Drops the other copies, and what is then cut off; whether anything changed."""
        pieces: list[list[int]] = [[]]
        for n in sorted(numbers & self.copies.keys()):
            if pieces[-1] and pieces[-1][-1] != n - 1:
                pieces.append([])
            pieces[-1].append(n)
        kept = max(pieces, key=len)
        kept = kept if len(kept) > 1 else []
        changed = len(kept) < len(self.copies)
        self.copies = {n: self.copies[n] for n in kept}
        return changed

    def parents(self) -> list[tuple[int, int]]:
        """The slots of the parents that change from copy to copy, with their offsets."""
        return [(slot, offset) for slot, offset in enumerate(self.offsets) if offset is not None]


def find_runs(group: Group, places: Mapping[str, Place], kinds: Mapping[str, str]) -> list[Run]:
    """The stretches of neighbours of one shape."""

    def offsets(a: Factor, b: Factor, n: int) -> tuple[int | None, ...] | None:
        out: list[int | None] = []
        for v, w in zip((*a.var, *a.cond_var), (*b.var, *b.cond_var)):
            p, q = places.get(v), places.get(w)
            if v in a.cond_var and v == w:
                out.append(None)
            elif p and q and p.series == q.series and q.number == p.number + 1 and (kinds[v] == kinds[w] or p.number != n):
                out.append(p.number - n)
            else:
                return None
        return tuple(out[len(a.var) :])

    runs: list[Run] = []
    for a, b, n in zip(group.factors, group.factors[1:], group.numbers):
        shape = offsets(a, b, n)
        if shape is None:
            continue
        if runs and n in runs[-1].copies and runs[-1].offsets == shape:
            runs[-1].copies[n + 1] = b
        elif not (runs and n in runs[-1].copies):
            runs.append(Run({n: a, n + 1: b}, shape))
    return runs


def trim(runs: list[Run], owned: set[str]) -> None:
    """Shortens the runs until those that depend on one another cover the same numbers."""
    changed = True
    while changed:
        changed = False
        home = {v: run for run in runs for f in run.copies.values() for v in f.var}
        for run in runs:
            for slot, offset in run.parents():
                numbers = set(run.copies)
                inside = {n: run.copies[n].cond_var[slot] for n in numbers if n + offset in numbers}
                if not inside and not owned.isdisjoint(f.cond_var[slot] for f in run.copies.values()):
                    changed |= run.keep(set())  # the parents stand elsewhere altogether
                changed |= run.keep(numbers - {n for n, c in inside.items() if c in owned and c not in home})
                other = {id(home[c]): home[c] for n, c in inside.items() if n in run.copies and c in home}
                for parent in other.values():
                    if parent is not run:
                        changed |= parent.keep(set(run.copies)) | run.keep(set(parent.copies))
            if changed:
                break
        changed = changed or _share_given(runs, owned)


def _share_given(runs: list[Run], owned: set[str]) -> bool:
    """Shortens the runs until a conditioning variable that comes with the copies is in one plate; whether anything changed."""
    users: dict[str, tuple[Run, int]] = {}
    for run in runs:
        for slot, _ in run.parents():
            for n, f in run.copies.items():
                first, number = users.setdefault(f.cond_var[slot], (run, n))
                if f.cond_var[slot] in owned or first is run:
                    continue
                common = set(first.copies) & set(run.copies) if n == number else set()
                if run.keep(common) | (bool(common) and first.keep(set(run.copies))):
                    return True
    return False
