"""The log-density of a product of conditionals, in a scope."""

from collections.abc import Iterable

import torch

from ._bindings import Binding, Factor
from ._checks import Checks
from ._dims import BATCH, Term, align, broadcast, union
from ._errors import KindError, ShapeError, SupportError
from ._scope import Scope


def log_density(scope: Scope, factors: Iterable[Factor], who: object) -> Term:
    """The sum of the factors' log-densities, parents first. A deterministic factor is computed, bound, and adds nothing."""
    total: Term | None = None
    inner = scope
    for factor in factors:
        if factor.dist.is_deterministic:
            inner = compute(inner, factor)
            continue
        watch = scope.shared.watch
        if watch is not None:
            watch.enter(f"log {factor}")
        term = inner.log_prob(factor)
        if watch is not None:
            watch.leave(f"log {factor}", term)
        if total is None:
            total = term
        else:
            x, y, dims = broadcast(total, term, who)
            total = Term(x + y, dims)
    return total if total is not None else Term(torch.zeros(()), ())


def compute(scope: Scope, factor: Factor) -> Scope:
    """The scope with the variables of a deterministic factor bound to what it computes."""
    inner = scope.inside({}, scope.batch, scope.samples, scope.group)
    conditional = inner.conditional(factor)
    for name, term in zip(factor.var, conditional.draw(conditional.dims, [], pathwise=True)):
        given = scope.bindings.get(name)
        if given is not None and scope.shared.checks and given.tensor is not term.tensor:
            _check_computed(given, term, name, factor, scope.shared.checks)
        inner.bind(name, term.tensor, term.dims)
    return inner


def _check_computed(given: Binding, computed: Term, name: str, factor: Factor, checks: Checks) -> None:
    """Raises an error unless the given value is the computed one."""
    a, b = given.tensor, computed.tensor
    features = tuple(b.shape[len(computed.dims) :])
    if given.features != features:
        raise ShapeError(f"{factor}: {name} is computed with features {features}, but a value with features {given.features} is given.")
    if a.dtype != b.dtype or a.device != b.device:
        raise KindError(f"{factor}: {name} is computed as {b.dtype} on {b.device}, but a value in {a.dtype} on {a.device} is given.")
    if BATCH in given.dims and BATCH in computed.dims:
        n, m = a.shape[len(given.dims) - 1], b.shape[len(computed.dims) - 1]
        if n != m:
            raise ShapeError(f"{factor}: {name} is computed for a batch of {m}, but a value with batch {n} is given.")
    dims = union(given.dims, computed.dims)
    near = torch.isclose(align(a, given.dims, dims).detach(), align(b, computed.dims, dims).detach(), rtol=1e-4, atol=1e-6)
    if not checks.passed(checks.every(near), factor):
        raise SupportError(
            f"{factor}: {name} is computed from {', '.join(factor.cond_var) or 'nothing'}, but a different value of "
            f"{name} is given; its density there is zero. Leave {name} out of the values."
        )
