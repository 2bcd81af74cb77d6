"""Losses that compare sets of draws: they see the whole batch, and are one number."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from pixyz.core import (
    BATCH,
    Binding,
    Distribution,
    Factor,
    FormulaError,
    KindError,
    Loss,
    Quantities,
    Quantity,
    Scope,
    ShapeError,
    Term,
    differ,
    spread,
)
from pixyz.core import formula as f

from ._two_sided import need_same_variables


class SetLoss(Loss):
    """A distance between what is drawn from p and from q, `()`.

    For each datum one draw is made from either side; so p(z|x) stands for the mixture of p(z|x) over the data of the batch.

    Args:
        p: the left side.
        q: the right side, over the same variables.
        parts: modules that it is made of besides.
        by_rule: whether it is a closed form, and nothing is drawn.
        biased: whether what is computed from draws differs from the truth on average.
        per_datum: whether it has a value for each datum, as only a closed form can.

    Raises:
        FormulaError: if the two are over different variables; if something that is trained is drawn without a gradient.
    """

    symbol: ClassVar[str]
    is_analytic: bool = False

    def __init__(
        self,
        p: Distribution,
        q: Distribution,
        parts: Iterable[nn.Module] = (),
        *,
        by_rule: bool = False,
        biased: bool = False,
        per_datum: bool = False,
    ) -> None:
        need_same_variables(p, q, self.symbol)
        super().__init__(
            [p, q, *parts],
            bound_var=p.var,
            per_datum=per_datum,
            stochastic=not by_rule,
            mixes_batch=not by_rule,
            biased=biased,
            compares_sets=not by_rule,
        )
        self._pair = (p, q)
        for side in (p, q):
            need_gradients(side, self)

    @property
    def formula(self) -> f.Formula:
        p, q = self._pair
        return f.Divergence(self.symbol, p.density, q.density)

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities:
        return frozenset([(Quantity.DISTANCE, -1)])

    @abstractmethod
    def of_sets(self, x: Tensor, y: Tensor) -> Tensor:
        """The distance between `(N, D)` and `(M, D)`, `()`."""

    def evaluate(self, scope: Scope) -> Term:
        p, q = self._pair
        batches = [own_batch(scope, side.cond_var, self) for side in (p, q)]
        known = [n for n in batches if n is not None]
        # A side without data has as many draws as the other.
        sides = [draw_set(scope, side, next(iter([n] if n is not None else known), scope.batch), self) for side, n in zip((p, q), batches)]
        columns: tuple[list[Tensor], list[Tensor]] = ([], [])
        for v in p.var:
            x, y = sides[0][v].tensor, sides[1][v].tensor
            if x.shape[1:] != y.shape[1:]:
                a, b = (f"features {tuple(t.shape[1:])} under {side.prob_text}" for t, side in zip((x, y), (p, q)))
                raise ShapeError(f"{self}: {v} has {a}, {b}.")
            if x.device != y.device or (x.is_floating_point() and y.is_floating_point() and x.dtype != y.dtype):
                a, b = (f"{t.dtype} on {t.device} under {side.prob_text}" for t, side in zip((x, y), (p, q)))
                raise KindError(f"{self}: {v} is {a}, {b}. Convert one with .to().")
            kind = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float16)  # whole numbers become real ones
            for column, t in zip(columns, (x, y)):
                column.append(t.flatten(1).to(kind) if t.ndim > 1 else t.unsqueeze(-1).to(kind))
        x, y = (torch.cat(column, -1) for column in columns)
        if min(x.shape[0], y.shape[0]) < 2:
            raise ShapeError(f"{self}: it compares sets, of at least 2 draws each; here they have {len(x)} and {len(y)}.")
        return Term(self.of_sets(x, y), ())


def own_batch(scope: Scope, names: Iterable[str], who: object) -> int | None:
    """The batch of these variables; None if they have none.

    Raises:
        ShapeError: if they have several, or other dims, as those inside of an expectation.
    """
    sizes: dict[str, int] = {}
    for v in names:
        b = scope.bindings[v]
        if any(d != BATCH for d in b.dims) or scope.samples:
            _refuse(v, who)
        if BATCH in b.dims:
            sizes[v] = b.tensor.shape[0]
    if scope.samples:
        _refuse(None, who)
    if differ([*sizes.values()]):
        raise ShapeError(f"{who}: {' and '.join(f'{v} has batch {n}' for v, n in sizes.items())}; what is drawn together has one batch.")
    return next(iter(sizes.values()), None)


def _refuse(v: str | None, who: object) -> None:
    what = "stands inside of an expectation" if v is None else f"depends on {v}, of which there are several draws for each datum"
    raise ShapeError(f"{who} compares sets: it sees the whole batch, and has no value for each draw, but it {what}. Add it outside.")


def draw_set(scope: Scope, p: Distribution, batch: int, who: object) -> dict[str, Binding]:
    """One draw for each datum, `(batch, *features)` for each variable of p, with its gradient."""
    inner = scope.inside({}, batch, (), scope.shared.number())
    for factor in p.ancestral:
        conditional = inner.conditional(factor)
        dims, sizes = inner.draw_dims(factor, conditional, ())
        for v, term in zip(factor.var, conditional.draw(dims, sizes, pathwise=True)):
            inner.bind(v, spread(term.tensor, term.dims, dims, sizes), dims)
    return {v: inner.bindings[v] for v in p.var}


def need_gradients(p: Distribution, who: object) -> None:
    """An error if training would lose a gradient, without a word, at a draw that has none."""
    for factor in p.factors:
        if not (factor.dist.has_rsample or factor.dist.is_deterministic) and any(t.requires_grad for t in p.parameters()):
            raise FormulaError(
                f"{who}: draws of {factor} ({factor.dist.distribution_name}) have no gradient, so {p.prob_text} would not be trained. "
                f"Use a relaxed family, or freeze it with {p.name}.requires_grad_(False)."
            )
