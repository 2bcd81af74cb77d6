"""The expectation of a loss under a distribution, as a loss."""

import warnings
from collections.abc import Mapping

from ._aggregates import order_of
from ._dims import BATCH, Term, spread
from ._distribution import Distribution
from ._errors import KindError, ShapeError
from ._estimators import Draw, check_estimator, draw, reduce
from ._formula import Expected, Formula, PowerMean
from ._loss import Loss
from ._scope import Scope
from ._variables import is_whole


class Expectation(Loss):
    r"""E_q[f], `(batch,)`: the variables of q are drawn, f is evaluated, and the result is averaged.

    Expectations over the same q that meet only under +, - and scaling share their draws; those in products, in quotients and inside
    another expectation draw their own.

    Args:
        q: the distribution that is drawn from.
        f: the loss inside.
        num_samples: K, how many draws are averaged; the networks of q and f run once for all of them.
        estimator: `"enumerate"` sums over a finite support, `"pathwise"` differentiates through the draw, `"score"` uses ∇q = q∇log q
            with the other draws' mean as baseline. `"auto"`, for each factor: enumerate if the support has at most 256 points, else
            pathwise where the family allows it, else score. A dict chooses per variable.
        aggregate: `"mean"`; or `"log_mean_exp"`, log 1/K Σ exp f, as in importance-weighted bounds; or a number α, the order of a Rényi
            bound, 1/(1-α) log 1/K Σ exp (1-α)f. These are functions of all K draws, and so biased for the same function of the mean.
        share: whether to share draws with other expectations at all.

    Raises:
        FormulaError: for an estimator that q cannot serve.
        KindError: for an aggregate that is none.
        ShapeError: for a set loss in f, which sees the whole batch and has no value for a draw.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> q, p = Normal(var=["z"], loc=0.0, scale=1.0, name="q"), Normal(var=["z"], loc=0.0, scale=2.0)
        >>> print(Expectation(q, p.log_prob(), num_samples=8))
        E_q(z)[log p(z)]
    """

    def __init__(
        self,
        q: Distribution,
        f: Loss,
        *,
        num_samples: int = 1,
        estimator: str | Mapping[str, str] = "auto",
        aggregate: str | float = "mean",
        share: bool = True,
    ) -> None:
        if not isinstance(q, Distribution) or not isinstance(f, Loss):
            raise KindError(
                f"Expectation takes a distribution and a loss; got {type(q).__name__} and {type(f).__name__}. Is the order q, f?"
            )
        if not is_whole(num_samples) or num_samples < 1:
            raise KindError(f"E_{q.prob_text}: num_samples must be a whole number of at least 1; got {num_samples!r}.")
        check_estimator(estimator, q.ancestral, f"E_{q.prob_text}")
        if not {*f.input_var, *f.optional_var}.intersection(q.var):
            warnings.warn(f"E_{q.prob_text}[{f}]: {f} does not use {', '.join(q.var)}, so the expectation is {f} itself.", stacklevel=2)
        if f.compares_sets and not all(x.dist.is_deterministic for x in q.ancestral):
            raise ShapeError(
                f"E_{q.prob_text}[{f}]: {f} compares sets: it sees the whole batch, and has no value for each draw, so it cannot stand "
                "inside of an expectation. Add it outside, to the mean over the batch."
            )
        super().__init__(
            [q, f],
            input_var=[*q.cond_var, *(v for v in f.input_var if v not in q.var)],
            bound_var=[*q.var, *f.bound_var],
            optional_var=f.optional_var.difference(q.var),
            per_datum=f.per_datum,
            stochastic=True,
            mixes_batch=f.mixes_batch,
            biased=f.is_biased,
            compares_sets=f.compares_sets,
        )
        self.num_samples = num_samples
        self.estimator = estimator
        self.order = order_of(aggregate, f"E_{q.prob_text}")
        self.share = share
        self.parts = (q, f)
        self._factors = q.ancestral
        # Where its draw stands in the memo: the factors, and later the numbers of their inputs.
        self._key = tuple(x for factor in self._factors for x in factor)
        self._chosen = estimator if isinstance(estimator, str) else tuple(sorted(estimator.items()))

    @property
    def formula(self) -> Formula:
        q, f = self.parts
        if self.order == 1:
            return Expected(q.density, f.formula)
        return Expected(q.density, PowerMean(f.formula, self.order), self.num_samples)

    def evaluate(self, scope: Scope) -> Term:
        q, f = self.parts
        batch = scope.batch_of(self.input_var, self)
        d = self._draw(scope, q, batch)
        if scope.shared.watch is not None:
            scope.shared.watch.drew(d)
        drawn = {name: b for name, b in d.bindings.items() if name not in q.hidden_var} if q.hidden_var else d.bindings
        samples = scope.samples if d.sample_dim is None else (d.sample_dim, *scope.samples)
        body = self.body(scope.inside(drawn, batch, samples, d.number), d)
        if f.mixes_batch and (set(d.enumerated).intersection(body.dims) or (f.per_datum and d.scored)):
            raise ShapeError(
                f"{self}: {f} mixes the data of a batch, so its expectation over {q.prob_text} is not one for each datum. "
                "Take .mean() or .sum() outside of the expectation."
            )
        term = reduce(body, d, self.order)
        if self.per_datum and BATCH not in term.dims:  # its batch is known here, and perhaps nowhere further out
            target = (*term.dims, BATCH)
            return Term(spread(term.tensor, term.dims, target, [*term.tensor.shape, batch]), target)
        return term

    def body(self, scope: Scope, d: Draw) -> Term:
        """The value of f in the scope in which the draw is bound; another estimator of the same expectation may write another one."""
        return scope.evaluate(self.parts[1])

    def _draw(self, scope: Scope, q: Distribution, batch: int) -> Draw:
        if not self.share:
            return draw(scope, self._factors, self.num_samples, self.estimator, batch, self)
        inputs = tuple([scope.bindings[name].number for name in q.cond_var])
        key = ("draw", self._key, inputs, self.num_samples, self._chosen, batch, scope.samples, scope.group)
        memo = scope.shared.memo
        found = memo.get(key)
        if found is None:
            found = memo[key] = draw(scope, self._factors, self.num_samples, self.estimator, batch, self)
        return found
