"""What differs from step to step, where a graph repeats one of them."""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

from ._observation import Observation, Operation, is_trusted
from ._obstacles import NEW_NUMBER, OTHER_OPERATIONS

_LONGEST = 2000


def same_operations(steps: Sequence[Observation]) -> bool:
    """Whether all have the same operations, in the same order, whatever their numbers."""
    return all(_keys(a) == _keys(b) for a, b in pairwise(steps))


def compare(steps: Sequence[Observation]) -> None:
    """Adds the obstacles that show when steps are compared to those of the last."""
    last = steps[-1]
    for before, after in pairwise(steps):
        for a, b in _aligned(before, after):
            if a is None or b is None:
                there = a or b
                assert there is not None
                name = there.name.strip("_")
                last.report(
                    OTHER_OPERATIONS, f"{name} runs in some steps and not in others; a graph repeats those of its capture.", there.place
                )
            elif a.numbers != b.numbers and a.shapes == b.shapes and not is_trusted(b.place.actor):
                _compare_numbers(a, b, before, after, last)


def _compare_numbers(a: Operation, b: Operation, before: Observation, after: Observation, last: Observation) -> None:
    name = b.name.strip("_")
    for x, y in zip(a.numbers, b.numbers):
        is_new = type(x) is not type(y) or (x != y and not (x != x and y != y))
        if is_new and not (x in before.read and y in after.read):
            told = f"{name} gets the number {_said(x)} in one step and {_said(y)} in the next; a graph keeps the first. Give it as a value."
            last.report(NEW_NUMBER, told, b.place)
            return


def _aligned(before: Observation, after: Observation) -> Iterator[tuple[Operation | None, Operation | None]]:
    """Pairs of operations that correspond; None beside those that only one step has."""
    a, b = _keys(before), _keys(after)
    first = 0
    while first < min(len(a), len(b)) and a[first] == b[first]:
        first += 1
    tail = 0
    while tail < min(len(a), len(b)) - first and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    x, y = before.operations, after.operations
    yield from zip(x[:first], y[:first])
    inner = (slice(first, len(a) - tail), slice(first, len(b) - tail))
    blocks = [("replace", 0, len(a[inner[0]]), 0, len(b[inner[1]]))]
    if max(len(a[inner[0]]), len(b[inner[1]])) <= _LONGEST:
        blocks = SequenceMatcher(None, a[inner[0]], b[inner[1]], autojunk=False).get_opcodes()  # type: ignore[assignment]
    for tag, i, j, k, m in blocks:
        ours, theirs = x[inner[0]][i:j], y[inner[1]][k:m]
        if tag == "equal":
            yield from zip(ours, theirs)
        else:  # the first of a stretch says where it begins
            yield from [(o, None) for o in ours[:1]]
            yield from [(None, o) for o in theirs[:1]]
    yield from zip(x[len(a) - tail :], y[len(b) - tail :])


def _keys(step: Observation) -> list[tuple[Any, ...]]:
    return [(o.name, o.place.file, o.place.line) for o in step.operations]


def _said(number: Any) -> str:
    return f"{number:.6g}" if isinstance(number, float) else str(number)
