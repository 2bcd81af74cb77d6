"""How an expectation is estimated from its body at what was drawn or enumerated.

Written out for one datum, with y enumerated, and K draws of which some are scored,

    E_q[f] = 1/K Σ_k Σ_y q(y) f_k(y) + 1/K Σ_k Σ_s (log q_s - stop(log q_s)) (stop(cost_k) - baseline_k),

where the second sum is zero in value and gives the score-function gradient of each scored factor s (Williams 1992). The cost of a
scored factor is all that is downstream of it, with the enumerated variables that do not stand above it summed out; the baseline is
the mean of the other draws' costs (leave-one-out; Kool et al. 2019, https://openreview.net/forum?id=r1lgTGL5DE), or what the user
passes.

Where another mean than the arithmetic one stands for 1/K Σ_k, as in an importance-weighted bound, the score multiplies what that mean
gives, after it, and the baseline is what it would give had a draw been like the others (VIMCO; Mnih and Rezende 2016,
https://arxiv.org/abs/1602.06725). Enumerated variables are summed outside of that mean, Σ_y q(y) mean_k f_k(y), if nothing drawn stands
above them, else inside, mean_k Σ_y q(y|z_k) f_k(y). Of one draw there is no mean: each of these bounds is the ELBO then.
"""

import functools

import torch

from ._aggregates import advantages, power_mean
from ._dims import Dims, Term, add, align, sum_over, union
from ._drawing import Draw, Scored


def reduce(body: Term, d: Draw, order: float = 1.0) -> Term:
    """The estimate of the expectation of `body`, without the dims that the draw opened.

    Args:
        body: the term inside.
        d: the draw.
        order: of the power mean that stands for the mean over the samples; see `_aggregates`.
    """
    if d.sample_dim is None and not (d.enumerated or d.scored):
        return body
    # A draw that neither the body nor a weight depends on has dims that the term lacks.
    if d.steps is not None and order != 1:  # the mean is of whole sequences, and each step stands above it
        body = sum_over(_weighted(body, d.weights), d.enumerated)
        whole = tuple(s._replace(log_q=sum_over(s.log_q, d.enumerated)) for s in d.scored)
        d = d._replace(enumerated=(), weights=(), scored=whole, steps=None)
    # Of one draw every mean is the draw, whether its estimator opened a dim for it or not.
    if order == 1 or d.sample_dim is None or d.sample_dim not in body.dims or body.tensor.shape[body.dims.index(d.sample_dim)] == 1:
        term = weighted(body, d)
        gained = [(s, _own_advantage(term, s, d)) for s in _scored_by(term, d)]
    else:
        outer = tuple(w for w in d.weights if d.sample_dim not in w.dims)
        inside = _summed_inside(body, tuple(w for w in d.weights if d.sample_dim in w.dims), d, order)
        axis = inside.dims.index(d.sample_dim)
        term = Term(power_mean(inside.tensor, axis, order), inside.dims[:axis] + inside.dims[axis + 1 :])
        term = _weighted(term, outer) if outer else term
        gained = _advantages_of_mean(term, inside, outer, d, order) if d.scored else []
    scores = [_score(advantage, s, d, term.dims) for s, advantage in gained]
    term = sum_over(term, d.enumerated)
    for score in scores:
        term = add(term, score)
    if d.sample_dim in term.dims:
        axis = term.dims.index(d.sample_dim)
        term = Term(term.tensor.mean(axis), term.dims[:axis] + term.dims[axis + 1 :])
    return term


def _advantages_of_mean(term: Term, inside: Term, outer: tuple[Term, ...], d: Draw, order: float) -> list[tuple[Scored, Term]]:
    """The scored factors on which a mean over the samples depends, with the advantage of each sample.

    The mean counts each sample once in K; what is mixed by another mean than the arithmetic one depends on all of them.

    Args:
        term: the mean, weighted.
        inside: what it is taken of.
        outer: the log-densities of the enumerated variables that are summed over after it.
        d: the draw.
        order: of the mean.
    """
    axis = inside.dims.index(d.sample_dim)
    gains = _weighted(Term(advantages(inside.tensor.detach(), axis, order), inside.dims), outer)
    gains = Term(gains.tensor.detach(), gains.dims)
    return [
        (
            s,
            sum_over(gains, _not_above(s.log_q, d))
            if s.baseline is None
            else _times(_own_advantage(term, s, d), inside.tensor.shape[axis]),
        )
        for s in _scored_by(gains, d)
    ]


def weighted(body: Term, d: Draw) -> Term:
    """The body times the probability of the enumerated values, if it depends on them."""
    if not set(d.enumerated).intersection(body.dims):
        return body
    weights = _relevant(d, body.dims)
    # What stands above a scored factor stays, for its score is weighted by it.
    kept = (*body.dims, *[dim for s in d.scored for dim in s.log_q.dims])
    gone = {dim for w in weights for dim in w.dims if dim in d.enumerated and dim not in kept}
    return _times_probability(body, _marginal(weights, gone)) if gone else _weighted(body, weights)


def _weighted(body: Term, weights: tuple[Term, ...]) -> Term:
    """The body times the probability of the enumerated values."""
    if not weights:
        return body
    log_weight = functools.reduce(add, weights)
    return _times_probability(body, Term(log_weight.tensor.exp(), log_weight.dims))


def _relevant(d: Draw, dims: Dims) -> tuple[Term, ...]:
    """The weights of what has these dims and of what stands above it; those of all else add up to one."""
    needed, found = set(dims), []
    for w in reversed(d.weights):
        own = [dim for dim in w.dims if dim in d.enumerated]
        if not own or max(own) in needed:  # the newest dim is that of the variable, others are those of its parents
            found.append(w)
            needed.update(own)
    return tuple(reversed(found))


def _marginal(weights: tuple[Term, ...], gone: set[int]) -> Term:
    """The probability of the enumerated values, where the dims `gone` are summed out as soon as nothing more depends on them."""
    joint = Term(torch.ones(()), ())
    for i, w in enumerate(weights):
        dims = union(joint.dims, w.dims)
        joint = Term(align(joint.tensor, joint.dims, dims) * align(w.tensor.exp(), w.dims, dims), dims)
        later = {dim for other in weights[i + 1 :] for dim in other.dims}
        joint = sum_over(joint, tuple(gone - later))
    return joint


def _times_probability(body: Term, weight: Term) -> Term:
    """Their product; what is impossible adds nothing, though the body may be infinite there."""
    dims = union(body.dims, weight.dims)
    value, p = align(body.tensor, body.dims, dims), align(weight.tensor, weight.dims, dims)
    return Term(p * torch.where(p > 0, value, 0.0), dims)


def _summed_inside(body: Term, weights: tuple[Term, ...], d: Draw, order: float) -> Term:
    """The body with the enumerated variables that stand below a drawn one summed out, inside of the mean over the samples."""
    dims = tuple(dim for w in weights for dim in d.enumerated if dim in w.dims and dim in body.dims)
    if not dims:
        return body
    scale = 1 - order
    inside, every = add(functools.reduce(add, weights), _times(body, scale))
    return Term(inside.logsumexp([every.index(dim) for dim in dims]) / scale, tuple(dim for dim in every if dim not in dims))


def _scored_by(term: Term, d: Draw) -> list[Scored]:
    """The scored factors on which the term depends."""
    opened = {d.sample_dim, *d.enumerated}
    return [s for s in d.scored if opened.intersection(s.log_q.dims).issubset(term.dims)]


def _not_above(log_q: Term, d: Draw) -> Dims:
    """The enumerated variables that do not stand above a scored factor."""
    return tuple(dim for dim in d.enumerated if dim not in log_q.dims)


def cost_of(term: Term, log_q: Term, d: Draw) -> Term:
    """What a term costs each draw of a scored factor, without a gradient."""
    return sum_over(Term(term.tensor.detach(), term.dims), _not_above(log_q, d))


def _from_each_step_on(cost: Term, steps: int) -> Term:
    """The cost of each step and all later ones."""
    axis = cost.dims.index(steps)
    return Term(cost.tensor.flip(axis).cumsum(axis).flip(axis), cost.dims)


def _own_advantage(term: Term, s: Scored, d: Draw) -> Term:
    """The cost of each sample, without its baseline: the mean of the others', if there is no other."""
    cost = cost_of(term, s.log_q, d)
    if s.control is not None:
        cost = add(cost, Term(-s.control.tensor, s.control.dims))
    if d.steps is not None:
        cost = _from_each_step_on(cost, d.steps)
    if s.baseline is not None:
        s.baseline.observe(sum_over(cost, tuple(dim for dim in d.enumerated if dim != d.steps)).tensor)
        guess = Term(s.baseline.value.tensor.detach(), s.baseline.value.dims)
        if set(d.enumerated).intersection(s.log_q.dims):  # the cost is weighted by what is enumerated above
            guess = sum_over(_weighted(guess, d.weights), _not_above(s.log_q, d))
        return add(cost, Term(-guess.tensor.detach(), guess.dims))
    if d.sample_dim is None or d.sample_dim not in cost.dims:
        return cost
    return Term(advantages(cost.tensor, cost.dims.index(d.sample_dim), 1.0), cost.dims)


def _score(advantage: Term, s: Scored, d: Draw, kept: Dims) -> Term:
    """(log q - stop(log q)) stop(advantage), summed over the enumerated variables above the scored factor.

    It is averaged over the samples here where they are not among the dims `kept`, else later.
    """
    log_q = s.log_q
    dims = union(advantage.dims, log_q.dims)
    zero = align(log_q.tensor, log_q.dims, dims) - align(log_q.tensor.detach(), log_q.dims, dims)
    gain = align(advantage.tensor, advantage.dims, dims)
    product = zero * gain
    if s.baseline is not None:
        product = s.baseline.train_on(product, dims, gain)
    score = sum_over(Term(product, dims), d.enumerated)
    if d.sample_dim in score.dims and d.sample_dim not in kept:
        axis = score.dims.index(d.sample_dim)
        score = Term(score.tensor.mean(axis), score.dims[:axis] + score.dims[axis + 1 :])
    return sum_over(score, tuple(dim for dim in score.dims if dim not in kept))


def _times(term: Term, number: float) -> Term:
    return Term(term.tensor * number, term.dims)
