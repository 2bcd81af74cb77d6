"""The bytes that the terms of a loss take, as a table."""

import html
from collections.abc import Iterator
from dataclasses import dataclass, field

_ON_THE_CPU = "live: what autograd has saved. On CUDA the allocator counts, peaks too."


@dataclass(frozen=True)
class MemoryTerm:
    """One term of a loss, and the terms that it is made of.

    Attributes:
        text: the term, as the formula writes it.
        sign: -1 where it is subtracted from what stands above.
        live: the bytes that stay for the backward pass when it was evaluated, with those of its parts.
        peak: the most bytes that were taken at once while it was evaluated, counted from its beginning; None on the CPU.
        terms: what it is made of, in the order of evaluation.
    """

    text: str
    sign: int
    live: int
    peak: int | None
    terms: tuple["MemoryTerm", ...] = ()

    @property
    def own(self) -> int:
        """The bytes that stay of the term itself, without its parts: of an expectation, those of its draws and of the networks of q."""
        return self.live - sum([term.live for term in self.terms])

    def rows(self, depth: int = 0) -> Iterator[tuple[int, "MemoryTerm"]]:
        """Every term with its depth, the root first."""
        yield depth, self
        for term in self.terms:
            yield from term.rows(depth + 1)


@dataclass(frozen=True)
class MemoryReport:
    """The memory of a step, which prints as a table; all numbers are bytes.

    Attributes:
        terms: the loss; of a game, the loss of each player, which `train` evaluates one after the other.
        backward_peak: the most bytes that were taken at once in the backward pass, over those before the evaluation; None on the CPU.
        parameters: the weights.
        buffers: what else the modules keep.
        gradients: the gradients of the weights that are trained.
        optimizers: what the optimisers keep: now, or if they have not stepped, after their first step; None where that is not known.
        values: the data that were given.
    """

    terms: tuple[MemoryTerm, ...]
    backward_peak: int | None
    parameters: int
    buffers: int
    gradients: int
    optimizers: int | None
    values: int
    _is_model: bool = field(default=True, repr=False)

    @property
    def live(self) -> int:
        """What stays for the backward pass; of a game, of that player of whom most does."""
        return max([term.live for term in self.terms], default=0)

    @property
    def total(self) -> int:
        """All that is there when the backward pass begins: what stays for it, weights, buffers, gradients, optimisers and values."""
        return self.live + self.parameters + self.buffers + self.gradients + (self.optimizers or 0) + self.values

    def as_dict(self) -> dict[str, int]:
        """The live bytes of every term under its text; of terms with the same text, the first."""
        out: dict[str, int] = {}
        for root in self.terms:
            for _, term in root.rows():
                out.setdefault(term.text, term.live)
        return out

    def _cells(self) -> list[tuple[str, str, str]]:
        def peak(term: MemoryTerm) -> str:
            return "" if term.peak is None else human(term.peak)

        return [
            ("  " * depth + ("- " if term.sign < 0 else "") + term.text, human(term.live), peak(term))
            for root in self.terms
            for depth, term in root.rows()
        ]

    def _others(self) -> list[tuple[str, str, str]]:
        rows = [("parameters", human(self.parameters), ""), ("buffers", human(self.buffers), "")]
        if self._is_model:
            optimizers = "not known" if self.optimizers is None else human(self.optimizers)
            rows += [("gradients", human(self.gradients), ""), ("optimisers", optimizers, "")]
        rows += [("values", human(self.values), "")]
        if self.backward_peak is not None:
            rows.append(("backward pass", "", human(self.backward_peak)))
        return [*rows, ("total", human(self.total), "")]

    def __str__(self) -> str:
        rows = [("term", "live", "peak" if self.backward_peak is not None else ""), *self._cells()]
        others = self._others()
        widths = [max(len(row[i]) for row in (*rows, *others)) for i in range(3)]

        def line(row: tuple[str, str, str]) -> str:
            return f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}".rstrip()

        return "\n".join([*map(line, rows), "", *map(line, others), *([] if self.backward_peak is not None else ["", _ON_THE_CPU])])

    def _repr_html_(self) -> str:
        body = ""
        for name, *cells in (*self._cells(), *self._others()):
            rest = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            body += f'<tr><td style="text-align:left;white-space:pre">{html.escape(name)}</td>{rest}</tr>'
        return f"<table><tr><th>term</th><th>live</th><th>peak</th></tr>{body}</table>"


def human(count: int) -> str:
    """A number of bytes as people read it: `512 B`, `1.5 MiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
