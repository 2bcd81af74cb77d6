"""Sequences drawn step by step, and bound with time as one more dim."""

from collections.abc import Mapping
from typing import NamedTuple

from pixyz.core import (
    Binding,
    Draw,
    Enumerate,
    Expectation,
    Factor,
    FormulaError,
    Loss,
    Plan,
    Rebar,
    Scope,
    Score,
    Term,
    draw,
    leaves_of,
    stack_scored,
    warn_without_baseline,
)

from ._steps import Steps, shift, stack


class Carried(NamedTuple):
    """What the steps hand on.

    Attributes:
        plans: the conditionals of q that the next step depends on, and how they are estimated, parents first.
        local: the other conditionals.
        updates: for what is drawn and handed on, its name in the next step.
        num_samples: how many sequences are drawn.
        limit: how many values may be summed out.
        order: that of the aggregate over the sequences.
        asked: those of the conditionals that the body scores or compares.
    """

    plans: tuple[Plan, ...]
    local: tuple[Factor, ...]
    updates: dict[str, str]
    num_samples: int
    limit: int
    order: float
    asked: tuple[Factor, ...] = ()

    @classmethod
    def of(cls, e: Expectation, updates: Mapping[str, str]) -> "Carried":
        """The factors of an expectation, by whether the next step depends on them."""
        every = e.parts[0].ancestral
        needed = set(updates) if e.order == 1 else {v for x in every for v in x.var}
        for x in reversed(every):
            if not needed.isdisjoint(x.var):
                needed.update(x.cond_var)
        plans = tuple(x for x in e.plans if not needed.isdisjoint(x.factor.var))
        local = tuple(x for x in every if needed.isdisjoint(x.var))
        return cls(plans, local, dict(updates), e.num_samples, e.max_enumerate, e.order)

    @property
    def is_random(self) -> bool:
        """Whether the next step depends on anything drawn."""
        return any(not x.factor.dist.is_deterministic for x in self.plans)

    @property
    def is_chain(self) -> bool:
        """Whether all that the next step depends on is finite, so that its values can be summed out before the step after."""
        drawn = {v for x in self.plans for v in x.factor.var}
        return drawn.issuperset(self.updates) and all(_is_summed(x) for x in self.plans)

    @property
    def asks_for_sums(self) -> bool:
        """Whether the user asked for an enumeration."""
        return any(isinstance(x.asked, Enumerate) for x in self.plans)

    def asked_by(self, body: Loss) -> "Carried":
        """The same, where the body is known; what it asks of a conditional must not run its network again."""
        leaves = set(body.children())
        factors = [x.factor for x in self.plans]
        return self._replace(asked=tuple(x for x in factors if x.cond_var and not leaves.isdisjoint(leaves_of(x.dist))))

    def check(self, who: str) -> None:
        """An error for an estimator that sequences cannot have; a warning where scores have no baseline."""
        for x in self.plans:
            if isinstance(x.asked, Rebar):
                raise FormulaError(f"{who}: {x.factor} is drawn step by step, which 'rebar' cannot do; use 'score' or 'relaxed'.")
            if self.order != 1 and x.network is not None and x.network.sees_values:
                raise FormulaError(
                    f"{who}: an aggregate is over whole sequences, and the baseline of {x.factor} sees one step; use 'score'."
                )
            if self.is_chain or not _is_summed(x):
                continue
            if x.asked is not None:
                raise FormulaError(
                    f"{who}: summing over {x.factor} at every step takes all paths, K^T of them, because the next step depends on more "
                    "than finite variables. Use 'score'."
                )
            if self.num_samples == 1:
                warn_without_baseline(who, x.factor, stacklevel=5)

    @property
    def sampling(self) -> tuple[Plan, ...]:
        """The plans where finite variables are not summed out."""
        return tuple(x._replace(asked=Score()) if _is_summed(x) else x for x in self.plans)


def _is_summed(x: Plan) -> bool:
    """Whether a factor is summed over wherever it can be."""
    return x.factor.dist.has_enumerate and (x.asked is None or isinstance(x.asked, Enumerate))


class Run(NamedTuple):
    """One evaluation of a loss over steps.

    Attributes:
        scope: where it is evaluated.
        steps: what has a value at every step.
        mask: which steps there are.
        length: T.
        batch: the batch.
        who: the loss.
    """

    scope: Scope
    steps: dict[str, Steps]
    mask: Steps | None
    length: int
    batch: int
    who: Loss

    def open(self, first: int, last: int, steps: Mapping[str, Steps], samples: tuple[int, ...]) -> tuple[Scope, int, tuple[Term, ...]]:
        """A scope in which these steps are bound at once; the dim of time; and the log of the mask, as a weight."""
        shared = self.scope.shared
        time = shared.open_dim(last - first)
        inner = self.scope.inside({}, self.batch, (time, *samples), shared.number())
        for name, s in steps.items():
            s.part(first, last).bind(inner, name, time)
        if self.mask is None:
            return inner, time, ()
        part = self.mask.part(first, last)
        return inner, time, (Term(part.tensor.log(), (time, *part.dims)),)


class Span(NamedTuple):
    """Steps at which the loss is evaluated at once.

    Attributes:
        scope: in which they are bound.
        draw: how they are averaged and summed.
    """

    scope: Scope
    draw: Draw


def drawn(run: Run, carried: Carried | None) -> list[Span]:
    """All steps as one span, where what the next one needs is drawn step by step."""
    if carried is None:
        inner, time, weights = run.open(0, run.length, run.steps, run.scope.samples)
        return [Span(inner, Draw({}, None, (time,), weights, (), inner.group, {}, steps=time))]
    draws, bound = _walk(run, carried)
    first = draws[0]
    steps = dict(run.steps)
    for name in first.bindings:
        steps[name] = stack([d.bindings[name] for d in draws])
    for key, prev in carried.updates.items():
        steps[prev] = shift(bound[0][prev], steps[key], (prev, key), run.who)
    samples = run.scope.samples if first.sample_dim is None else (first.sample_dim, *run.scope.samples)
    inner, time, weights = run.open(0, run.length, steps, samples)
    handed_on = {**{v: v for v in first.bindings}, **{prev: v for v, prev in carried.updates.items()}}
    shared = inner.shared
    shared.relaxed.update(inner.bindings[name].number for name, v in handed_on.items() if first.bindings[v].number in shared.relaxed)
    for factor in carried.asked:
        inner.join(factor, bound, time)
    scored = tuple(stack_scored([d.scored[i] for d in draws], time) for i in range(len(first.scored)))
    return [Span(inner, first._replace(enumerated=(time,), weights=weights, scored=scored, number=inner.group, steps=time))]


def _walk(run: Run, carried: Carried) -> tuple[list[Draw], list[dict[str, Binding]]]:
    """The draw of each step, and what was bound then."""
    scope = run.scope
    here = scope.inside({}, run.batch, scope.samples, scope.shared.number())
    needed = {v for x in carried.plans for v in x.factor.cond_var}
    columns = {name: (s.tensor.unbind(0), s.dims) for name, s in run.steps.items() if name in needed}
    plans, sample_dim = carried.sampling, None
    draws: list[Draw] = []
    bound: list[dict[str, Binding]] = []
    for t in range(run.length):
        for name, (tensors, dims) in columns.items():
            here.bind(name, tensors[t], dims)
        d = draw(here, plans, carried.num_samples, carried.limit, run.batch, run.who, sample_dim=sample_dim, exact=False)
        draws.append(d)
        bound.append({**here.bindings, **d.bindings})
        if t == 0 and d.sample_dim is not None:
            sample_dim = d.sample_dim
            here.samples = (sample_dim, *scope.samples)
        for key, prev in carried.updates.items():
            here.bindings[prev] = d.bindings[key]
    return draws, bound
