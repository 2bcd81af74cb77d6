"""How the variables of an expectation are drawn or enumerated, factor by factor."""

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd import forward_ad

from ._baselines import Baseline, BaselineNetwork, constant_baseline
from ._bindings import Binding, Factor
from ._checks import NO_CHECKS
from ._choices import Choice, choose
from ._conditionals import ScoredConditional
from ._dims import Dims, Term, stack_terms
from ._methods import Enumerate, Estimator, Sample
from ._relaxations import Rebar, relax
from ._scope import Scope
from ._single import Single


class Scored(NamedTuple):
    """A scored factor.

    Attributes:
        log_q: its log-density.
        baseline: what is taken from its costs; None for the mean of the other draws'.
        control: a part of each cost whose gradient comes in another way; None for none.
        scale: of the control, where one is to come; else None.
    """

    log_q: Term
    baseline: Baseline | None = None
    control: Term | None = None
    scale: float | None = None


def stack_scored(steps: Sequence[Scored], dim: int) -> Scored:
    """A factor that was scored step by step, as one along a new dim."""
    first = steps[0]
    log_q = stack_terms([s.log_q for s in steps], dim)
    if first.baseline is None or not first.baseline.value.dims:  # the same at every step
        return Scored(log_q, first.baseline)
    return Scored(log_q, first.baseline._replace(value=stack_terms([s.baseline.value for s in steps if s.baseline is not None], dim)))


def warn_without_baseline(who: object, factor: Factor, *, stacklevel: int) -> None:
    """A warning of a score that nobody asked for, from a single draw."""
    warnings.warn(
        f"{who}: the gradient through {factor} is estimated by the score function from one draw, without a baseline. "
        "Use num_samples=2 or more.",
        stacklevel=stacklevel,
    )


class Draw(NamedTuple):
    """The variables of an expectation, drawn or enumerated.

    Attributes:
        bindings: for each variable.
        sample_dim: the Monte Carlo dim, or None where nothing needed one.
        enumerated: the dims of enumerated variables.
        weights: the log-density of each enumerated factor.
        scored: each scored factor.
        number: what nothing else in the evaluation has.
        methods: for each variable, what was chosen and why.
        relaxed: for the estimator rebar, the same with its factor relaxed, and relaxed given what was drawn.
        steps: of a sequence, the dim of time, one of the enumerated ones: what is scored at a step pays for that step and those after it.
    """

    bindings: dict[str, Binding]
    sample_dim: int | None
    enumerated: Dims
    weights: tuple[Term, ...]
    scored: tuple[Scored, ...]
    number: int
    methods: dict[str, Choice]
    relaxed: tuple["Draw", ...] = ()
    steps: int | None = None


class Drawing:
    """A draw in the making.

    Args:
        scope: where the expectation stands.
        num_samples: K.
        limit: how many points may be enumerated together.
        batch: how many data it is for.
        who: the expectation.
        sample_dim: one of the scope's Monte Carlo dims, if one of them is to be this draw's.
        together: which variables stand in one table; all of them, if that is not said.
        mates: the factors that are summed over together, all of them if one is to be trained.
        exact: whether what has nothing to be trained is summed over as well.

    Attributes:
        is_control: whether it is that of a control variate, by a relaxed value.
    """

    def __init__(
        self,
        scope: Scope,
        num_samples: int,
        limit: int,
        batch: int,
        who: object,
        sample_dim: int | None = None,
        together: tuple[frozenset[str], ...] | None = None,
        mates: tuple[Factor, ...] = (),
        *,
        exact: bool,
    ) -> None:
        self.inner = scope.inside({}, batch, scope.samples, scope.shared.number())
        self.num_samples = num_samples
        self.limit = limit
        self.who = who
        self.together = together
        self.exact = exact
        self.mates = mates
        self.sizes: dict[str, int] = {}
        self.owners: dict[str, Factor] = {}
        self.is_control = False
        self.draw = Draw({}, sample_dim, (), (), (), self.inner.group, {})

    def add(self, factor: Factor, asked: Estimator | None, network: BaselineNetwork | None) -> None:
        """Draws, enumerates or computes the variables of a factor, whose parents are there."""
        inner, shared = self.inner, self.inner.shared
        conditional = inner.conditional(factor)
        points, trained = self._points(factor), lambda: self._is_trained(factor, conditional)
        choice = choose(asked, factor, conditional, points, self.limit, self.who, trained, exact=self.exact)
        method = choice.estimator
        if method is None:
            terms = conditional.draw(conditional.dims, [], pathwise=True)
        elif isinstance(method, Enumerate):
            support = conditional.enumerate_support()
            self.sizes[factor.var[0]] = support[0].shape[0]
            dim = shared.open_dim(support[0].shape[0])
            self.draw = self.draw._replace(enumerated=(dim, *self.draw.enumerated))
            terms = [Term(t, (dim,)) for t in support]
        else:
            self._open_sample_dim(method)
            if choice.is_auto and method.scored and self.num_samples == 1 and not torch.compiler.is_compiling():
                warn_without_baseline(self.who, factor, stacklevel=3)
            dims, sizes = inner.draw_dims(factor, conditional, inner.samples)
            terms = method.draw(conditional, dims, sizes, inner)
        self._bind(factor, terms, choice)
        if isinstance(method, Enumerate):
            weight = shared.weights[self.draw.enumerated[0]] = inner.log_prob(factor)
            self.draw = self.draw._replace(weights=(*self.draw.weights, weight))
        elif method is not None and method.scored:
            baseline = constant_baseline(method) if network is None else network.predict(inner)
            self.draw = self.draw._replace(scored=(*self.draw.scored, Scored(inner.log_prob(factor), baseline)))

    def fork(self, factor: Factor, asked: Rebar) -> "list[Drawing]":
        """This drawing with a hard draw of the factor, one with the relaxed draw, and one with the relaxed draw given the hard one."""
        self._open_sample_dim(asked)
        conditional = self.inner.conditional(factor)
        choice = choose(asked, factor, conditional, self._points(factor), self.limit, self.who)
        dims, sizes = self.inner.draw_dims(factor, conditional, self.inner.samples)
        terms = relax(conditional, dims, sizes, asked.temperature, self.inner)
        others = [self._copy() for _ in terms[1:]]
        for drawing, term in zip([self, *others], terms):
            drawing._bind(factor, [term], choice)
        self.draw = self.draw._replace(scored=(*self.draw.scored, Scored(self.inner.log_prob(factor), scale=asked.scale)))
        for drawing in others:
            drawing.inner.shared.relaxed.add(drawing.inner.bindings[factor.var[0]].number)
        return [self, *others]

    def _copy(self) -> "Drawing":
        new = Drawing(self.inner, self.num_samples, self.limit, self.inner.batch, self.who, exact=self.exact, mates=self.mates)
        new.is_control = True
        new.sizes, new.owners = dict(self.sizes), dict(self.owners)
        # What is drawn already is scored in the hard version, with the whole of the cost.
        new.draw = self.draw._replace(bindings=dict(self.draw.bindings), scored=(), number=new.draw.number, methods={})
        return new

    def _is_trained(self, factor: Factor, conditional: ScoredConditional) -> bool:
        """Whether anything to be trained stands in or above a factor, so that a draw needs an estimator of the gradient."""
        inner = self.inner
        factors, names = _above(factor, self.owners)
        if in_forward_mode() or any([has_trained(x.dist) for x in self.mates]):
            return True
        if any([has_trained(x.dist) for x in factors]) or any([inner.bindings[v].tensor.requires_grad for v in names]):
            return True
        if not any([getattr(x.dist, "has_network", bool(names)) for x in factors]):
            return False
        if not torch.is_grad_enabled():  # nothing shows then what the functions have that is not registered
            return True
        dims, sizes = inner.draw_dims(factor, conditional, inner.samples)
        drawn = conditional.draw(dims, sizes, pathwise=False)
        values = tuple([Binding(*term, inner.shared.number()) for term in drawn])
        return conditional.log_prob(values, factor, NO_CHECKS).tensor.requires_grad

    def _points(self, factor: Factor) -> int:
        """How many combinations of values those have that stand in one table with the factor."""
        if self.together is None:
            return math.prod([*self.sizes.values()])
        tables = [names for names in self.together if factor.var[0] in names]
        return max([math.prod([n for v, n in self.sizes.items() if v in names]) for names in tables], default=1)

    def _open_sample_dim(self, method: Estimator) -> None:
        if self.draw.sample_dim is None and (self.num_samples > 1 or method.scored):
            dim = self.inner.shared.open_dim(self.num_samples)
            self.draw = self.draw._replace(sample_dim=dim)
            self.inner.samples = (dim, *self.inner.samples)

    def _bind(self, factor: Factor, terms: list[Term], choice: Choice) -> None:
        for name, term in zip(factor.var, terms):
            binding = self.inner.bind(name, term.tensor, term.dims)
            self.draw.bindings[name] = binding
            self.draw.methods[name] = choice
            if choice.estimator is not None and choice.estimator.relaxed:
                self.inner.shared.relaxed.add(binding.number)
            self.owners[name] = factor
            if self.is_control:
                self.inner.shared.controls.add(binding.number)


def in_forward_mode() -> bool:
    """Whether derivatives are carried forward, as by `torch.func.jvp`: no tensor tells then that it requires a gradient."""
    return forward_ad._current_level >= 0


def has_trained(dist: Single) -> bool:
    """Whether a distribution has parameters that are to be trained, or constants with a gradient."""
    return any(t.requires_grad for t in itertools.chain(dist.parameters(), dist.buffers()))


def _above(factor: Factor, owners: Mapping[str, Factor]) -> tuple[list[Factor], list[str]]:
    """A factor and those above it; and the variables above it, of which those that nobody here owns are given."""
    names, factors = list(factor.cond_var), [factor]
    for name in names:
        if name in owners:
            factors.append(owners[name])
            names += [v for v in owners[name].cond_var if v not in names]
    return factors, names


class Plan(NamedTuple):
    """A factor of an expectation, what was asked for it, and the module that is its baseline."""

    factor: Factor
    asked: Estimator | None
    network: BaselineNetwork | None


def plan(
    factors: tuple[Factor, ...], asked: tuple[Estimator | None, ...], networks: tuple[BaselineNetwork | None, ...]
) -> tuple[Plan, ...]:
    """The factors in the order in which they are drawn: parents first; and before a factor with rebar all that is not below it."""
    plans = [Plan(*p) for p in zip(factors, asked, networks)]
    below: set[str] = {v for p in plans if isinstance(p.asked, Rebar) for v in p.factor.var}
    for p in plans:
        if below.intersection(p.factor.cond_var):
            below.update(p.factor.var)
    first = [p for p in plans if below.isdisjoint(p.factor.var)]
    return (*first, *[p for p in plans if p not in first])


def summed_together(plans: Sequence[Plan]) -> tuple[Factor, ...]:
    """The factors that are drawn, if sums over all of them are possible and wanted; else none."""
    drawn = [p for p in plans if not p.factor.dist.is_deterministic]
    finite = all(p.factor.dist.has_enumerate and (p.asked is None or isinstance(p.asked, Enumerate)) for p in drawn)
    return tuple(p.factor for p in drawn) if finite else ()


def draw(scope: Scope, plans: tuple[Plan, ...], num_samples: int, limit: int, batch: int, who: object, **options: Any) -> Draw:
    """Draws or enumerates every factor, in the order of the plan; the arguments are those of `Drawing`."""
    drawings = [Drawing(scope, num_samples, limit, batch, who, mates=summed_together(plans), **options)]
    for p in plans:
        if isinstance(p.asked, Rebar):
            drawings = drawings[0].fork(p.factor, p.asked)
        else:
            for drawing in drawings:
                drawing.add(*p)
    hard, *others = [drawing.draw for drawing in drawings]
    return hard._replace(relaxed=tuple(others)) if others else hard


def loses_gradient(plans: tuple[Plan, ...]) -> bool:
    """Whether a factor is drawn without a gradient, by request, that may have something to be trained in or above it."""
    owners = {v: p.factor for p in plans for v in p.factor.var}
    for p in plans:
        if isinstance(p.asked, Sample):
            factors, names = _above(p.factor, owners)
            if any(v not in owners for v in names) or any(has_trained(x.dist) or any(True for _ in x.dist.parameters()) for x in factors):
                return True
    return False
