"""The log-density of a distribution, as a loss."""

import torch

from ._dims import BATCH, Term, align, broadcast, union
from ._distribution import Distribution, need_distribution
from ._errors import IntractableError, KindError, ShapeError, SupportError
from ._formula import Formula, Log
from ._loss import Loss
from ._scope import Binding, Factor, Scope


class LogProb(Loss):
    r"""log p(var|cond_var), in nats, `(batch,)`; summed over the features and the factors.

    A deterministic factor is no density: its value is computed, bound, and adds nothing.

    Args:
        p: the distribution.

    Raises:
        IntractableError: if variables of `p` are marginalised out.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> print(LogProb(Normal(var=["z"], loc=0.0, scale=1.0)))
        log p(z)
    """

    def __init__(self, p: Distribution) -> None:
        need_distribution(p, "LogProb")
        if p.hidden_var:
            hidden = ", ".join(sorted(p.hidden_var))
            raise IntractableError(
                f"log {p.prob_text} needs the integral over {hidden}, which is not available yet; {p.prob_text} can be sampled. "
                f"Score the joint, with {hidden} given, or bound it with an ELBO."
            )
        computed = {v for f in p.ancestral if f.dist.is_deterministic for v in f.var}
        super().__init__([p], input_var=[v for v in (*p.var, *p.cond_var) if v not in computed], optional_var=computed)
        self._p = (p,)  # in a tuple, lest it be registered
        self._computed = tuple(f for f in p.ancestral if f.dist.is_deterministic)
        self._factors = tuple(f for f in p.ancestral if not f.dist.is_deterministic)

    @property
    def formula(self) -> Formula:
        return Log(self._p[0].density)

    def evaluate(self, scope: Scope) -> Term:
        if self._computed:
            scope = _compute(scope, self._computed)
        total: Term | None = None
        for factor in self._factors:
            term = scope.log_prob(factor)
            if scope.shared.watch is not None:
                scope.shared.watch(f"log {factor}", term)
            if total is None:
                total = term
            else:
                x, y, dims = broadcast(total, term, self)
                total = Term(x + y, dims)
        return total if total is not None else Term(torch.zeros(()), ())


def _compute(scope: Scope, factors: tuple[Factor, ...]) -> Scope:
    """The scope with the variables of deterministic factors bound to what they compute."""
    inner = scope.inside({}, scope.batch, scope.samples, scope.group)
    for factor in factors:
        conditional = inner.conditional(factor)
        for name, term in zip(factor.var, conditional.draw(conditional.dims, [], pathwise=True)):
            given = scope.bindings.get(name)
            if given is not None and scope.shared.validate and given.tensor is not term.tensor:
                _check_computed(given, term, name, factor)
            inner.bind(name, term.tensor, term.dims)
    return inner


def _check_computed(given: Binding, computed: Term, name: str, factor: Factor) -> None:
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
    if not torch.allclose(align(a, given.dims, dims).detach(), align(b, computed.dims, dims).detach(), rtol=1e-4, atol=1e-6):
        raise SupportError(
            f"{factor}: {name} is computed from {', '.join(factor.cond_var) or 'nothing'}, but a different value of "
            f"{name} is given; its density there is zero. Leave {name} out of the values."
        )
