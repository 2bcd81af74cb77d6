"""The components of a mixture: one of several conditionals, chosen by a one-hot variable."""

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor

from pixyz.core import (
    Binding,
    Checks,
    Dims,
    Distribution,
    Factor,
    FormulaError,
    Leaf,
    Scope,
    ShapeError,
    Term,
    align,
    differ,
    known_supports,
    union,
)

from ._family import Family
from ._given import Given, with_axes
from ._parts import ask, batch_of, check_kinds, common_features, declared_features, inputs_of, known_features, single_conditionals
from ._supports import Support, one_hot, outside


class Components(Leaf):
    r"""The components of a mixture: K conditionals of the same variable, of which a one-hot variable chooses one.

    $$\log p(x|k) = \sum_j k_j \log p_j(x)$$

    Components of one family are stacked, and scored and drawn by one call; others one by one. A draw has a gradient where all
    components have one. What a component's network has is under its number, `p(x|k).0.loc`.

    Args:
        distributions: the components p_j, single conditionals, renamed or not; p(x|k,z) where they depend on z. They may be written alike.
        index: the name of the one-hot variable, `(batch, K)`.
        name: the letter before the brackets; that of the components where they have one in common, else `p`.

    Raises:
        KindError: for anything but distributions.
        FormulaError: for components that are products or marginals, of different variables, without a density, or that know the index.
        ShapeError: for components of different features; at an evaluation, where they are known only there.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> p = Components([Normal(loc=0.0, scale=1.0), Normal(loc=5.0, scale=1.0)], "k")
        >>> p.log_likelihood({"x": torch.tensor([5.0, 5.0]), "k": torch.tensor([[1.0, 0.0], [0.0, 1.0]])})
        tensor([-13.4189,  -0.9189])
    """

    distribution_name = "Components"

    def __init__(self, distributions: Iterable[Distribution], index: str = "k", *, name: str | None = None) -> None:
        parts = single_conditionals(distributions, type(self).__name__, "component")
        names = {p.dist.name for p in parts}
        common = names.pop() if len(names) == 1 else "p"
        others = inputs_of(parts)
        for part in parts:
            if index in (*part.var, *part.cond_var):
                raise FormulaError(f"Components: {part} knows {index} already; call the variable that chooses otherwise, index=...")
            if part.dist.is_deterministic:
                raise FormulaError(f"Components: {part} is computed and has no density, so it cannot be a component.")
        super().__init__(var=parts[0].var, cond_var=(index, *others), name=common if name is None else name)
        common_features(declared_features(parts), self.prob_text, "component")
        self.parts = parts
        self.one_family = all(isinstance(p.dist, Family) for p in parts) and len({_functions(p.dist) for p in parts}) == 1
        self.has_rsample = all(p.dist.has_rsample for p in parts)
        self.has_fixed_support = all(p.dist.has_fixed_support for p in parts)
        counts = {p.dist._count for p in parts if isinstance(p.dist, Family)}
        self.has_enumerate = self.one_family and len(counts) == 1 and all(p.dist.has_enumerate for p in parts)
        self.is_gaussian = self.one_family and parts[0].dist.is_gaussian
        for j, part in enumerate(parts):
            self.add_module(str(j), part.dist)

    def support_of(self, name: str) -> Support | None:
        if name == self.cond_var[0]:
            return one_hot
        found = [support for _, support in known_supports(self.parts, name)]
        same = len(found) == len(self.parts) and all(support == found[0] for support in found)
        return cast(Support, found[0]) if same else None

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "ChosenGiven":
        chooses = inputs[0]
        if chooses.features != (len(self.parts),):
            raise ShapeError(f"{factor}: {factor.cond_var[0]} has features {chooses.features}, but there are {len(self.parts)} components.")
        checks = scope.shared.checks
        if checks and not checks.passed(one_hot.holds(chooses.tensor.detach(), checks), factor):
            raise outside(chooses.tensor, one_hot, f"{factor}: {factor.cond_var[0]}")
        givens = ask(scope, self.parts, self, factor, inputs)
        dim = scope.shared.open_dim(len(self.parts))
        if self.one_family:
            check_kinds(givens, factor)
            features = common_features(known_features(givens), factor, "component")
            terms = _stacked(givens, features, dim)
            if terms is not None:
                givens = [Given(self.parts[0].dist, factor, terms, scope.shared.checks, features, is_checked=True)]
        return ChosenGiven(givens, dim, chooses, factor)


class ChosenGiven:
    """The components given their inputs, and which of them is chosen.

    Args:
        givens: the components, or one in which all are stacked along `dim`.
        dim: the dim of the components.
        index: which one is chosen, one-hot, `(*dims, K)`.
        factor: its place in a formula, for the messages.
    """

    def __init__(self, givens: list[Any], dim: int, index: Binding, factor: Factor) -> None:
        self.givens = givens
        self.dim = dim
        self.index = index
        self.factor = factor
        chosen = self.chosen = Term(index.tensor.argmax(-1), index.dims)
        self.is_stacked = dim in givens[0].dims
        self.dims: Dims = tuple(d for d in union(chosen.dims, *[g.dims for g in givens]) if d != dim)
        batches = (batch_of(chosen.dims, chosen.tensor.shape), *[g.batch for g in givens])
        self.batch: int | None = next((n for n in batches if n is not None), None)

    def log_prob(self, values: tuple[Binding, ...], factor: Factor, checks: Checks) -> Term:
        """log p(values) of the chosen component, in nats; each component is scored once, however many are chosen."""
        terms = [g.log_prob(values, factor, checks) for g in self.givens]
        return self._weigh(terms) if self.index.tensor.requires_grad else self._pick(terms)

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """One draw from the chosen component.

        Raises:
            FormulaError: for an index whose gradient would be lost.
        """
        if pathwise and self.index.tensor.requires_grad:
            k, x = self.factor.cond_var[0], ", ".join(self.factor.var)
            raise FormulaError(
                f"{self.factor}: a draw of {x} has no gradient for {k}, which chooses the component; estimate {k} by 'score'."
            )
        if not self.is_stacked:
            drawn = [g.draw(dims, sizes, pathwise=pathwise) for g in self.givens]
            return [self._pick(list(each)) for each in zip(*drawn)]
        (stack,) = self.givens
        terms = {name: _along(term, self.dim, self.chosen) if self.dim in term.dims else term for name, term in stack.terms.items()}
        return Given(stack.family, stack.factor, terms, stack.checks, stack.features, is_checked=True).draw(dims, sizes, pathwise=pathwise)

    def statistic(self, what: str) -> Term:
        """That of the chosen component."""
        return self._pick([g.statistic(what) for g in self.givens])

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of one datum; asked only where the components are of one family, as what follows."""
        return common_features(known_features(self.givens), self.givens[0].factor, "component")

    @property
    def like(self) -> Tensor:
        """A tensor of the parameters' kind."""
        return self.givens[0].like

    def whitened(self, value: Binding | None, factor: Factor, matrix: Tensor, checks: Checks) -> tuple[Term, ...]:
        """What `Given.whitened` says of the chosen component."""
        return tuple(self._pick(list(each)) for each in zip(*[g.whitened(value, factor, matrix, checks) for g in self.givens]))

    def support_size(self) -> int:
        """The number of values, the same for all components; asked only where they are of one family."""
        return self.givens[0].support_size()

    def enumerate_support(self) -> list[Tensor]:
        """All values, `(support_size, *features)`."""
        return self.givens[0].enumerate_support()

    def _weigh(self, terms: list[Term]) -> Term:
        """Σ_j k_j log p_j, which has a gradient for k."""
        scores, dims = self._together(terms)
        every = union(dims, self.index.dims)
        weights = Term(self.index.tensor.movedim(-1, 0), (self.dim, *self.index.dims))
        axes = sorted(range(len(weights.dims)), key=lambda i: -weights.dims[i])
        k = align(weights.tensor.permute(axes), tuple(weights.dims[i] for i in axes), every)
        t = align(scores, dims, every)
        axis = every.index(self.dim)
        # An impossible component that is not chosen adds nothing.
        return Term((k * torch.where((k == 0) & t.isneginf(), 0.0, t)).sum(axis), every[:axis] + every[axis + 1 :])

    def _pick(self, terms: list[Term]) -> Term:
        return _along(self._together(terms), self.dim, self.chosen)

    def _together(self, terms: list[Term]) -> Term:
        """All components' terms along their dim; stacked components have one term, which has it."""
        if not self.is_stacked:
            return _stack(terms, self.dim)
        (term,) = terms
        return term


def _functions(family: Family) -> tuple[Any, ...]:
    """What scores and draws: components with the same are of one family, whatever their networks are."""
    functions = [getattr(type(family), name) for name in ("log_density", "rsample", "draw", "event_shape")]
    return (family._declared, *[getattr(function, "__func__", function) for function in functions])


def _stacked(givens: list[Given], features: tuple[int, ...], dim: int) -> dict[str, Term] | None:
    """The parameters of all components along a new dim; None where their parametrisations, or the shapes of their events, differ."""
    family, like = givens[0].family, next((g.like for g in givens if g.like.ndim), givens[0].like)
    rank = len(features) - family.value_support.event_rank
    names, *others = [g.terms.keys() for g in givens]
    if any(other != names for other in others):
        return None
    terms: dict[str, Term] = {}
    for name in names:
        event_rank: int = family._event_ranks[name]
        # A parameter of rank 0 fits any dtype, as everywhere in torch; but not once it is stacked.
        each = [g.terms[name] if g.terms[name].tensor.ndim else g.term_in(name, like.dtype) for g in givens]
        if differ([t.tensor.shape[t.tensor.ndim - event_rank :] for t in each]):
            return None
        terms[name] = _stack([with_axes(t, rank, event_rank) for t in each], dim)
    return terms


def _stack(terms: list[Term], dim: int) -> Term:
    """Terms with as many features' axes as one another, along a new first axis."""
    dims = union(*[t.dims for t in terms])
    full: list[Tensor] = []
    for tensor, own in terms:
        for axis, d in enumerate(dims):
            if d not in own:
                tensor = tensor.unsqueeze(axis)
        full.append(tensor)
    return Term(torch.stack(torch.broadcast_tensors(*full)), (dim, *dims))


def _along(term: Term, dim: int, chosen: Term) -> Term:
    """What stands along `dim` at the chosen places; memory for what is chosen, not for all pairs of places and choices."""
    tensor, dims = term
    rest = tuple(d for d in dims if d != dim)
    tensor = tensor.movedim(dims.index(dim), len(rest))
    features = tensor.shape[len(rest) + 1 :]
    # The dims that only the choice has are one axis while it is made.
    shared, new = [d for d in rest if d in chosen.dims], [d for d in chosen.dims if d not in rest]
    places = chosen.tensor.permute([chosen.dims.index(d) for d in (*shared, *new)])
    sizes = tuple(places.shape[len(shared) :])
    leading = [n if d in shared else 1 for d, n in zip(rest, tensor.shape)]
    places = places.reshape(*leading, math.prod(sizes), *[1] * len(features)).expand(*tensor.shape[: len(rest)], -1, *features)
    found = tensor.gather(len(rest), places).reshape(*tensor.shape[: len(rest)], *sizes, *features)
    order, target = (*rest, *new), union(rest, tuple(new))
    axes = [order.index(d) for d in target] + [len(order) + i for i in range(len(features))]
    return Term(found.permute(axes), target)
