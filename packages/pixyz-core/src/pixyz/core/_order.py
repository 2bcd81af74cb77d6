"""In which order variables are eliminated, and which of them at once: names only, no tensors.

Potentials are kept in *stacks*: the members of a stack are copies of one potential over different variables, as log p(x_t|z_t) for
every t. Two variables whose neighbourhoods look alike, stack by stack, and that have no potential in common can be eliminated in one
batched step. So the states of a chain go every second one at a time, in about log2(T) steps, and the leaves of a tree level by level.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Members: TypeAlias = Sequence[tuple[str, ...]]
Pattern: TypeAlias = tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Slot:
    """The potentials of one stack that a step multiplies, one for each variable that it eliminates.

    Attributes:
        stack: the number of the stack.
        members: which of its members, for each eliminated variable.
        places: the place of each of its variables in the neighbourhood, where the eliminated variable is 0.
    """

    stack: int
    members: tuple[int, ...]
    places: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """Variables that are eliminated at once; what is left is a new stack over their neighbours.

    Attributes:
        variables: what is eliminated.
        neighbours: those of each variable, the finite ones first.
        slots: the potentials that are multiplied.
        is_finite: whether the variables are summed out, else they are integrated out.
        finite_neighbours: how many of the neighbours of one variable are finite.
    """

    variables: tuple[str, ...]
    neighbours: tuple[tuple[str, ...], ...]
    slots: tuple[Slot, ...]
    is_finite: bool
    finite_neighbours: int


def order_steps(
    stacks: Sequence[Members], finite: frozenset[str], last: Iterable[str] = (), *, batched: bool = True
) -> tuple[tuple[Step, ...], int]:
    """Steps that eliminate every variable of these stacks; the result of step i is stack `len(stacks) + i`.

    Args:
        stacks: for each, the variables of its members, the finite ones first.
        finite: the variables that are summed out.
        last: variables that are eliminated after all others; finite ones that Gaussian ones among them depend on are, too.
        batched: to prefer many variables at once; else those with the fewest neighbours, which costs more steps and less arithmetic.

    Returns:
        The steps, and how many of them come before the last.
    """
    graph = _Graph(stacks, finite)
    waiting = frozenset(last)
    first: list[Step] = []
    while (step := graph.next_step(waiting, batched)) is not None:
        first.append(step)
    rest: list[Step] = []
    while (step := graph.next_step(frozenset(), batched)) is not None:
        rest.append(step)
    return (*first, *rest), len(first)


class _Graph:
    """Which variable has which potentials; kept up to date as variables go."""

    def __init__(self, stacks: Sequence[Members], finite: frozenset[str]) -> None:
        self.finite = finite
        self.stacks = [list(members) for members in stacks]
        self.integrated: set[int] = {s for s, members in enumerate(self.stacks) if any(v not in finite for v in members[0])}
        self.incident: dict[str, dict[tuple[int, int], None]] = {}
        for s, members in enumerate(self.stacks):
            self._add(s, members)
        self.alike: dict[Pattern, dict[str, None]] = {}
        self.pattern: dict[str, Pattern] = {}
        for v in self.incident:
            self._sort_in(v)

    def _add(self, s: int, members: Members) -> None:
        for i, variables in enumerate(members):
            for v in variables:
                self.incident.setdefault(v, {})[s, i] = None

    def _entries(self, v: str) -> list[tuple[int, int]]:
        return sorted(self.incident[v], key=lambda e: (e[0], self.stacks[e[0]][e[1]].index(v), e[1]))

    def neighbours(self, v: str) -> tuple[str, ...]:
        """In the order of first appearance, the finite ones first."""
        seen = dict.fromkeys(u for s, i in self._entries(v) for u in self.stacks[s][i] if u != v)
        return tuple(sorted(seen, key=lambda u: u not in self.finite))

    def _places(self, v: str) -> Pattern:
        place = {u: n for n, u in enumerate((v, *self.neighbours(v)))}
        return tuple((s, tuple(place[u] for u in self.stacks[s][i])) for s, i in self._entries(v))

    def _sort_in(self, v: str) -> None:
        old = self.pattern.get(v)
        if old is not None:
            del self.alike[old][v]
            if not self.alike[old]:
                del self.alike[old]
        new = self.pattern[v] = self._places(v)
        self.alike.setdefault(new, {})[v] = None

    def next_step(self, waiting: frozenset[str], batched: bool) -> Step | None:
        """Eliminates the best group of variables that look alike and need not wait; None where none can go."""

        def cost(pattern: Pattern) -> tuple[int, int, int]:
            degree, count = max(p for _, places in pattern for p in places), len(self.alike[pattern])
            return (max(degree, 2), -count, degree) if batched else (degree, -count, 0)

        possible = [p for p, alike in self.alike.items() if self._can_go(p, next(iter(alike))) and any(v not in waiting for v in alike)]
        if not possible:
            return None
        best = min(possible, key=cost)
        chosen: list[str] = []
        blocked: set[str] = set()
        for v in self.alike[best]:
            if v not in waiting and v not in blocked:
                chosen.append(v)
                blocked.update(self.neighbours(v))
        return self._eliminate(chosen, best)

    def _can_go(self, pattern: Pattern, v: str) -> bool:
        """A sum over a finite variable waits until what is integrated out below it is gone."""
        return v not in self.finite or self.integrated.isdisjoint(s for s, _ in pattern)

    def _eliminate(self, chosen: list[str], pattern: Pattern) -> Step:
        neighbours = tuple(self.neighbours(v) for v in chosen)
        entries = [self._entries(v) for v in chosen]
        slots = tuple(Slot(s, tuple(e[n][1] for e in entries), places) for n, (s, places) in enumerate(pattern))
        step = Step(tuple(chosen), neighbours, slots, chosen[0] in self.finite, sum(u in self.finite for u in neighbours[0]))
        for v, own in zip(chosen, entries):
            for s, i in own:
                for u in self.stacks[s][i]:
                    del self.incident[u][s, i]
            del self.incident[v]
            del self.alike[pattern][v]
        if not self.alike[pattern]:
            del self.alike[pattern]
        number = len(self.stacks)
        self.stacks.append(list(neighbours))
        if any(v not in self.finite for v in neighbours[0]):
            self.integrated.add(number)
        self._add(number, neighbours)
        for v in dict.fromkeys(u for group in neighbours for u in group):
            self._sort_in(v)
        return step
