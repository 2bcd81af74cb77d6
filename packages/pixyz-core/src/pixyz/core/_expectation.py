"""The expectation of a loss under a distribution, as a loss."""

import warnings

from ._aggregates import order_of
from ._baselines import baseline_networks, holder
from ._bindings import Factor
from ._choices import AnyEstimator, parameter_names, resolve
from ._copies import MAX_ENUMERATE
from ._differences import check_differences
from ._dims import Term
from ._distribution import Distribution
from ._drawing import Draw, draw, has_trained, in_forward_mode, loses_gradient, plan
from ._errors import FormulaError, KindError, ShapeError
from ._estimators import reduce
from ._formula import Expected, Formula, PowerMean
from ._loss import Loss
from ._methods import check_limit
from ._quantities import Quantities
from ._rebar import reduce_rebar
from ._relaxations import Rebar
from ._scope import Scope
from ._summands import put_draw, summands
from ._variables import is_whole


class Expectation(Loss):
    r"""E_q[f], `(batch,)`: the variables of q are drawn, f is evaluated, and the result is averaged.

    Expectations over the same q that meet only under +, - and scaling share their draws; those in products, in quotients and inside
    another expectation draw their own.

    Args:
        q: the distribution that is drawn from.
        f: the loss inside.
        num_samples: K, how many draws are averaged; the networks of q and f run once for all of them.
        estimator: where the gradient of q comes from: a name, or an object with options, or a dict from variables to these.
            `"auto"`, for each factor: enumerate if the support has at most `max_enumerate` points, else pathwise where the family allows
            it, else score; and a plain draw where nothing to be trained stands in or above the factor. [Estimators](../estimators.md)
            compares them.

            - `"enumerate"`, [`Enumerate`][pixyz.core.Enumerate]: the sum over a finite support.
            - `"pathwise"`, [`Pathwise`][pixyz.core.Pathwise]: through the draw.
            - `"sample"`, [`Sample`][pixyz.core.Sample]: a draw without a gradient for q.
            - `"score"`, [`Score`][pixyz.core.Score]: ∇q = q∇log q, with a baseline: the other draws' mean, or a module.
            - `"relaxed"`, [`Relaxed`][pixyz.core.Relaxed]: the concrete, or Gumbel-softmax, draw; biased.
            - `"straight_through"`, [`StraightThrough`][pixyz.core.StraightThrough]: a draw with another's gradient; biased.
            - `"rebar"`, [`Rebar`][pixyz.core.Rebar]: the score with a relaxed draw as control variate.
        max_enumerate: how many points may be summed over in one table. Where all variables of q are enumerated, f is summed term by
            term, and a table has the variables of one term; else it has all enumerated variables.
        aggregate: `"mean"`; or `"log_mean_exp"`, log 1/K Σ exp f, as in importance-weighted bounds; or a number α, the order of a Rényi
            bound, 1/(1-α) log 1/K Σ exp (1-α)f. These are functions of all K draws, and so biased for the same function of the mean.
        share: whether to share draws with other expectations at all.
        exact: whether `"auto"` sums over finitely many values where nothing is to be trained as well, as in a divergence.

    Raises:
        FormulaError: for an estimator that q cannot serve, or that the aggregate cannot.
        KindError: for an aggregate or an estimator that is none.
        IntractableError: at an evaluation, if what is to be enumerated has too many points.
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
        estimator: AnyEstimator = "auto",
        max_enumerate: int = MAX_ENUMERATE,
        aggregate: str | float = "mean",
        share: bool = True,
        exact: bool = False,
    ) -> None:
        if not isinstance(q, Distribution) or not isinstance(f, Loss):
            raise KindError(
                f"Expectation takes a distribution and a loss; got {type(q).__name__} and {type(f).__name__}. Is the order q, f?"
            )
        if not is_whole(num_samples) or num_samples < 1:
            raise KindError(f"E_{q.prob_text}: num_samples must be a whole number of at least 1; got {num_samples!r}.")
        check_limit(max_enumerate, f"E_{q.prob_text}")
        asked = resolve(estimator, q.ancestral, f"E_{q.prob_text}")
        order = order_of(aggregate, f"E_{q.prob_text}")
        if order != 1 and any(isinstance(e, Rebar) for e in asked):
            raise FormulaError(
                f"E_{q.prob_text}: the estimator 'rebar' is for the aggregate 'mean'; use 'score', whose baseline is VIMCO's."
            )
        networks = baseline_networks(asked, q.ancestral)
        plans = plan(q.ancestral, asked, networks)
        temperatures = parameter_names(asked)
        if not {*f.input_var, *f.optional_var}.intersection(q.var):
            warnings.warn(f"E_{q.prob_text}[{f}]: {f} does not use {', '.join(q.var)}, so the expectation is {f} itself.", stacklevel=2)
        check_differences(f, q)
        if f.compares_sets and not all(x.dist.is_deterministic for x in q.ancestral):
            raise ShapeError(
                f"E_{q.prob_text}[{f}]: {f} compares sets: it sees the whole batch, and has no value for each draw, so it cannot stand "
                "inside of an expectation. Add it outside, to the mean over the batch."
            )
        super().__init__(
            [q, f, holder(networks)],
            input_var=[*q.cond_var, *(v for v in f.input_var if v not in q.var), *temperatures],
            bound_var=q.var,
            optional_var=f.optional_var.difference(q.var),
            stochastic=not _random(q).isdisjoint((*f.input_var, *f.optional_var)),
            # The mean of order α of an estimate, as log mean exp, is a nonlinear function of it.
            biased=(order != 1 and f.stochastic) or any([e.biased for e in asked if e is not None]) or loses_gradient(plans),
        )
        self.num_samples = num_samples
        self.estimator = estimator
        self.max_enumerate = max_enumerate
        self.order = order
        self.share = share
        self.exact = exact
        self.parts = (q, f)
        self.plans = plans
        self._summands = summands(f, self.plans) if order == 1 and type(self).body is Expectation.body else None
        # Where its draw stands in the memo: what is drawn and how, and later the numbers of their inputs.
        self._inputs = (*q.cond_var, *temperatures)
        self._key = ("draw", *[x for factor in q.ancestral for x in factor], asked, max_enumerate, num_samples)

    @property
    def formula(self) -> Formula:
        q, f = self.parts
        if self.order == 1:
            return Expected(q.density, f.formula)
        return Expected(q.density, PowerMean(f.formula, self.order), self.num_samples)

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities | None:
        q, f = self.parts
        found = f.quantities(drawn.union(q.ancestral))
        if self.order == 1 or found is None:
            return found
        # The power mean of an order of 0 or more is a lower bound on the logarithm of the mean, as the mean is.
        return found if self.order >= 0 and all([sign > 0 for _, sign in found]) else None

    def evaluate(self, scope: Scope) -> Term:
        batch = scope.batch_of(self.input_var, self)
        split = self._summands
        d = self._draw(scope, batch, None if split is None else split.together)
        if split is not None and d.scored:  # one of the tables was too large
            split, d = None, self._draw(scope, batch)
        if scope.shared.watch is not None:
            scope.shared.watch.drew(d)
        if split is None:
            term = self._reduced(scope, d, batch)
        else:
            inner = self._inside(scope, d, batch)
            put_draw(inner, d)
            term = inner.evaluate(split.loss)
        return self.for_each_datum(term, batch)  # its batch is known here, and perhaps nowhere further out

    def _reduced(self, scope: Scope, d: Draw, batch: int) -> Term:
        q, f = self.parts
        body = self._body(scope, d, batch)
        if f.mixes_batch and (set(d.enumerated).intersection(body.dims) or (f.per_datum and d.scored)):
            raise ShapeError(
                f"{self}: {f} mixes the data of a batch, so its expectation over {q.prob_text} is not one for each datum. "
                "Take .mean() or .sum() outside of the expectation."
            )
        if d.relaxed:
            return reduce_rebar(body, d, lambda version: self._body(scope, version, batch), scope)
        return reduce(body, d, self.order)

    def _inside(self, scope: Scope, d: Draw, batch: int) -> Scope:
        hidden = self.parts[0].hidden_var
        drawn = {name: b for name, b in d.bindings.items() if name not in hidden} if hidden else d.bindings
        samples = scope.samples if d.sample_dim is None else (d.sample_dim, *scope.samples)
        return scope.inside(drawn, batch, samples, d.number)

    def _body(self, scope: Scope, d: Draw, batch: int) -> Term:
        return self.body(self._inside(scope, d, batch), d)

    def body(self, scope: Scope, d: Draw) -> Term:
        """The value of f in the scope in which the draw is bound; another estimator of the same expectation may write another one."""
        return scope.evaluate(self.parts[1])

    def _draw(self, scope: Scope, batch: int, together: tuple[frozenset[str], ...] | None = None) -> Draw:
        def anew() -> Draw:
            return draw(scope, self.plans, self.num_samples, self.max_enumerate, batch, self, together=together, exact=self.exact)

        if not self.share:
            return anew()
        inputs = tuple([scope.bindings[name].number for name in self._inputs])
        # A sum over what others draw, where nothing is to be trained, is no draw to share with them.
        alone = self.exact and any([x.factor.dist.has_enumerate for x in self.plans]) and not self._is_trained()
        key = (*self._key, together, alone, inputs, scope.samples, scope.group)
        # Draws for other batches stand beside it: a size is compared, for one that a graph leaves open cannot stand in a key.
        drawn: list[tuple[int, Draw]] = scope.shared.memo.setdefault(key, [])
        for size, found in drawn:
            if size == batch:
                return found
        drawn.append((batch, anew()))
        return drawn[-1][1]

    def _is_trained(self) -> bool:
        return in_forward_mode() or any([has_trained(x.factor.dist) for x in self.plans])


def _random(q: Distribution) -> set[str]:
    """The variables of q that are drawn, or computed from what is drawn."""
    found: set[str] = set()
    for factor in q.ancestral:
        if not factor.dist.is_deterministic or not found.isdisjoint(factor.cond_var):
            found.update(factor.var)
    return found.difference(q.hidden_var)
