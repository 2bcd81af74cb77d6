"""Means over the data and over draws, as the papers on adversarial training write them."""

from collections.abc import Callable, Mapping

from pixyz.core import AnyEstimator, Binding, Distribution, Draw, Expectation, KindError, Loss, Mean, Scope, ShapeError, Term
from pixyz.core import formula as f

DATA = "p_data"


class Averaged(Mean):
    r"""The mean over the data of the batch, and over draws, `()`: $\mathbb{E}_{p_\mathrm{data}(x)}[f(x)]$, $\mathbb{E}_{p(x)}[f(x)]$.

    Args:
        of: f, one value for each datum.
        q: what draws variables of f, one draw for each datum; None if all are given.
        estimator: as in `Expectation`. None for one draw, pathwise where the family allows it, else with a score.
    """

    def __init__(self, of: Loss, q: Distribution | None = None, *, estimator: AnyEstimator | None = None) -> None:
        super().__init__(of if q is None else Drawn(q, of, estimator=estimator))
        self._written = (of, q)

    @property
    def formula(self) -> f.Formula:
        of, q = self._written
        given = self.input_var
        over = [*([f.Density(DATA, given)] if given else []), *([] if q is None else [q.density])]
        return f.Expected(over[0] if len(over) == 1 else f.Juxtaposed(tuple(over)), of.formula)

    def each_term(self, change: Callable[[Loss], Loss]) -> Loss:
        return change(self)


class Drawn(Expectation):
    """An expectation under what imitates given data: what it draws must be like them.

    Args:
        q: what draws.
        of: the loss.
        estimator: as in `Expectation`. None for one draw, pathwise where the family allows it, else with a score.
    """

    def __init__(self, q: Distribution, of: Loss, *, estimator: AnyEstimator | None = None) -> None:
        super().__init__(q, of, estimator=one_draw(q) if estimator is None else estimator)

    def _body(self, scope: Scope, d: Draw, batch: int) -> Term:
        for v, drawn in d.bindings.items():
            given = scope.bindings.get(v)
            if given is not None:
                self._check_like(v, drawn, given)
        return super()._body(scope, d, batch)

    def _check_like(self, v: str, drawn: Binding, given: Binding) -> None:
        x, y = drawn.tensor, given.tensor
        if x.shape[len(drawn.dims) :] != y.shape[len(given.dims) :]:
            p = self.parts[0].prob_text
            raise ShapeError(f"{self}: {p} draws {v} of features {drawn.features}, but the data have {given.features}.")
        if x.device != y.device or (x.is_floating_point() and y.is_floating_point() and x.dtype != y.dtype):
            p = self.parts[0].prob_text
            raise KindError(
                f"{self}: {p} draws {v} as {x.dtype} on {x.device}, but the data are {y.dtype} on {y.device}. Convert one with .to()."
            )


class Aliased(Loss):
    """A loss in which given variables have second names, so that they stay in sight where their own are drawn.

    Args:
        loss: the loss.
        names: for each second name the variable.
    """

    def __init__(self, loss: Loss, names: Mapping[str, str]) -> None:
        super().__init__([loss], input_var=[names.get(v, v) for v in loss.input_var])
        self._loss = loss
        self._names = dict(names)

    @property
    def formula(self) -> f.Formula:
        return self._loss.formula

    def evaluate(self, scope: Scope) -> Term:
        known = {second: scope.bindings[v] for second, v in self._names.items()}
        return scope.inside(known, scope.batch, scope.samples, scope.group).evaluate(self._loss)


def one_draw(q: Distribution) -> AnyEstimator:
    """For each variable its one draw, with a gradient that is unbiased."""
    drawing = [factor for factor in q.ancestral if not factor.dist.is_deterministic]
    return {v: "pathwise" if factor.dist.has_rsample else "score" for factor in drawing for v in factor.var} or "auto"
