"""What `gpu.py` has found: lines of JSON, tables, and the bounds; needs nothing but Python."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

BY_HAND, COMPILED_BY_HAND, GRAPH_BY_HAND = "by hand", "by hand, compiled", "by hand, CUDA graph"
OURS, OURS_COMPILED, GRAPHED, COMPILED_GRAPHED = "pixyz", "pixyz, compiled", "pixyz, graphed", "pixyz, compiled, graphed"
AGAIN = f"{GRAPH_BY_HAND}, again"
"""The captured graph once more: how far its ratio is from 1 is the noise."""
ON_CUDA = (AGAIN, COMPILED_GRAPHED)
"""Rows that have nothing to say on another device."""

ORDER = (BY_HAND, COMPILED_BY_HAND, GRAPH_BY_HAND, AGAIN, OURS, OURS_COMPILED, GRAPHED, COMPILED_GRAPHED)

GRAPH_BOUND, EAGER_BOUND, CAPTURE_BOUND = 1.05, 5.0, 2.0

Figures = dict[str, Any]


class Report:
    """The figures of all rows, by size and row; each addition is one more line of a file, if there is one.

    Args:
        machine: what was measured on.
        path: the file.
    """

    def __init__(self, machine: Mapping[str, Any], path: Path | None = None) -> None:
        self.machine = dict(machine)
        self.rows: dict[tuple[str, str], Figures] = {}
        self._path = path
        if path is not None:
            path.write_text("", encoding="utf-8")
        self._write({"machine": self.machine})

    def add(self, size: str, row: str, **figures: Any) -> None:
        """More figures of a row."""
        self.rows.setdefault((size, row), {}).update(figures)
        self._write({"size": size, "row": row, **figures})

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    @property
    def has_failed(self) -> bool:
        """Whether a row has."""
        return any("error" in figures for figures in self.rows.values())


def read(path: Path) -> Report:
    """The report that was written to a file; a last line that was cut off is left out."""
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    first, *lines = [json.loads(line) for line in whole]
    report = Report(first["machine"])
    for line in lines:
        report.add(line.pop("size"), line.pop("row"), **line)
    return report


def place(row: str) -> int:
    """Where a row stands among those of its size."""
    return ORDER.index(row) if row in ORDER else len(ORDER)


def number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def ratio(values: list[float] | None) -> str:
    """The median of the parts of a measurement, with the least and the largest."""
    return "" if not values else f"{sorted(values)[len(values) // 2]:.2f} ({min(values):.2f}–{max(values):.2f})"


COLUMNS = {
    "ms": lambda f: number(f.get("ms"), 3),
    "/ by hand": lambda f: ratio(f.get("to_hand")),
    "/ CUDA graph by hand": lambda f: ratio(f.get("to_graph")),
    "launches": lambda f: number(f.get("launches")),
    "kernels": lambda f: number(f.get("kernels")),
    "waits": lambda f: number(f.get("waits"), 2),
    "syncs": lambda f: number(f.get("syncs"), 2),
    "peak MiB": lambda f: number(f.get("peak_mib"), 2),
    "capture s": lambda f: number(f.get("capture_s"), 2),
    "": lambda f: f.get("error") or f.get("note") or "",
}


def markdown(report: Report, sizes: Iterable[str] | None = None) -> str:
    """A table of the rows of some sizes, or of all; without the columns that are empty."""
    wanted = [*dict.fromkeys(size for size, _ in report.rows)] if sizes is None else [*sizes]
    rows = sorted([key for key in report.rows if key[0] in wanted], key=lambda key: (wanted.index(key[0]), place(key[1])))
    cells = [[*key, *(show(report.rows[key]).replace("|", "\\|") for show in COLUMNS.values())] for key in rows]
    head = ["size", "row", *COLUMNS]
    if report.machine.get("device") == "cpu":
        head[head.index("launches")], head[head.index("syncs")] = "operations", "host reads"
    kept = [i for i in range(len(head)) if i < 2 or any(line[i] for line in cells)]
    table = [[line[i] for i in kept] for line in [head, *cells]]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    is_text = [head[i] in ("size", "row", "") for i in kept]
    lines = [" | ".join(c.ljust(w) if t else c.rjust(w) for c, w, t in zip(line, widths, is_text, strict=True)) for line in table]
    rule = " | ".join("-" * w if t else "-" * (w - 1) + ":" for w, t in zip(widths, is_text, strict=True))
    return "\n".join(f"| {line} |" for line in [lines[0], rule, *lines[1:]])


def verdict(value: float | None, is_met: bool, unit: str = "") -> str:
    return "not measured here" if value is None else f"{'met' if is_met else 'missed'}: {value:.2f}{unit}"


def bounds(report: Report) -> list[tuple[str, str]]:
    """Each bound, and whether it is met, missed, or not measured here."""
    found = []

    def figure(size: str, row: str, name: str) -> Any:
        return report.rows.get((size, row), {}).get(name)

    def middle(values: list[float] | None) -> float | None:
        return None if not values else sorted(values)[len(values) // 2]

    reads = " host reads on the CPU" if report.machine.get("device") == "cpu" else ""
    for size in dict.fromkeys(size for size, _ in report.rows):
        for row in (GRAPHED, COMPILED_GRAPHED):
            value = middle(figure(size, row, "to_graph"))
            said = verdict(value, value is not None and value <= GRAPH_BOUND)
            found.append((f"{size}: {row} ≤ {GRAPH_BOUND} × the CUDA graph by hand", said))
        if size == "small":
            eager, graph = figure(size, OURS, "ms"), figure(size, GRAPHED, "ms")
            value = None if eager is None or graph is None else eager / graph
            found.append(
                (
                    f"{size}: graphed ≥ {EAGER_BOUND:.0f} × faster than eager",
                    verdict(value, value is not None and value >= EAGER_BOUND, " ×"),
                )
            )
        for row in (OURS, OURS_COMPILED, GRAPHED, COMPILED_GRAPHED):
            value = figure(size, row, "syncs")
            found.append((f"{size}: 0 synchronisations in a step of: {row}", verdict(value, value == 0, reads)))
        value = figure(size, GRAPHED, "capture_s")
        found.append((f"{size}: capture ≤ {CAPTURE_BOUND:.0f} s", verdict(value, value is not None and value <= CAPTURE_BOUND, " s")))
    return found
