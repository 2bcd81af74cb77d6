"""A loss, explained: the formula as a tree with the value of every term."""

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ._checks import ON_HOST
from ._depth import nested
from ._dims import BATCH, Term
from ._drawing import Draw
from ._estimators import reduce
from ._loss import Loss


@dataclass(frozen=True)
class Explanation:
    """One term of a loss, and the terms that it is made of. It prints as a table, and notebooks show one.

    Attributes:
        text: the term, as the formula writes it.
        sign: -1 where it is subtracted from what stands above.
        value: of a term with one value per datum the mean over the data; inside an expectation its expectation, so that terms add up.
        error: the standard error of that value from the draws, where an expectation averages two or more; None elsewhere.
        shape: of what it evaluates to outside of expectations, `(batch,)` or `()`.
        how: for an expectation, how its variables are drawn or summed; for a divergence, whether it is in closed form.
        terms: what it is made of, in the order of evaluation.
        gradient_norms: at the root, the norm of the loss's gradient for each distribution, if they were asked for.
    """

    text: str
    sign: int
    value: float
    error: float | None
    shape: tuple[int, ...]
    how: str
    terms: tuple["Explanation", ...] = ()
    gradient_norms: Mapping[str, float] = field(default_factory=dict)

    def rows(self, depth: int = 0) -> Iterator[tuple[int, "Explanation"]]:
        """Every term with its depth, the root first."""
        yield depth, self
        for term in self.terms:
            yield from term.rows(depth + 1)

    def as_dict(self) -> dict[str, float]:
        """The value of every term under its text, for loggers; of terms with the same text, the first."""
        out: dict[str, float] = {}
        for _, term in self.rows():
            out.setdefault(term.text, term.value)
        return out

    def _cells(self) -> list[tuple[str, str, str, str, str]]:
        cells = []
        for depth, t in self.rows():
            error = "" if t.error is None else f"± {t.error:.2g}"
            shape = f"({', '.join(map(str, t.shape))}{',' * (len(t.shape) == 1)})"
            cells.append(("  " * depth + ("- " if t.sign < 0 else "") + t.text, f"{t.value:.6g}", error, shape, t.how))
        return cells

    def __str__(self) -> str:
        head = ("term", "value", "", "shape", "how")
        rows = [head, *self._cells()]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}} {row[2]:<{widths[2]}}  {row[3]:<{widths[3]}}  {row[4]}".rstrip() for row in rows
        ]
        if self.gradient_norms:
            lines += ["", "norm of the gradient for"]
            width = max(map(len, self.gradient_norms))
            lines += [f"  {name:<{width}}  {norm:.4g}" for name, norm in self.gradient_norms.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        body = ""
        for name, *cells in self._cells():
            rest = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            body += f'<tr><td style="text-align:left;white-space:pre">{html.escape(name)}</td>{rest}</tr>'
        return f"<table><tr><th>term</th><th>value</th><th></th><th>shape</th><th>how</th></tr>{body}</table>"


class _Node:
    def __init__(self, who: object) -> None:
        self.who = who
        self.term = Term(torch.zeros(()), ())
        self.draw: Draw | None = None
        self.parts: list[_Node] = []


class Recorder:
    """A watcher that keeps every term of one evaluation, as a tree."""

    def __init__(self) -> None:
        self.root = _Node(None)
        self._open = [self.root]

    def enter(self, who: object) -> None:
        node = _Node(who)
        self._open[-1].parts.append(node)
        self._open.append(node)

    def drew(self, draw: Draw) -> None:
        self._open[-1].draw = draw

    def leave(self, who: object, term: Term) -> None:
        self._open.pop().term = Term(term.tensor.detach(), term.dims)

    def explained(self, gradient_norms: Mapping[str, float] | None = None) -> Explanation:
        """What was recorded."""
        return _explained(self.root.parts[0], 1, (), gradient_norms or {})


@nested("explained")
def explain(loss: Loss, values: Mapping[str, Any] | None, *, gradients: bool, **options: Any) -> Explanation:
    """One evaluation of the loss, recorded."""
    recorder = Recorder()
    with torch.set_grad_enabled(gradients):
        value = Loss.forward(loss, values, watch=recorder, validate=ON_HOST, **options)
    norms: dict[str, float] = {}
    if gradients:
        for name, leaf in loss.named_children():
            parameters = [p for p in leaf.parameters() if p.requires_grad]
            found = torch.autograd.grad(value.sum(), parameters, retain_graph=True, allow_unused=True) if parameters else ()
            norms[name] = sum(float(g.square().sum()) for g in found if g is not None) ** 0.5
    return recorder.explained(norms)


def _explained(node: _Node, sign: int, draws: tuple[Draw, ...], norms: Mapping[str, float]) -> Explanation:
    inner = draws if node.draw is None else (*draws, node.draw)
    who = node.who
    parts = node.parts
    if len(parts) == 1 and not parts[0].parts and str(parts[0].who) == str(who):
        parts = []  # a product of one factor says itself twice
    signs = who.signs() if isinstance(who, Loss) else {}
    value, error = _value(node.term, draws)
    if node.draw is not None and getattr(who, "order", 1) == 1:
        _, error = _value(node.parts[-1].term, inner)
    terms = tuple(_explained(part, signs.get(part.who, 1) if isinstance(part.who, Loss) else 1, inner, {}) for part in parts)
    outside = {d for d in node.term.dims if d != BATCH}
    shape = tuple(n for d, n in zip(node.term.dims, node.term.tensor.shape) if d not in outside)
    return Explanation(str(who), sign, value, error, shape, _how(node), terms, norms)


def _value(term: Term, draws: tuple[Draw, ...]) -> tuple[float, float | None]:
    """The expectation under the draws, the innermost first, and its standard error from those of the innermost."""
    error = _error(term, draws[-1]) if draws else None
    for draw in reversed(draws):
        term = reduce(term, _plain(draw))
    return float(term.tensor.double().mean()), error


def _error(term: Term, draw: Draw) -> float | None:
    """Over the data, of the mean of what several draws give."""
    if draw.sample_dim is None or draw.sample_dim not in term.dims:
        return None
    count = term.tensor.shape[term.dims.index(draw.sample_dim)]
    if count < 2:
        return None
    alone = reduce(Term(term.tensor.double(), term.dims), _plain(draw)._replace(sample_dim=None))
    variance = alone.tensor.var(alone.dims.index(draw.sample_dim)) / count
    return float(variance.sum().sqrt() / max(variance.numel(), 1))


def _plain(draw: Draw) -> Draw:
    """The draw with nothing that has a gradient."""
    return draw._replace(scored=(), weights=tuple(Term(w.tensor.detach(), w.dims) for w in draw.weights))


def _how(node: _Node) -> str:
    who, draw = node.who, node.draw
    if draw is None:
        return "closed form" if getattr(who, "is_analytic", False) else ""
    names: dict[str, list[str]] = {}
    for name, choice in draw.methods.items():
        names.setdefault(choice.words(getattr(who, "num_samples", 1)), []).append(name)
    return "; ".join(f"{', '.join(names)} {words}" for words, names in names.items())
