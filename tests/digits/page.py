"""The table and the picture of the page on digits, of the worst numbers that a run of the grid has seen."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from .exemptions import EXEMPTIONS
from .judged import Verdict
from .quantities import QUANTITIES
from .subjects import subjects

ASSETS = Path(__file__).parents[2] / "docs" / "assets" / "digits"
TABLE, SHOWN, EXCUSED, PICTURE = (ASSETS / name for name in ("table.tsv", "table.txt", "exemptions.txt", "digits.png"))
ALL = 7.2
"""Digits of float32."""


@dataclass(frozen=True)
class Line:
    """How many digits are lost at worst of one quantity of one family: by the library and torch in float32, by scipy in float64."""

    subject: str
    quantity: str
    rows: str
    ours: str
    torch: str
    scipy: str
    where: str


def line_of(subject: str, quantity: str, rows: int, verdicts: list[Verdict]) -> Line:
    """The worst of these numbers."""
    lost = {by: _lost(v for v in (getattr(verdict, by) for verdict in verdicts) if v is not None) for by in ("units", "torch", "scipy")}
    worst = max(verdicts, key=lambda v: v.units)
    excused = any(e.holds(worst.row, worst.number, "float32") for e in EXEMPTIONS)
    where = f"{worst.number}, {worst.row.__str__().partition(' at ')[2]}" + (" (exempt)" if excused and worst.is_off else "")
    return Line(subject, quantity, str(rows), lost["units"], lost["torch"], lost["scipy"], where)


def _lost(units: Iterable[float]) -> str:
    """The digits that the worst loses, at most all; empty where there is none."""
    every = list(units)
    return f"{min(max(math.log10(max(max(every), 1e-9)), 0.0), ALL):.1f}" if every else ""


def read() -> list[Line]:
    """The lines of the last runs."""
    lines = TABLE.read_text("utf-8").splitlines()[1:] if TABLE.is_file() else []
    return [Line(*line.split("\t")) for line in lines]


def write(new: list[Line]) -> None:
    """Puts new lines in place of those of the same families and quantities, and draws the picture anew."""
    found = {(line.subject, line.quantity): line for line in [*read(), *new]}
    order = [(s, q) for q in QUANTITIES for s in subjects() if (s, q) in found]
    lines = [found[key] for key in order]
    ASSETS.mkdir(parents=True, exist_ok=True)
    names = [f.name for f in fields(Line)]
    TABLE.write_text("\n".join(["\t".join(names), *["\t".join(getattr(line, n) for n in names) for line in lines]]) + "\n", "utf-8")
    SHOWN.write_text("\n".join(_tables(lines)) + "\n", "utf-8")
    EXCUSED.write_text("\n".join(_exemptions()) + "\n", "utf-8")
    _draw(lines)


def _tables(lines: list[Line]) -> Iterable[str]:
    """One Markdown table for each quantity."""
    for quantity in dict.fromkeys(line.quantity for line in lines):
        yield from ("", f"### {quantity[0].upper()}{quantity[1:]}", "")
        yield from ("| | points | Pixyz | torch | scipy | the worst of Pixyz is |", "|---|--:|--:|--:|--:|---|")
        for line in lines:
            if line.quantity == quantity:
                yield f"| {line.subject} | {line.rows} | {line.ours} | {line.torch or '–'} | {line.scipy or '–'} | {line.where} |"


def _exemptions() -> Iterable[str]:
    yield from ("| | | why | units |", "|---|---|---|--:|")
    merged: dict[tuple[str, str, str, str], list[str]] = {}
    for e in EXEMPTIONS:
        merged.setdefault((e.subject, e.quantity, e.reason + (f" ({e.dtype})" if e.dtype else ""), e.figure), []).append(e.number)
    for (subject, quantity, reason, figure), numbers in merged.items():
        yield f"| {subject} | {quantity}: {', '.join(numbers)} | {reason} | {figure} |"


def _draw(lines: list[Line]) -> None:
    """Digits that are kept: a column for each quantity, by the library and by torch beside it."""
    import matplotlib as mpl
    import numpy

    mpl.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(line.subject for line in lines))
    quantities = list(dict.fromkeys(line.quantity for line in lines))
    kept = {
        (line.subject, line.quantity, by): ALL - float(getattr(line, by)) for line in lines for by in ("ours", "torch") if getattr(line, by)
    }
    table = numpy.array([[kept.get((s, q, by), numpy.nan) for q in quantities for by in ("ours", "torch")] for s in names])
    figure, axes = pyplot.subplots(figsize=(4.2 + 0.5 * table.shape[1], 1 + 0.2 * len(names)))
    image = axes.imshow(numpy.ma.masked_invalid(table), aspect="auto", cmap="RdYlGn", vmin=0, vmax=ALL)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xticks(range(table.shape[1]), [f"{q}, {by}" for q in quantities for by in ("Pixyz", "torch")], fontsize=7, rotation=90)
    axes.xaxis.tick_top()
    figure.colorbar(image, ax=axes, label="digits of 7.2 that are kept at the worst corner", shrink=0.5)
    figure.savefig(PICTURE, dpi=110, bbox_inches="tight")
    pyplot.close(figure)
