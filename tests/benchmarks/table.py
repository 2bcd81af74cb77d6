"""A table of a benchmark: the rows' times, and their ratios to the references; needs nothing but torch.

A reference is a row, and a second row, "NAME, again", is the same program once more. How far the second one's ratios are from 1 is the
noise of the table: a ratio that is no further from 1 is called noise.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence

Medians = dict[str, list[float]]
"""The median microseconds of every row, one for each run."""


def again(row: str) -> str:
    """The name of the row that is the same program once more."""
    return f"{row}, again"


def collect(measure: Callable[[], Mapping[str, float]], runs: int) -> Medians:
    """The medians of several runs, row by row."""
    medians: Medians = {}
    for _ in range(runs):
        for row, median in measure().items():
            medians.setdefault(row, []).append(median)
    return medians


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def noise_of(medians: Medians, reference: str) -> float:
    """How far from 1 the ratio of a reference to itself was, in the worst run."""
    return max((abs(ratio - 1) for ratio in ratios(medians.get(again(reference), medians[reference]), medians[reference])), default=0.0)


def show_ratio(values: Sequence[float], noise: float | None = None) -> str:
    """The median with the least and the largest, and "noise" where the median is no further from 1 than that."""
    middle = statistics.median(values)
    shown = f"{middle:.3f} ({min(values):.3f}–{max(values):.3f})"
    return shown if noise is None else shown + (" noise" if abs(middle - 1) <= noise else " " * len(" noise"))


def print_table(
    title: str,
    medians: Medians,
    references: Sequence[str],
    *,
    required: Mapping[str, tuple[str, float]] | None = None,
    unit: str = "µs",
) -> None:
    """One line a row. `required` says for a row the reference and the largest ratio to it that is wanted."""
    scale = {"µs": 1.0, "ms": 1e-3}[unit]
    cells = [["", unit, *(f"/ {reference}" for reference in references), ""]]
    for row, times in medians.items():
        line = [row, f"{statistics.median(times) * scale:.{0 if unit == 'µs' else 1}f}"]
        for reference in references:
            noise = -1.0 if row in (reference, again(reference)) else noise_of(medians, reference)
            line.append(show_ratio(ratios(times, medians[reference]), noise))
        reference, bound = (required or {}).get(row, ("", 0.0))
        cells.append([*line, f"≤ {bound:.2f} × {reference}" if reference else ""])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for first, *rest in cells:
        middle = "  ".join(cell.rjust(width) for cell, width in zip(rest[:-1], widths[1:-1], strict=True))
        print(f"  {first.ljust(widths[0])}  {middle}  {rest[-1]}".rstrip(), flush=True)
