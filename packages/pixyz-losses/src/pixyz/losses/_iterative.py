"""The sum of a loss over the steps of a sequence, along which variables are drawn from one another."""

import functools
from collections.abc import Iterable, Mapping

import torch

from pixyz.core import (
    Distribution,
    Expectation,
    Factor,
    FormulaError,
    Joint,
    KindError,
    Loss,
    Quantities,
    Scope,
    ShapeError,
    Term,
    add,
    differ,
    is_whole,
    reduce,
    spread,
    suggest,
    union,
)
from pixyz.core import formula as f

from ._forward import summed
from ._steps import Steps, computed, filled, mask_of, of_series, shift
from ._trajectory import Carried, Run, Span, drawn


class IterativeLoss(Loss):
    r"""The sum of a loss over the steps of a sequence, `(batch,)`:

    $$\sum_{t=0}^{T-1} \ell(x_t, z_t, z_{t-1}), \qquad z_t \sim q(z_t|z_{t-1}, x_t)$$

    Series are `(batch, time, *features)`; in the step, their names stand for one step, `(batch, *features)`. What an expectation in the
    step draws and `update_value` names is what the next step starts from. With K samples there are K sequences in all. Only what the
    next step needs is drawn step by step; everything else, as log-likelihoods, divergences and further draws, runs once for all steps,
    with time as one more dim, through the networks as a larger batch.

    A draw scored at one step has a score for the costs of this step and all later ones. Finite variables that hand on nothing but
    themselves are summed over exactly by the forward recursion, in time linear in T, with `estimator="enumerate"`, or by themselves while
    pairs of states are few. An aggregate, as of a step `IWAE(p, q, num_samples=K)`, is taken over whole sequences:
    $\log\frac{1}{K}\sum_k\exp\sum_t\ell_{t,k}$.

    Args:
        step_loss: the loss of one step.
        series_var: the variables that are series.
        update_value: for variables of a step, drawn or series, the names that they have in the next step: `{"z": "z_prev"}`. The value of
            `z_prev` for the first step, `(batch, *features)`, is given, or drawn by an expectation around this loss.
        max_iter: T; else as many steps as the series have.
        timestep_var: a variable that is the number of the step, from 0 on.
        slice_step: a `Deterministic`, which computes what the step needs of the series from them and the number of the step; then the
            names in `series_var` stand for whole series.
        mask: the variable, `(batch, time)`, that is 1 for a step and 0 for what only fills up sequences of different lengths. Steps of
            mask 0 add nothing, whatever the series have there, nan too.

    Attributes:
        num_samples: how many sequences are drawn.
        order: that of the aggregate over them, 1 for the mean.

    Raises:
        FormulaError: if an update produces nothing, or nobody uses it; if what draws it is no term of the step, or another distribution
            draws it in another term; for an enumeration of all paths.
        ShapeError: at an evaluation, for series or masks of different lengths.

    Source:
        For the costs that a score multiplies, Schulman et al. (2015), https://arxiv.org/abs/1506.05254

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> from pixyz.distributions import Normal
        >>> from pixyz.losses import ELBO
        >>> p = Normal("p(x|z)", loc="z", scale=0.1) * Normal("p(z|z_prev)", loc="z_prev", scale=1.0)
        >>> q = Normal("q(z|x,z_prev)", loc=lambda x, z_prev: (x + z_prev) / 2, scale=0.5)
        >>> loss = IterativeLoss(ELBO(p, q), series_var=["x"], update_value={"z": "z_prev"})
        >>> print(loss)
        Σ_{t=0}^{T-1} E_q(z|x,z_prev)[log p(x,z|z_prev)/q(z|x,z_prev)]
        >>> loss.estimate({"x": torch.zeros(5, 20, 3), "z_prev": torch.zeros(5, 3)}).shape
        torch.Size([5])
    """

    def __init__(
        self,
        step_loss: Loss,
        *,
        series_var: str | Iterable[str] = (),
        update_value: Mapping[str, str] | None = None,
        max_iter: int | None = None,
        timestep_var: str | None = None,
        slice_step: Distribution | None = None,
        mask: str | None = None,
    ) -> None:
        if not isinstance(step_loss, Loss):
            raise KindError(f"IterativeLoss takes the loss of one step; got a {type(step_loss).__name__}.")
        if not (timestep_var is None or isinstance(timestep_var, str)):
            raise KindError(f"Σ_t {step_loss}: timestep_var must be the name of one variable; got {timestep_var!r}.")
        series = (series_var,) if isinstance(series_var, str) else tuple(series_var)
        updates = dict(update_value or {})
        _check(step_loss, series, updates, max_iter, timestep_var, slice_step)
        if mask is not None and not step_loss.per_datum:
            raise ShapeError(f"The mask {mask} leaves out steps of single data, but {step_loss} is one number. Take .mean() outside.")
        drawn = {k: prev for k, prev in updates.items() if k not in series}
        carried, body = _take_apart(step_loss, drawn)
        sliced = () if slice_step is None else slice_step.var
        own = {*sliced, *(() if timestep_var is None else (timestep_var,))}
        needed = [*series, *step_loss.input_var, *(() if slice_step is None else slice_step.cond_var), *(() if mask is None else (mask,))]
        super().__init__(
            [step_loss, *(() if slice_step is None else (slice_step,))],
            input_var=[v for v in needed if v not in own],
            bound_var=own,
        )
        self._parts = (step_loss, body)
        self._carried = carried
        self.num_samples = 1 if carried is None else carried.num_samples
        self.order = 1.0 if carried is None else carried.order
        self._series = series
        self._shifts = {k: prev for k, prev in updates.items() if k in series}
        self._max_iter = max_iter
        self._timestep = timestep_var
        self._slices = () if slice_step is None else slice_step.ancestral
        self._mask = mask

    @property
    def formula(self) -> f.Formula:
        index = self._timestep or "t"
        last = "T-1" if self._max_iter is None else str(self._max_iter - 1)
        step = self._parts[0]
        if isinstance(step, Expectation) and step.order != 1:
            inner = f.Series(step.parts[1].formula, index, last)
            return f.Expected(step.parts[0].density, f.PowerMean(inner, step.order), step.num_samples)
        return f.Series(step.formula, index, last)

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities | None:
        return self._parts[0].quantities(drawn)

    def evaluate(self, scope: Scope) -> Term:
        run = self._run(scope)
        spans = None if self._carried is None else summed(run, self._carried)
        terms = [self._closed(span) for span in (drawn(run, self._carried) if spans is None else spans)]
        return self.for_each_datum(functools.reduce(add, terms), run.batch)

    def _run(self, scope: Scope) -> Run:
        """The values, step by step."""
        bindings = scope.bindings
        whole = [bindings[v] for v in self._series]
        found = {v: b.features[0] for v, b in zip(self._series, whole) if b.features}
        if self._max_iter is None and differ([*found.values()]):
            said = " and ".join(f"{v} has {n} steps" for v, n in found.items())
            raise ShapeError(f"{self}: {said}; the series of one loss have one length.")
        count = self._max_iter or next(iter(found.values()), 0)
        if count == 0:
            raise ShapeError(f"{self}: {self._series[0]} has no step; a series is (batch, time, *features).")
        batch = scope.batch_of(self.input_var, self)
        like = next((b.tensor for b in bindings.values() if b.tensor.is_floating_point()), torch.empty(()))
        mask = None if self._mask is None else mask_of(self._mask, bindings[self._mask], count, like, scope.shared.checks, self)
        steps = {} if self._slices else {v: of_series(v, b, count, self) for v, b in zip(self._series, whole)}
        if self._timestep is not None:
            steps[self._timestep] = Steps(torch.arange(count, device=like.device), ())
        steps.update(computed(scope, self._slices, steps, count, batch))
        if mask is not None:
            steps = {v: filled(s, mask) for v, s in steps.items()}
        for key, prev in self._shifts.items():
            steps[prev] = shift(bindings[prev], steps[key], (prev, key), self)
        return Run(scope, steps, mask, count, batch, self)

    def _closed(self, span: Span) -> Term:
        """The sum over the steps of a span, and the mean over its sequences."""
        body, d = self._parts[1], span.draw
        shared = span.scope.shared
        if shared.watch is not None:
            shared.watch.drew(d)
        tensor, dims = span.scope.evaluate(body)
        if body.mixes_batch and (d.scored or d.enumerated != (d.steps,)):
            raise ShapeError(f"{self}: {body} mixes the data of a batch. Take .mean() or .sum() outside of the sequence.")
        if d.steps is not None and d.steps not in dims:  # the same at every step
            target = union(dims, (d.steps,))
            tensor, dims = spread(tensor, dims, target, span.scope.sizes(target)), target
        return reduce(Term(tensor, dims), d, self.order)


def _take_apart(step: Loss, updates: Mapping[str, str]) -> tuple[Carried | None, Loss]:
    """What draws the variables that are handed on; and the step without that, in which they have values already."""
    found: list[tuple[Expectation, Carried]] = []

    def uncovered(term: Loss) -> Loss:
        inside = sorted(updates.keys() & term.bound_var) if term.stochastic or type(term) is Expectation else []
        if not inside:
            return term
        if type(term) is not Expectation or updates.keys().isdisjoint(term.parts[0].var):
            raise FormulaError(
                f"{term} draws {', '.join(inside)} inside, where the next step cannot have it; a step hands on what an expectation draws "
                "that is a term of the step, or a number times one."
            )
        found.append((term, Carried.of(term, updates)))
        return _bare(*found[-1])

    body = step.each_term(uncovered)
    for v, prev in updates.items():
        if not any(v in e.parts[0].var for e, _ in found):
            hint = suggest(v, step.bound_var)
            raise FormulaError(
                f"The update {v} -> {prev} produces nothing: no expectation in {step} draws {v}, and {v} is none of its series.{hint}"
            )
    if not found:
        return None, body
    (first, carried), *others = found
    for other, its in others:
        if its != carried:
            raise FormulaError(
                f"{first} and {other} both draw what the next step starts from, each in its own way. "
                "Write one expectation over both terms, or give both the same distribution, num_samples and estimator."
            )
    if carried.order != 1 and body is not first.parts[1]:
        raise FormulaError(f"{step}: an aggregate over whole sequences has no terms beside it; let the step be {first} alone.")
    carried.check(f"Σ_t {step}")
    return carried.asked_by(body), body


def _bare(e: Expectation, carried: Carried) -> Loss:
    """What an expectation averages, where the factors that are handed on are drawn already."""
    q, loss = e.parts
    names = {v for x in carried.local for v in x.var}
    if names.isdisjoint((*loss.input_var, *loss.optional_var)):
        return loss
    count = 1 if carried.is_random else e.num_samples
    chosen = {v: x for v, x in e.estimator.items() if v in names} if isinstance(e.estimator, Mapping) else e.estimator
    drawn = Joint(carried.local, q.hidden_var & names)
    return Expectation(drawn, loss, num_samples=count, estimator=chosen, max_enumerate=e.max_enumerate, share=e.share, exact=e.exact)


def _check(
    step: Loss, series: tuple[str, ...], updates: Mapping[str, str], max_iter: int | None, timestep: str | None, slices: Distribution | None
) -> None:
    """Raises an error for names and numbers that do not fit the step."""
    if max_iter is None and not series:
        raise FormulaError(f"Σ_t {step}: without series nothing says how many steps there are; give series_var or max_iter.")
    if max_iter is not None and (not is_whole(max_iter) or max_iter < 1):
        raise KindError(f"Σ_t {step}: max_iter must be a whole number of at least 1; got {max_iter!r}.")
    if slices is not None and not (isinstance(slices, Distribution) and all(x.dist.is_deterministic for x in slices.factors)):
        came = slices.prob_text if isinstance(slices, Distribution) else f"a {type(slices).__name__}"
        raise KindError(f"Σ_t {step}: slice_step must be a Deterministic, which computes the values of one step; got {came}.")
    known = {*step.input_var, *step.optional_var}
    used = known if slices is None else {*slices.cond_var}
    names = {"series_var": [v for v in series if v not in used], "update_value": [v for v in updates.values() if v not in known]}
    if timestep is not None and timestep not in (*used, *known):
        names["timestep_var"] = [timestep]
    for role, unused in names.items():
        if unused:
            where = f"slice_step {slices}" if role == "series_var" and slices is not None else f"{step}"
            raise FormulaError(f"{role}: {unused[0]} is no variable that {where} needs.{suggest(unused[0], used | known)}")
    twice = [v for v in updates.values() if v in series or v == timestep]
    if twice:
        raise FormulaError(f"update_value: {twice[0]} is the value of a step before, and cannot be a series or the timestep as well.")
