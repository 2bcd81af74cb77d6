"""A family with its parameters, in one evaluation: shapes and supports checked, dims aligned, features summed."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pixyz.core import (
    BATCH,
    Binding,
    Checks,
    Dims,
    Factor,
    KindError,
    ShapeError,
    SupportError,
    Term,
    add,
    align,
    stack_terms,
    union,
)

from ._eventwise import Eventwise, sum_features
from ._half import check_counts, computing_dtype, narrowed
from ._supports import MASS, Support, has_numbers, in_support, outside

Shape = tuple[int, ...]


class Given(Eventwise):
    """The conditional of a family.

    Attributes:
        dims: the open dims of its parameters.
        features: the shape of one datum, to which the parameters broadcast.
        batch: the batch of its parameters, None for constants.
        like: a parameter of their dtype and on their device.
        dtype: in which the family computes, float32 for parameters in half precision.

    Args:
        family: whose functions to use.
        factor: its place in a formula, for the messages.
        terms: its parameters.
        checks: how they are checked against their supports.
        features: the shape of one datum, if it is known already.
        weights: for the dims of enumerated variables the log-densities of their values; where one is -inf, parameters need not be valid.
        is_checked: whether the parameters have been checked already.
    """

    def __init__(
        self,
        family: Any,
        factor: Factor,
        terms: Mapping[str, Term],
        checks: Checks,
        features: Shape | None = None,
        weights: Mapping[int, Term] | None = None,
        *,
        is_checked: bool = False,
    ) -> None:
        self.family = family
        self.factor = factor
        self.checks = checks
        self.terms = terms if all([t.tensor.is_floating_point() for t in terms.values()]) else _as_numbers(terms, family.supports)
        like = next(iter(self.terms.values())).tensor
        self.dims: Dims = ()
        self.batch: int | None = None
        for tensor, dims in self.terms.values():
            if dims and dims != self.dims:
                self.dims = union(self.dims, dims) if self.dims else dims
            if self.batch is None and BATCH in dims:
                self.batch = tensor.shape[len(dims) - 1]
            if tensor.ndim and not like.ndim:  # a parameter of rank 0 fits any dtype, as everywhere in torch
                like = tensor
        self.like: Tensor = like
        if checks and not is_checked and not like.is_floating_point():
            self._check_kind(next(name for name, term in self.terms.items() if term.tensor is like), like)
        self.dtype: torch.dtype = computing_dtype(like.dtype)
        if any([t.tensor.dtype != like.dtype for t in self.terms.values()]):
            self.terms = {k: t if t.tensor.ndim else self.term_in(k, self.dtype) for k, t in self.terms.items()}
        self.features: Shape = self._features() if features is None else features
        if weights and not checks and not is_checked:
            for name in self.terms:
                self._check_support(name, weights)
        if checks and not is_checked:
            for name, (tensor, _) in self.terms.items():
                self._check_kind(name, tensor)
                if name not in family.checked_names and not (checks.on_host and family.supports[name].holds(constant(tensor), checks)):
                    self._check_support(name, weights or {})
                if family.supports[name].whole:
                    check_counts(tensor, tensor.dtype, factor, name, checks)
            for words, holds in family.relations:
                inside = holds(self.aligned(self.dims))
                if has_numbers(inside) and not checks.passed(checks.every(inside), factor):
                    bad = inside.numel() - int(inside.sum())
                    raise SupportError(f"{factor}: it must be that {words}, but for {bad} of {inside.numel()} it is not.")

    @property
    def plain(self) -> "Given":
        return self

    def _check_support(self, name: str, weights: Mapping[int, Term]) -> None:
        """Raises an error for a parameter outside of its support. Where an enumerated variable has a value of probability 0, an element of
        the support stands in for the parameter.

        Raises:
            SupportError: if it is outside elsewhere.
        """
        term, support, checks = self.terms[name], self.family.supports[name], self.checks
        found = [weights[d] for d in term.dims if d in weights]
        # Only the host knows at once whether there is anything to replace.
        if checks and (not found or checks.on_host):
            held = support.holds(constant(term.tensor), checks)
            if held is True or (not found and checks.passed(held, self.factor)):
                return
        if found:
            impossible = _nowhere_possible(functools.reduce(add, found), term.dims)
            t = term.tensor
            t = torch.where(impossible.reshape(*impossible.shape, *[1] * (t.ndim - len(term.dims))), support.member(t), t)
            if not checks or checks.passed(support.holds(constant(t), checks), self.factor):
                self.terms = {**self.terms, name: Term(t, term.dims)}
                return
        if not checks:
            return
        raise outside(term.tensor, support, f"{self.factor}: {name}")

    def along(self, steps: Sequence["Given"], dim: int) -> "Given":
        """These conditionals of one factor as one, along a new dim; a parameter that is the same in all of them stays as it is."""
        columns = {name: [s.terms[name] for s in steps] for name in self.terms}
        same = {name for name, column in columns.items() if all([t.tensor is column[0].tensor for t in column])}
        rank, events = len(self.over), self.family._event_ranks
        terms = {
            name: column[0] if name in same else stack_terms([with_axes(t, rank, events[name]) for t in column], dim)
            for name, column in columns.items()
        }
        return Given(self.family, self.factor, terms, self.checks, self.features, is_checked=True)

    def scores(self, values: tuple[Binding, ...], factor: Factor, checks: Checks) -> tuple[Tensor, Dims]:
        x, dims = self._checked(values[0], factor, checks)
        target = union(dims, self.dims)
        params, x = self.aligned(target), align(self.widen(x), dims, target)
        if self.half:
            x = self.family.restored(params, x, torch.finfo(self.like.dtype).eps)
        return self.family.log_density(params, x), target

    def whitened(self, value: Binding | None, factor: Factor, matrix: Tensor, checks: Checks) -> tuple[Term, ...]:
        """W(x - μ), `(*dims, D)`, W times a matrix `(D, K)`, and log|W|, where WᵀW is the precision; x is 0 if there is no value.

        Only for families that write `whitener`.
        """
        count = math.prod(self.features)
        rest = [name for name in self.terms if name != "loc"]
        dims = union(*[self.terms[name].dims for name in rest])
        white, log_det = self.family.whitener(self._as_vectors({k: self.widen(align(*self.terms[k], dims)) for k in rest}), count)
        target = union(self.dims, () if value is None else value.dims)
        params = self._as_vectors(self.aligned(target))
        gap = -params.pop("loc")
        if value is not None:
            x, x_dims = self._checked(value, factor, checks)
            gap = gap + align(self.widen(x) if self.features else self.widen(x).unsqueeze(-1), x_dims, target)
        gap = gap.expand(*gap.shape[: max(gap.ndim - 1, 0)], count)
        residual = self.family.whitener(params, count)[0](gap.unsqueeze(-1)).squeeze(-1)
        return tuple(Term(self.narrow(t), d) for t, d in ((residual, target), (white(self.widen(matrix)), dims), (log_det, dims)))

    def _as_vectors(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """The parameters; those of a distribution over numbers as of one over vectors of one element."""
        return params if self.features else {k: t.unsqueeze(-1) for k, t in params.items()}

    def _checked(self, value: Binding, factor: Factor, checks: Checks) -> tuple[Tensor, Dims]:
        """The value, if its batch, features, kind and support fit."""
        x, dims = self.fitted(value, factor, checks)
        if checks:
            self._check_value(x, factor.var[0], factor, checks)
        return x, dims

    def fitted(self, value: Binding, factor: Factor, checks: Checks) -> tuple[Tensor, Dims]:
        """The value, if its batch and features fit; whole numbers as numbers."""
        x, dims, _ = value
        name = factor.var[0]
        if BATCH in dims:
            batch = x.shape[len(dims) - 1]
            if self.batch is not None and batch != self.batch:
                raise ShapeError(
                    f"{factor}: {name} has batch {batch}, but {', '.join(factor.cond_var)} has batch {self.batch}; "
                    "one density needs one batch."
                )
        elif x.ndim == 0 and self.features:
            raise ShapeError(f"{factor}: {name} has shape {tuple(x.shape)}; a value is (batch, *features).")
        if x.shape[len(dims) :] != self.features:
            whose = "the network's" if self.family.has_network else "its"
            raise ShapeError(
                f"{factor}: {name} has features {tuple(x.shape[len(dims) :])}, but {whose} {' and '.join(self.terms)} have {self.features}."
                + (f" Declare them: dim={x.shape[-1]}, or features_shape." if self.features == () and not self.family.has_network else "")
            )
        support: Support = self.family.value_support
        if support.whole and not (support.is_index and not x.is_floating_point()):
            check_counts(x, x.dtype if x.is_floating_point() else self.like.dtype, factor, name, checks)
            x = x if x.is_floating_point() else x.to(self.like.dtype)
        return x, dims

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """One draw, `(*dims, *features)`."""
        params, family = self.aligned(dims), self.family
        if not (pathwise and family.has_rsample):
            params = {name: constant(t) for name, t in params.items()}
        if not self.checks.on_host and family.value_support.measure == MASS:
            params = {name: in_support(t, family.supports[name]) for name, t in params.items()}
        x = (family.rsample if family.has_rsample else family.draw)(params, (*sizes, *self.features))
        return [Term(self._narrowed(x) if self.half else x, dims)]

    def _narrowed(self, x: Tensor) -> Tensor:
        """A draw in the parameters' dtype, half precision."""
        support: Support = self.family.value_support
        if support.whole and not support.is_index:
            check_counts(x, self.like.dtype, self.factor, f"a draw of {self.factor.var[0]}", self.checks)
        return narrowed(x, support, self.like.dtype)

    def relax(self, dims: Dims, sizes: list[int], temperature: Tensor | float) -> tuple[Term, Term, Term]:
        """What `Family.relax` draws, each `(*dims, *features)`; only for families that write it."""
        drawn = self.family.relax(self.aligned(dims), (*sizes, *self.features), temperature)
        hard, relaxed, conditional = (Term(self.narrow(t), dims) for t in drawn)
        return hard, relaxed, conditional

    def support_size(self) -> int:
        """The number of values; only for families that have finitely many."""
        return self.family.count_support(self.features, self.aligned(()), self.family._count)

    def enumerate_support(self) -> list[Tensor]:
        """All values, `(support_size, *features)`."""
        support: Support = self.family.value_support
        every = self.family.enumerate_support(self.features, self.aligned(()), self.family._count).to(self.like.device, self.dtype)
        return [narrowed(every, support, self.like.dtype) if self.half else every]

    def statistic(self, what: str) -> Term:
        """The mean, variance or mode, `(*dims, *features)`, or the entropy in nats, `(*dims)`.

        Raises:
            NotImplementedError: where the family has no closed form.
        """
        value = getattr(self.family, f"{what}_of")(self.aligned(self.dims))
        value = value.long() if what == "mode" and self.family.value_support.is_index and self.half else self.narrow(value)
        sizes = self.sizes()
        if what == "entropy":
            return Term(sum_features(value.expand(tuple(sizes[d] for d in self.dims) + self.over), len(self.dims)), self.dims)
        return Term(value.expand((*[sizes[d] for d in self.dims], *self.features)), self.dims)

    @property
    def over(self) -> Shape:
        """The features without those of one event."""
        return self.features[: len(self.features) - self.family.value_support.event_rank]

    def sizes(self) -> dict[int, int]:
        """The size of each of its dims."""
        return {d: n for tensor, dims in self.terms.values() for d, n in zip(dims, tensor.shape)}

    def aligned(self, target: Dims) -> dict[str, Tensor]:
        """The parameters, ready to broadcast against tensors `(*target, *features)`, in the dtype in which the family computes."""
        params = {k: t if not dims or dims == target else align(t, dims, target) for k, (t, dims) in self.terms.items()}
        return {k: t.to(self.dtype) for k, t in params.items()} if self.half else params

    @property
    def half(self) -> bool:
        """Whether the parameters are in half precision."""
        return self.dtype != self.like.dtype

    def widen(self, x: Tensor) -> Tensor:
        """A value in the dtype in which the family computes; indices stay integers."""
        return x.to(self.dtype) if self.half and x.is_floating_point() else x

    def narrow(self, t: Tensor) -> Tensor:
        """What was computed, in the dtype of the parameters."""
        return t.to(self.like.dtype) if self.half else t

    def term_in(self, name: str, dtype: torch.dtype) -> Term:
        """A parameter in this dtype; a number that was given to the family has all its digits there."""
        tensor, dims = self.terms[name]
        if tensor.dtype == dtype:
            return self.terms[name]
        is_own = name in self.family.constant_names and getattr(self.family, name) is tensor
        return Term(self.family.constant_in(name, dtype) if is_own else tensor.to(dtype), dims)

    def _features(self) -> Shape:
        declared: Shape | None = self.family.features_shape
        ranks: Mapping[str, int] = self.family._event_ranks
        shapes = {name: tuple(tensor.shape[len(dims) :]) for name, (tensor, dims) in self.terms.items()}
        event: Shape = ()
        over = shapes
        if any(ranks.values()):
            for name, shape in shapes.items():
                if len(shape) < ranks[name]:
                    raise ShapeError(f"{self.factor}: {name} has features {shape}; one {name} is a tensor of rank {ranks[name]}.")
            if len({shape[len(shape) - ranks[name]] for name, shape in shapes.items() if ranks[name]}) > 1:
                raise ShapeError(f"{self.factor}: its parameters are of events of different lengths: {_listed(shapes)}.")
            event = self.family.event_shape(shapes)
            over = {name: shape[: len(shape) - ranks[name]] for name, shape in shapes.items()}
        full = {s for name, s in over.items() if s or self.terms[name].dims}
        common = broadcast_shapes([*full]) if len(full) > 1 else next(iter(full), ())
        if common is None:
            raise ShapeError(f"{self.factor}: the features of its parameters do not fit one another: {_listed(shapes)}.")
        features = (*common, *event)
        if declared is not None and features != declared:
            before = declared[: len(declared) - len(event)]
            if self.dims == () and declared[len(before) :] == event and (not common or broadcast_shapes([common, before]) == before):
                return declared
            raise ShapeError(f"{self.factor}: its features are declared as {declared}, but its parameters have {_listed(shapes)}.")
        return features

    def _check_kind(self, name: str, t: Tensor) -> None:
        if not t.is_floating_point():
            raise KindError(f"{self.factor}: {name} is {t.dtype}; a parameter is a real number. Convert it with .float().")
        if t.ndim and (t.dtype != self.like.dtype or t.device != self.like.device):
            other = next(n for n, u in self.terms.items() if u.tensor is self.like)
            raise KindError(f"{self.factor}: {name} is {_kind(t)}, {other} is {_kind(self.like)}. Convert one with .to().")

    def _check_value(self, x: Tensor, name: str, factor: Factor, checks: Checks) -> None:
        is_other = x.dtype != self.like.dtype and not (self.family.value_support.is_index and not x.is_floating_point())
        if is_other or x.device != self.like.device:
            raise KindError(f"{factor}: {name} is {_kind(x)}, the parameters are {_kind(self.like)}. Convert one with .to().")
        support: Support = self.family.value_support
        if not checks.passed(support.holds(constant(x), checks), factor):
            fits = self.family.fitting(x)
            hint = f" Families that take such values: {', '.join(fits)}." if fits else ""
            raise outside(x, support, f"{factor} ({self.family.distribution_name}): {name}", hint)


def same_family_divergence(what: str, p: Given, q: Given, who: object, **options: float) -> Term:
    """A divergence that adds up over independent features, by the family's closed form of this name."""
    if p.features != q.features:
        raise ShapeError(f"{who}: {p.factor} has features {p.features}, {q.factor} has {q.features}.")
    if p.batch is not None and q.batch is not None and p.batch != q.batch:
        raise ShapeError(f"{who}: {p.factor} has batch {p.batch}, {q.factor} has batch {q.batch}.")
    if p.like.dtype != q.like.dtype or p.like.device != q.like.device:
        raise KindError(f"{who}: {p.factor} is {_kind(p.like)}, {q.factor} is {_kind(q.like)}. Convert one with .to().")
    target = union(p.dims, q.dims)
    value = p.narrow(getattr(p.family, what)(p.aligned(target), q.aligned(target), **options))
    sizes = {**q.sizes(), **p.sizes()}
    full = tuple([sizes[d] for d in target]) + p.over
    # Parameters that broadcast count once per feature.
    return Term(sum_features(value if value.shape == full else value.expand(full), len(target)), target)


def with_axes(term: Term, rank: int, event_rank: int) -> Term:
    """A parameter that is the same for all features, with axes of size 1 in their place: once it has dims, it aligns with others so.

    Args:
        term: `(*dims, *features, *event)`, or `(*dims, *event)`.
        rank: how many features' axes the others have.
        event_rank: the rank of one of its events.
    """
    tensor, dims = term
    lacking = rank - (tensor.ndim - len(dims) - event_rank)
    if lacking <= 0:
        return term
    return Term(tensor.reshape(*tensor.shape[: len(dims)], *[1] * lacking, *tensor.shape[len(dims) :]), dims)


def _nowhere_possible(weight: Term, dims: Dims) -> Tensor:
    """Where along these dims a log-density is -inf whatever the indices of its other dims, `(*dims)`."""
    impossible = align(weight.tensor.isneginf(), weight.dims, union(weight.dims, dims))
    others = [axis for axis, dim in enumerate(union(weight.dims, dims)) if dim not in dims]
    for axis in reversed(others):
        impossible = impossible.all(axis)
    return impossible


def _as_numbers(terms: Mapping[str, Term], supports: Mapping[str, Support]) -> dict[str, Term]:
    """Integers as numbers, where the parameter is a whole number anyway."""
    like = next((t.tensor.dtype for t in terms.values() if t.tensor.is_floating_point()), torch.get_default_dtype())
    return {
        k: Term(t.to(like), dims) if supports[k].whole and not t.is_floating_point() else Term(t, dims) for k, (t, dims) in terms.items()
    }


def _listed(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} {s}" for name, s in shapes.items())


def _kind(t: Tensor) -> str:
    return f"{t.dtype} on {t.device}"


def constant(t: Tensor) -> Tensor:
    """The tensor without its graph."""
    return t.detach() if t.requires_grad else t


def broadcast_shapes(shapes: list[Shape]) -> Shape | None:
    """The shape that all broadcast to, if they are of one rank."""
    if len({len(s) for s in shapes}) > 1:
        return None
    try:
        return tuple(torch.broadcast_shapes(*shapes))
    except RuntimeError:
        return None
