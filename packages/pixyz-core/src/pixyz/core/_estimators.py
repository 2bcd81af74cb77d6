"""How an expectation is estimated: which factor is enumerated, drawn with its gradient or scored, and how the body is reduced.

Written out for one datum, with y enumerated, and K draws of which some are scored,

    E_q[f] = 1/K Σ_k Σ_y q(y) f_k(y) + 1/K Σ_k Σ_s (log q_s - stop(log q_s)) (stop(cost_k) - baseline_k),

where the second sum is zero in value and gives the score-function gradient of each scored factor s (Williams 1992). The cost of a
scored factor is all that is downstream of it, with the enumerated variables that do not stand above it summed out; the baseline is
the mean of the other draws' costs (leave-one-out; Kool et al. 2019, https://openreview.net/forum?id=r1lgTGL5DE).

Where another mean than the arithmetic one stands for 1/K Σ_k, as in an importance-weighted bound, the score multiplies what that mean
gives, after it, and the baseline is what it would give had a draw been like the others (VIMCO; Mnih and Rezende 2016,
https://arxiv.org/abs/1602.06725). Enumerated variables are summed outside of that mean, Σ_y q(y) mean_k f_k(y), if nothing drawn stands
above them, else inside, mean_k Σ_y q(y|z_k) f_k(y).
"""

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import torch

from ._aggregates import power_mean, without_each
from ._copies import MAX_ENUMERATE
from ._dims import Dims, Term, align, union
from ._errors import FormulaError, IntractableError, KindError
from ._scope import Binding, Factor, Scope, ScoredConditional

ESTIMATORS = ("auto", "enumerate", "pathwise", "score")


class Draw(NamedTuple):
    """The variables of an expectation, drawn or enumerated.

    Attributes:
        bindings: for each variable.
        sample_dim: the Monte Carlo dim, or None where nothing needed one.
        enumerated: the dims of enumerated variables.
        weights: the log-density of each enumerated factor.
        scored: the log-density of each scored factor.
        number: what nothing else in the evaluation has.
        methods: for each variable: enumerate, pathwise, score, or compute.
        steps: of a sequence, the dim of time, one of the enumerated ones: what is scored at a step pays for that step and those after it.
    """

    bindings: dict[str, Binding]
    sample_dim: int | None
    enumerated: Dims
    weights: tuple[Term, ...]
    scored: tuple[Term, ...]
    number: int
    methods: dict[str, str]
    steps: int | None = None


def check_estimator(estimator: str | Mapping[str, str], factors: tuple[Factor, ...], who: str) -> None:
    """Raises an error if an estimator is unknown, or cannot serve its factor."""
    if not isinstance(estimator, (str, Mapping)):
        raise KindError(f"{who}: estimator must be a name, or a dict from variables to names; got a {type(estimator).__name__}.")
    variables = {v for f in factors for v in f.var}
    if not isinstance(estimator, str):
        for v in estimator:
            if v not in variables:
                raise FormulaError(f"{who} has no variable {v} to choose an estimator for; it draws {', '.join(sorted(variables))}.")
    for factor in factors:
        name = _asked(estimator, factor)
        if name not in ESTIMATORS:
            raise FormulaError(f"{who}: there is no estimator {name!r}; choose one of {', '.join(ESTIMATORS)}.")
        if name == "enumerate" and not (factor.dist.has_enumerate or factor.dist.is_deterministic):
            raise FormulaError(
                f"{who}: {factor} ({factor.dist.distribution_name}) takes infinitely many values; it cannot be enumerated. "
                "Use 'pathwise' or 'score'."
            )
        if name == "pathwise" and not (factor.dist.has_rsample or factor.dist.is_deterministic):
            raise FormulaError(f"{who}: {factor} ({factor.dist.distribution_name}) has no pathwise gradient; use 'enumerate' or 'score'.")


def draw(
    scope: Scope,
    factors: tuple[Factor, ...],
    num_samples: int,
    estimator: str | Mapping[str, str],
    batch: int,
    who: object,
    sample_dim: int | None = None,
) -> Draw:
    """Draws or enumerates every factor, parents first; into `sample_dim`, if one of the scope's Monte Carlo dims is to be it."""
    shared = scope.shared
    number = shared.number()
    inner = scope.inside({}, batch, scope.samples, number)
    bindings: dict[str, Binding] = {}
    points = 1
    enumerated: Dims = ()
    weights: list[Term] = []
    scored: list[Term] = []
    methods: dict[str, str] = {}
    for factor in factors:
        conditional = inner.conditional(factor)
        method = _choose(_asked(estimator, factor), factor, conditional, points, who)
        if method == "enumerate":
            support = conditional.enumerate_support()
            points *= support[0].shape[0]
            dim = shared.open_dim(support[0].shape[0])
            enumerated = (dim, *enumerated)
            terms = [Term(t, (dim,)) for t in support]
        elif method == "compute":
            terms = conditional.draw(conditional.dims, [], pathwise=True)
        else:
            if sample_dim is None and (num_samples > 1 or method == "score"):
                sample_dim = shared.open_dim(num_samples)
                inner.samples = (sample_dim, *inner.samples)
            if method == "score" and num_samples == 1 and _asked(estimator, factor) == "auto" and shared.validate:
                warnings.warn(
                    f"{who}: the gradient through {factor} is estimated by the score function from one draw, without a baseline. "
                    "Use num_samples=2 or more.",
                    stacklevel=2,
                )
            dims, sizes = inner.draw_dims(factor, conditional, inner.samples)
            terms = conditional.draw(dims, sizes, pathwise=method == "pathwise")
        for name, term in zip(factor.var, terms):
            bindings[name] = inner.bind(name, term.tensor, term.dims)
            methods[name] = method
        if method == "enumerate":
            weights.append(inner.log_prob(factor))
        elif method == "score":
            scored.append(inner.log_prob(factor))
    return Draw(bindings, sample_dim, enumerated, tuple(weights), tuple(scored), number, methods)


def reduce(body: Term, d: Draw, order: float = 1.0) -> Term:
    """The estimate of the expectation of `body`, without the dims that the draw opened.

    Args:
        body: the term inside.
        d: the draw.
        order: of the power mean that stands for the mean over the samples; see `_aggregates`.
    """
    # A draw that neither the body nor a weight depends on has dims that the term lacks.
    if d.steps is not None and order != 1:  # the mean is of whole sequences, and each step stands above it
        body = _sum_over(_weighted(body, d.weights), d.enumerated)
        d = d._replace(enumerated=(), weights=(), scored=tuple(_sum_over(log_q, d.enumerated) for log_q in d.scored), steps=None)
    if order == 1 or d.sample_dim is None or d.sample_dim not in body.dims:
        term = _weighted(body, d.weights) if set(d.enumerated).intersection(body.dims) else body
        advantages = [(log_q, _own_advantage(term, log_q, d)) for log_q in _scored_by(term, d)]
    else:
        outer = tuple(w for w in d.weights if d.sample_dim not in w.dims)
        inside = _summed_inside(body, tuple(w for w in d.weights if d.sample_dim in w.dims), d, order)
        axis = inside.dims.index(d.sample_dim)
        whole = Term(power_mean(inside.tensor, axis, order), inside.dims[:axis] + inside.dims[axis + 1 :])
        gains = Term(whole.tensor.unsqueeze(axis) - without_each(inside.tensor, axis, order), inside.dims)
        term, gains = (_weighted(whole, outer), _weighted(gains, outer)) if outer else (whole, gains)
        # The mean counts each sample once in K; what is mixed by another mean depends on all of them.
        gains = Term(gains.tensor.detach() * inside.tensor.shape[axis], gains.dims)
        advantages = [(log_q, _sum_over(gains, _not_above(log_q, d))) for log_q in _scored_by(gains, d)]
    scores = [_score(advantage, log_q, d, term.dims) for log_q, advantage in advantages]
    term = _sum_over(term, d.enumerated)
    for score in scores:
        dims = union(term.dims, score.dims)
        term = Term(align(term.tensor, term.dims, dims) + align(score.tensor, score.dims, dims), dims)
    if d.sample_dim in term.dims:
        axis = term.dims.index(d.sample_dim)
        term = Term(term.tensor.mean(axis), term.dims[:axis] + term.dims[axis + 1 :])
    return term


def _asked(estimator: str | Mapping[str, str], factor: Factor) -> str:
    if isinstance(estimator, str):
        return estimator
    return next((estimator[v] for v in factor.var if v in estimator), "auto")


def _choose(asked: str, factor: Factor, conditional: ScoredConditional, points: int, who: object) -> str:
    if factor.dist.is_deterministic:
        return "compute"
    if asked in ("pathwise", "score"):
        return asked
    size = conditional.support_size() if factor.dist.has_enumerate else None
    if size is not None:
        if points * size <= MAX_ENUMERATE:
            return "enumerate"
        if asked == "enumerate":
            raise IntractableError(
                f"{who}: enumerating {', '.join(factor.var)} takes {points * size:.6g} points, more than {MAX_ENUMERATE}. "
                "Use estimator='score'."
            )
    return "pathwise" if factor.dist.has_rsample else "score"


def _weighted(body: Term, weights: tuple[Term, ...]) -> Term:
    """The body times the probability of the enumerated values."""
    if not weights:
        return body
    dims = union(body.dims, *[w.dims for w in weights])
    log_weight = sum([align(w.tensor, w.dims, dims) for w in weights[1:]], align(weights[0].tensor, weights[0].dims, dims))
    value, weight = align(body.tensor, body.dims, dims), log_weight.exp()
    # An impossible value adds nothing, though its log-density may be infinite.
    return Term(torch.where(weight > 0, weight * torch.where(weight > 0, value, 0.0), 0.0), dims)


def _summed_inside(body: Term, weights: tuple[Term, ...], d: Draw, order: float) -> Term:
    """The body with the enumerated variables that stand below a drawn one summed out, inside of the mean over the samples."""
    dims = tuple(dim for w in weights for dim in d.enumerated if dim in w.dims and dim in body.dims)
    if not dims:
        return body
    every = union(body.dims, *[w.dims for w in weights])
    log_weight = sum([align(w.tensor, w.dims, every) for w in weights[1:]], align(weights[0].tensor, weights[0].dims, every))
    scale = 1 - order
    t = (log_weight + scale * align(body.tensor, body.dims, every)).logsumexp([every.index(dim) for dim in dims]) / scale
    return Term(t, tuple(dim for dim in every if dim not in dims))


def _scored_by(term: Term, d: Draw) -> list[Term]:
    """The scored factors on which the term depends."""
    opened = {d.sample_dim, *d.enumerated}
    return [log_q for log_q in d.scored if opened.intersection(log_q.dims).issubset(term.dims)]


def _not_above(log_q: Term, d: Draw) -> Dims:
    """The enumerated variables that do not stand above a scored factor."""
    return tuple(dim for dim in d.enumerated if dim not in log_q.dims)


def _own_advantage(term: Term, log_q: Term, d: Draw) -> Term:
    """The cost of each sample, without the mean of the others'."""
    cost = _sum_over(Term(term.tensor.detach(), term.dims), _not_above(log_q, d))
    if d.steps is not None:
        axis = cost.dims.index(d.steps)
        cost = Term(cost.tensor.flip(axis).cumsum(axis).flip(axis), cost.dims)
    if d.sample_dim is None or d.sample_dim not in cost.dims or cost.tensor.shape[cost.dims.index(d.sample_dim)] == 1:
        return cost
    return Term(cost.tensor - without_each(cost.tensor, cost.dims.index(d.sample_dim), 1.0), cost.dims)


def _score(advantage: Term, log_q: Term, d: Draw, kept: Dims) -> Term:
    """(log q - stop(log q)) stop(advantage), summed over the enumerated variables above the scored factor.

    It is averaged over the samples here where they are not among the dims `kept`, else later.
    """
    dims = union(advantage.dims, log_q.dims)
    zero = align(log_q.tensor, log_q.dims, dims) - align(log_q.tensor.detach(), log_q.dims, dims)
    score = _sum_over(Term(zero * align(advantage.tensor, advantage.dims, dims), dims), d.enumerated)
    if d.sample_dim in score.dims and d.sample_dim not in kept:
        axis = score.dims.index(d.sample_dim)
        score = Term(score.tensor.mean(axis), score.dims[:axis] + score.dims[axis + 1 :])
    return _sum_over(score, tuple(dim for dim in score.dims if dim not in kept))


def _sum_over(term: Term, dims: Dims) -> Term:
    axes = [i for i, d in enumerate(term.dims) if d in dims]
    if not axes:
        return term
    return Term(term.tensor.sum(axes), tuple(d for d in term.dims if d not in dims))
