"""Sums over all paths of a finite chain, by the forward recursion."""

import functools
from collections.abc import Mapping

import torch

from pixyz.core import Binding, Draw, IntractableError, Term, add, align, draw, spread, sum_over, union

from ._trajectory import Carried, Run, Span


def summed(run: Run, carried: Carried) -> list[Span] | None:
    r"""The first step, and all others at once, each value of the step before taken together with each of its own.

    The weight of a pair at step t is its marginal probability, where $\alpha_t(z') = \sum_z \alpha_{t-1}(z)\, q_t(z'|z)$:

    $$\sum_{z,z'} \alpha_{t-1}(z)\, q_t(z'|z)\, \ell_t(z', z)$$

    Returns:
        The spans; None if what is handed on is no finite chain, or has too many values.

    Raises:
        IntractableError: if an enumeration was asked for, and there are too many pairs of values.
    """
    if not carried.is_chain:
        return None
    scope = run.scope
    first = _every_value(run, carried, (0, 1), {prev: scope.bindings[prev] for prev in carried.updates.values()})
    if first is None:
        return None
    # In the order of their dims, which those of the step before must keep.
    handed_on = sorted(carried.updates, key=lambda v: first.draw.bindings[v].dims)
    sizes = [first.draw.bindings[v].tensor.shape[0] for v in handed_on]
    pairs = torch.Size(sizes).numel() * torch.Size([scope.shared.sizes[dim] for dim in _own(first.draw)]).numel()
    if pairs > carried.limit:
        if not carried.asks_for_sums:
            return None
        raise IntractableError(
            f"{run.who}: summing out {', '.join(handed_on)} takes {pairs} pairs of values at each step, more than {carried.limit}. "
            f"Use estimator='score', or raise the limit: max_enumerate={pairs}."
        )
    if run.length == 1:
        return [first]
    before = {v: scope.shared.open_dim(n) for v, n in zip(handed_on, sizes)}
    values = {carried.updates[v]: first.draw.bindings[v]._replace(dims=(before[v],)) for v in handed_on}
    rest = _every_value(run, carried, (1, run.length), values)
    if rest is None:
        return None
    begin, later = (functools.reduce(add, span.draw.weights[: len(carried.plans)]) for span in (first, rest))
    names = [{span.draw.bindings[v].dims[0]: before[v] for v in handed_on} for span in (first, rest)]
    alphas = _marginals(_marginal(begin, _own(first.draw, time=True), names[0]), later, rest.draw, names[1], run.length - 1)
    enumerated = (*rest.draw.enumerated, *before.values())
    return [first, Span(rest.scope, rest.draw._replace(enumerated=enumerated, weights=(alphas, *rest.draw.weights)))]


def _every_value(run: Run, carried: Carried, part: tuple[int, int], before: Mapping[str, Binding]) -> Span | None:
    """Some steps with every value of what is handed on, given the values before; None if there are too many."""
    inner, time, mask = run.open(*part, run.steps, run.scope.samples)
    for name, b in before.items():
        inner.bind(name, b.tensor, b.dims)
    d = draw(inner, carried.plans, carried.num_samples, carried.limit, run.batch, run.who, exact=False)
    if d.scored:
        return None
    drawn = inner.inside(d.bindings, run.batch, inner.samples, d.number)
    return Span(drawn, d._replace(enumerated=(*d.enumerated, time), weights=(*d.weights, *mask), steps=time))


def _own(d: Draw, *, time: bool = False) -> tuple[int, ...]:
    """The dims of the values of one step, and that of time."""
    return tuple(dim for dim in d.enumerated if time or dim != d.steps)


def _marginal(log_joint: Term, own: tuple[int, ...], names: Mapping[int, int]) -> Term:
    """The probability of what is handed on, under the dims that it has in the step after."""
    kept = sum_over(Term(log_joint.tensor.exp(), log_joint.dims), tuple(dim for dim in own if dim not in names))
    return Term(kept.tensor, tuple(names.get(dim, dim) for dim in kept.dims))


def _marginals(alpha: Term, table: Term, d: Draw, names: Mapping[int, int], count: int) -> Term:
    """log α_t for each step but the last, `(time, *before, *others)`.

    Args:
        alpha: α of the first step.
        table: log q of a step given the one before, and whatever else is finite in it.
        d: the draw of these steps.
        names: the dims of what is handed on, and those that it has in the step after.
        count: how many steps.
    """
    time, own = d.steps, _own(d)
    sizes = {dim: n for t in (alpha, table) for dim, n in zip(t.dims, t.tensor.shape)}
    kept = tuple(sorted({dim for dim in sizes if dim not in own and dim != time}.union(names.values()), reverse=True))
    every = union(kept, own)
    gone = [i for i, dim in enumerate(every) if dim in names.values() or (dim in own and dim not in names)]
    q, dims = table.tensor.exp(), tuple(dim for dim in table.dims if dim != time)
    transitions = q.unbind(table.dims.index(time)) if time in table.dims else [q] * count
    sizes.update({before: sizes[now] for now, before in names.items()})
    found = [spread(alpha.tensor, alpha.dims, kept, [sizes[dim] for dim in kept])]
    for transition in transitions[: count - 1]:
        found.append((align(found[-1], kept, every) * align(transition, dims, every)).sum(gone))
    p = torch.stack(found)
    # What cannot be adds nothing, and has no gradient.
    log_p = torch.where(p > 0, p, 1.0).log().masked_fill(p <= 0, -torch.inf)
    return Term(log_p.movedim(0, sum(dim > (time or 0) for dim in kept)), tuple(sorted((*kept, time or 0), reverse=True)))
