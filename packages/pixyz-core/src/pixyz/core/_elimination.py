"""Exact sums over finite hidden variables and exact integrals over linear-Gaussian ones: one algorithm for trees, chains and graphs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from ._bindings import Factor
from ._conditionals import GaussianConditional
from ._copies import FINITE, GAUSSIAN, MAX_ENUMERATE, OBSERVED, Copies, NotClosedError, check_drawn, computed_first, group_copies, kinds_of
from ._density import compute
from ._dims import BATCH, Dims, Term, align, broadcast, differ, lead, spread, union
from ._errors import IntractableError, ShapeError
from ._network import common_sizes
from ._order import Step, order_steps
from ._potentials import LOG_TWO_PI, Form, Stack, eliminate, multiply, sum_members
from ._scope import Scope

_MAX_TABLE = 2**26
_SEQUENTIAL_ABOVE = 32  # states: the batched order multiplies K x K tables, the other one vectors


class Eliminated(NamedTuple):
    """One run of an elimination.

    Attributes:
        log_evidence: the log of the sum and integral over all hidden variables, `(*dims)`.
        last: the steps that came last, in the order taken, each with the potentials that it multiplied.
        points: by the leaf that defines it, all values of a finite variable, or a zero of a Gaussian one.
    """

    log_evidence: Term
    last: list[tuple[Step, Stack]]
    points: dict[Any, Tensor]


class Elimination:
    """How the hidden variables of a product of conditionals are summed and integrated out: planned once, run at every evaluation.

    Args:
        factors: the conditionals, in ancestral order.
        hidden: the variables to eliminate.
        last: those of them that are eliminated after all others, so that they can be drawn.
        who: the density, for the messages.
        instead: what to do where it cannot be done, for the messages.

    Raises:
        IntractableError: if a hidden variable is neither finite nor linear-Gaussian.
    """

    def __init__(self, factors: Sequence[Factor], hidden: frozenset[str], *, last: Iterable[str] = (), who: object, instead: str) -> None:
        self.who = who
        self.instead = instead
        self.hidden = hidden
        last = tuple(last)
        try:
            kinds = kinds_of(factors, hidden)
            check_drawn(factors, kinds, last)
            self.computed = computed_first(factors, kinds, hidden)
            self.copies = group_copies([f for f in factors if f not in self.computed], kinds)
        except NotClosedError as reason:
            raise IntractableError(
                f"{who} needs the integral over {', '.join(sorted(hidden))}, which is not known in closed form: {reason}. {instead}"
            ) from None
        finite = frozenset(v for v, kind in kinds.items() if kind == FINITE)
        stacks = [c.hidden_members for c in self.copies]
        self.kinds = kinds
        self.owners = {m[0]: c.factor.dist for c in self.copies for m in c.members if c.kinds[0] != OBSERVED}
        self._orders = {b: order_steps(stacks, finite, last, batched=b) for b in (True, False)}

    @property
    def last_variables(self) -> frozenset[str]:
        """Those that are eliminated last; more than was asked for where a finite one stands above a Gaussian one."""
        steps, first = self._orders[True]
        return frozenset(v for step in steps[first:] for v in step.variables)

    def run(self, scope: Scope) -> Eliminated:
        """The log-evidence in a scope that binds what is not hidden, and what draws are made from."""
        # A hidden name is a dummy: what else may be called so out there is not meant.
        visible = {name: b for name, b in scope.bindings.items() if name not in self.hidden}
        scope = Scope(scope.shared, visible, scope.batch, scope.samples, scope.group)
        for factor in self.computed:
            scope = compute(scope, factor)
        points: dict[Any, Tensor] = {}
        priors: dict[Any, Term] = {}
        stacks = [self._stack(copies, scope, points, priors) for copies in self.copies]
        self._check_batches(stacks)
        counts = [len(copies.members) for copies in self.copies]
        total: Term | None = None

        def add(stack: Stack, count: int) -> Term:
            term = Term(sum_members(stack, count), stack.dims)
            if total is None:
                return term
            x, y, dims = broadcast(total, term, self.who)
            return Term(x + y, dims)

        for copies, stack, count in zip(self.copies, stacks, counts):
            if not copies.places:
                total = add(stack, count)
        last: list[tuple[Step, Stack]] = []
        widest = max([points[owner].shape[0] for c in self.copies for owner, k in zip(c.owners, c.kinds) if k == FINITE], default=0)
        steps, first = self._orders[widest <= _SEQUENTIAL_ABOVE]
        for number, step in enumerate(steps):
            self._check_table((*step.variables[: step.is_finite], *step.neighbours[0][: step.finite_neighbours]), points)
            product = multiply(stacks, step)
            stacks.append(eliminate(product, step))
            if number >= first:
                last.append((step, product))
            if not step.neighbours[0]:
                total = add(stacks[-1], len(step.variables))
        return Eliminated(Term(torch.zeros(()), ()) if total is None else total, last, points)

    def _check_table(self, names: Sequence[str], points: Mapping[Any, Tensor]) -> None:
        """Before the table over these finite variables is made."""
        size = math.prod([points[self.owners[v]].shape[0] for v in names])
        if size > _MAX_TABLE:
            raise IntractableError(
                f"{self.who} takes a table over {', '.join(names)} with {size} entries, more than {_MAX_TABLE}. {self.instead}"
            )

    def _check_batches(self, stacks: Sequence[Stack]) -> None:
        """A batch of 1 is no exception, so what follows may broadcast."""
        found = [(c.factor, s.constant.shape[len(s.dims) - 1]) for c, s in zip(self.copies, stacks) if BATCH in s.dims]
        if differ([n for _, n in found]):
            other = next(pair for pair in found if pair[1] != found[0][1])
            said = " and ".join([f"{factor} has batch {n}" for factor, n in (found[0], other)])
            raise ShapeError(f"{self.who}: {said}; one density needs one batch.")

    def _stack(self, copies: Copies, scope: Scope, points: dict[Any, Tensor], priors: dict[Any, Term]) -> Stack:
        """The potentials of all copies, from one call of their leaf.

        Args:
            copies: the factors with one leaf.
            scope: of what is not hidden.
            points: for each leaf the values of its hidden variable; that of this leaf is added.
            priors: for each leaf of a finite variable that no other stands above, the log-density of its values, their dim the first;
                that of this leaf is added.
        """
        inner = scope.inside({}, scope.batch, scope.samples, scope.group)
        factor, first = copies.factor, copies.members[0]
        copy_dim = _bind_observed(copies, inner)
        role_dims: dict[int, int] = {}
        own = len(factor.var)
        for i, (kind, owner) in enumerate(zip(copies.kinds, copies.owners)):
            if i >= own and kind == FINITE:
                role_dims[i] = inner.shared.open_dim(points[owner].shape[0])
                inner.bind(first[i], points[owner], (role_dims[i],))
                if owner in priors:
                    inner.shared.weights[role_dims[i]] = Term(priors[owner].tensor, (role_dims[i], *priors[owner].dims[1:]))
            elif i >= own and kind == GAUSSIAN:
                inner.bind(first[i], points[owner], ())
        self._check_table([first[i] for i in role_dims], points)
        for f in copies.computed:
            inner = compute(inner, f)
        if copies.kinds[0] == FINITE:
            points[factor.dist] = self._support(factor, inner)
            role_dims[0] = inner.shared.open_dim(points[factor.dist].shape[0])
            inner.bind(first[0], points[factor.dist], (role_dims[0],))
        roles = [role_dims[i] for i in copies.places if copies.kinds[i] == FINITE]
        if GAUSSIAN not in copies.kinds:
            score = inner.log_prob(factor)
            if roles == [role_dims.get(0)] and score.dims[0] == roles[0] and copy_dim not in score.dims:
                priors[factor.dist] = score
            constant, dims = _lay_out(score, copy_dim, roles, 0)
            return Stack(dims, constant)
        return self._quadratic(copies, inner, points, copy_dim, roles)

    def _support(self, factor: Factor, scope: Scope) -> Tensor:
        conditional = scope.conditional(factor)
        size = conditional.support_size()
        if size > MAX_ENUMERATE:
            raise IntractableError(
                f"{self.who}: summing out {factor.var[0]} from {factor} takes {size} values, more than {MAX_ENUMERATE}. {self.instead}"
            )
        return conditional.enumerate_support()[0]

    def _quadratic(self, copies: Copies, scope: Scope, points: dict[Any, Tensor], copy_dim: int | None, roles: list[int]) -> Stack:
        r"""log N(x; b + Σ A z, Σ) = c - ½|Mv + r|², v the hidden ones of x and z, with r = W(x - b), M = W(I, -A) and WᵀW = Σ⁻¹."""
        factor, first = copies.factor, copies.members[0]
        conditional = cast(GaussianConditional, scope.conditional(factor))
        is_own = copies.kinds[0] == GAUSSIAN
        features = conditional.features
        if len(features) > 1:
            raise IntractableError(f"{self.who}: exact integrals take vectors, but {factor.var[0]} of {factor} has features {features}.")
        own = dict(zip(factor.cond_var, factor.dist.cond_var))
        count = math.prod(features)
        columns: list[Tensor] = []
        for i in copies.places:
            if copies.kinds[i] == GAUSSIAN:
                is_parent = i >= len(factor.var)
                a = factor.dist.linear_map(own[first[i]]) if is_parent else None
                if a is None:
                    width = points[copies.owners[i]].numel() if is_parent else count
                    a = torch.eye(width, dtype=conditional.like.dtype, device=conditional.like.device)
                # One row for all features, where the mean has one element.
                columns.append(-a.expand(count, -1) if is_parent else a)
        value = None if is_own else scope.bindings[factor.var[0]]
        residual, matrix, log_det = conditional.whitened(value, factor, torch.cat(columns, -1), scope.shared.checks)
        if is_own:
            points[factor.dist] = residual.tensor.new_zeros(features)
        r, r_dims = _lay_out(residual, copy_dim, roles, 1)
        m, m_dims = _lay_out(matrix, copy_dim, roles, 2)
        c, c_dims = _lay_out(log_det, copy_dim, roles, 0)
        dims = union(r_dims, m_dims, c_dims)
        r, m, c = align(r, r_dims, dims), align(m, m_dims, dims), align(c, c_dims, dims)
        constant = c - 0.5 * (r.square().sum(-1) + r.shape[-1] * LOG_TWO_PI)
        linear, quadratic = -(m.mT @ r.unsqueeze(-1)).squeeze(-1), m.mT @ m
        rank = len(dims) + 1 + len(roles)
        return Stack(
            dims, lead(constant, rank), Form(lead(linear, rank + 1), lead(quadratic, rank + 2), tuple(b.shape[-1] for b in columns))
        )


def _bind_observed(copies: Copies, scope: Scope) -> int | None:
    """Binds each observed variable to its values in all copies, stacked along a new dim; None where the first copy says it all."""
    stacked: dict[str, list[str]] = {}
    for i, kind in enumerate(copies.kinds):
        names = [member[i] for member in copies.members]
        if kind == OBSERVED and names.count(names[0]) < len(names):
            stacked[names[0]] = names
    if not stacked:
        return None
    copy_dim = scope.shared.open_dim(len(copies.members))
    bound = {}
    for first, names in stacked.items():
        bindings = [scope.bindings[name] for name in names]
        if differ([b.features for b in bindings]):
            listed = " and ".join(f"{name} {b.features}" for name, b in list(zip(names, bindings))[:3])
            raise ShapeError(f"{copies.factor} and its copies have variables of different features: {listed}.")
        dims = union(*[b.dims for b in bindings])
        sizes = common_sizes(dims, tuple(bindings), tuple(names), copies.factor)
        bound[first] = torch.stack([spread(b.tensor, b.dims, dims, sizes) for b in bindings]), (copy_dim, *dims)
    for first, (tensor, dims) in bound.items():
        scope.bind(first, tensor, dims)
    return copy_dim


def _lay_out(term: Term, copy_dim: int | None, roles: Sequence[int], extra: int) -> tuple[Tensor, Dims]:
    """`(*rest, m, *roles, *extra)` from `(*dims, *extra)`; the axis of what it does not depend on has size 1."""
    tensor, dims = term
    inner = [copy_dim, *roles]
    rest = tuple(d for d in dims if d not in inner)
    order = [dims.index(d) for d in rest] + [dims.index(d) for d in inner if d in dims]
    tensor = tensor.permute([*order, *range(tensor.ndim - extra, tensor.ndim)])
    for i, d in enumerate(inner):
        if d not in dims:
            tensor = tensor.unsqueeze(len(rest) + i)
    return tensor, rest
