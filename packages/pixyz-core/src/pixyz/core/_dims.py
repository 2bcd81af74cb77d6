"""Open dims: tensors whose leading axes have identifiers, and how they are aligned and folded.

A tensor inside an evaluation has the shape `(*dims, *features)`. Each open dim is an integer: `BATCH` for the batch, a larger
one for every Monte Carlo or enumerated dim opened since. Dims are written newest first, so they are always in descending order, the batch
is the last of them, and two tensors are aligned by identifier, never by position or size.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._autocast import is_under_autocast
from ._errors import KindError, ShapeError

BATCH = 0
"""The identifier of the batch."""

Dims = tuple[int, ...]


class Term(NamedTuple):
    """A tensor `(*dims, *features)` and the identifiers of its leading axes."""

    tensor: Tensor
    dims: Dims


def differ(sizes: Sequence[Any]) -> bool:
    """Whether sizes, or shapes, are not all equal. They are compared and never hashed: a size that a graph leaves open has no hash."""
    return any([n != sizes[0] for n in sizes[1:]])


def need_dense(tensor: Tensor, who: object, name: str) -> None:
    """An error for a sparse or a nested tensor, which has no axes to align."""
    if tensor.is_nested:
        raise KindError(
            f"{who}: {name} is a nested tensor; rows of different lengths are one padded tensor and a mask: "
            "torch.nested.to_padded_tensor, or IterativeLoss(mask=...)."
        )
    if tensor.layout is not torch.strided:
        raise KindError(f"{who}: {name} is a sparse tensor ({tensor.layout}); convert it with .to_dense().")


def log_size(size: int, like: Tensor) -> Tensor:
    """log n of a size, `()`, of the kind of `like`: as a Python number it would be a constant, and so a graph for each size."""
    return torch.full((), size, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device).log().to(like.dtype)


def union(*groups: Dims) -> Dims:
    """All dims that occur, newest first."""
    first = groups[0]
    for group in groups:
        if group != first:
            return tuple(sorted({d for g in groups for d in g}, reverse=True))
    return first


def align(tensor: Tensor, dims: Dims, target: Dims) -> Tensor:
    """A view that broadcasts against `target`: axes of size 1 where `dims` lacks a dim that is not a leading one."""
    if not dims or dims == target:
        return tensor
    missing = [d for d in target if d < dims[0] and d not in dims]
    if not missing:
        return tensor
    for axis, d in enumerate(target[target.index(dims[0]) :]):
        if d not in dims:
            tensor = tensor.unsqueeze(axis)
    return tensor


def lead(tensor: Tensor, rank: int) -> Tensor:
    """With axes of size 1 in front, for the leading dims that `align` leaves to broadcasting."""
    return tensor[(None,) * (rank - tensor.ndim)] if tensor.ndim < rank else tensor


def broadcast(a: Term, b: Term, who: object) -> tuple[Tensor, Tensor, Dims]:
    """Two terms without features, ready to broadcast, and the dims of the result.

    Raises:
        ShapeError: if both have a batch, of different sizes; a batch of 1 is no exception.
        KindError: if they are on different devices, or have different dtypes; a term without dims is a scalar, which fits any dtype.
    """
    if a.dims and b.dims and a.tensor.device != b.tensor.device:
        raise KindError(f"{who}: one of its terms is on {a.tensor.device}, another on {b.tensor.device}. Move one with .to().")
    if a.dims and b.dims and a.tensor.dtype != b.tensor.dtype:
        need_one_dtype(a.tensor, b.tensor, who)
    if a.dims == b.dims and a.tensor.shape == b.tensor.shape:
        return a.tensor, b.tensor, a.dims
    if BATCH in a.dims and BATCH in b.dims and a.tensor.shape[-1] != b.tensor.shape[-1]:
        raise ShapeError(
            f"{who}: its terms have batches {a.tensor.shape[-1]} and {b.tensor.shape[-1]}. Reduce each with .mean() or .sum() first."
        )
    dims = union(a.dims, b.dims)
    return align(a.tensor, a.dims, dims), align(b.tensor, b.dims, dims), dims


def need_one_dtype(a: Tensor, b: Tensor, who: object) -> None:
    """An error for terms of different dtypes, which torch would promote; under autocast they may differ.

    Raises:
        KindError: naming both.
    """
    if a.dtype != b.dtype and not is_under_autocast():
        raise KindError(
            f"{who}: one of its terms is {a.dtype}, another {b.dtype}. One evaluation has one dtype: convert the values and what has the "
            "other one with .to(), or the whole loss with .float() or .double()."
        )


def broadcast_all(terms: Sequence[Term], who: object) -> tuple[list[Tensor], Dims]:
    """Any number of terms, as `broadcast` does two."""
    first = terms[0]
    for term in terms[1:]:
        if BATCH in term.dims:
            if BATCH in first.dims:
                broadcast(first, term, who)  # says what does not fit
            else:
                first = term
    dims = union(*[t.dims for t in terms])
    return [align(t.tensor, t.dims, dims) for t in terms], dims


def spread(tensor: Tensor, dims: Dims, target: Dims, sizes: Sequence[int]) -> Tensor:
    """The tensor expanded to all of `target`, `(*sizes, *features)`."""
    if dims == target:
        return tensor
    features = tensor.shape[len(dims) :]
    for axis, d in enumerate(target):
        if d not in dims:
            tensor = tensor.unsqueeze(axis)
    return tensor.expand(*sizes, *features)


def fold(tensor: Tensor, dims: Dims, target: Dims, sizes: Sequence[int]) -> Tensor:
    """`(*dims, *features)` as `(N, *features)`, N the product of the sizes of `target`."""
    features = tensor.shape[len(dims) :]
    return spread(tensor, dims, target, sizes).reshape(-1, *features) if target else tensor.unsqueeze(0)


def unfold(tensor: Tensor, target: Dims, sizes: Sequence[int]) -> Tensor:
    """`(N, *features)` as `(*target, *features)`: the inverse of `fold`."""
    return tensor.reshape(*sizes, *tensor.shape[1:]) if target else tensor.squeeze(0)


def add(a: Term, b: Term) -> Term:
    """The sum of two terms without features that are known to fit; `broadcast` finds out whether others do."""
    dims = union(a.dims, b.dims)
    return Term(align(a.tensor, a.dims, dims) + align(b.tensor, b.dims, dims), dims)


def sum_over(term: Term, dims: Dims) -> Term:
    """The sum over those of these dims that the term has."""
    axes = [i for i, d in enumerate(term.dims) if d in dims]
    if not axes:
        return term
    return Term(term.tensor.sum(axes), tuple(d for d in term.dims if d not in dims))


def stack_terms(terms: Sequence[Term], dim: int) -> Term:
    """Terms that are one another's continuation along a new dim, newer than theirs."""
    dims = union(*[t.dims for t in terms])
    sizes = {d: n for t in terms for d, n in zip(t.dims, t.tensor.shape)}
    return Term(torch.stack([spread(t.tensor, t.dims, dims, [sizes[d] for d in dims]) for t in terms]), (dim, *dims))
