"""Values and inputs of one density, with any open dims, folded into one batch."""

import math
from typing import NamedTuple

from torch import Tensor

from pixyz.core import BATCH, Binding, Dims, Factor, ShapeError, Term, spread, union


class Folded(NamedTuple):
    """Tensors `(N, *features)`, and the dims, with their sizes, that were folded into N."""

    tensors: list[Tensor]
    dims: Dims
    sizes: list[int]

    def unfold(self, t: Tensor) -> Term:
        """`(N, *features)` as `(*dims, *features)`."""
        return Term(t.reshape(*self.sizes, *t.shape[1:]), self.dims)


def fold_values(values: tuple[Binding, ...], inputs: tuple[Binding, ...], factor: Factor) -> Folded:
    """The values of `factor.var` and the inputs of `factor.cond_var`, folded.

    Raises:
        ShapeError: for a value without a batch, or different batches.
    """
    bindings, names = (*values, *inputs), (*factor.var, *factor.cond_var)
    for name, b in zip(factor.var, values):
        if not b.dims:
            raise ShapeError(f"{factor}: {name} has shape {tuple(b.tensor.shape)}; a value is (batch, *features).")
    found: dict[int, int] = {}
    for b in bindings:
        for d, size in zip(b.dims, b.tensor.shape):
            if found.setdefault(d, size) != size:
                batches = [f"{name} has batch {c.tensor.shape[len(c.dims) - 1]}" for name, c in zip(names, bindings) if BATCH in c.dims]
                raise ShapeError(f"{factor}: {', '.join(batches)}; one density needs one batch.")
    dims = union(*[b.dims for b in bindings])
    sizes = [found[d] for d in dims]
    return Folded([fold_input(b, dims, sizes) for b in bindings], dims, sizes)


def fold_input(b: Binding, dims: Dims, sizes: list[int]) -> Tensor:
    """A binding as `(N, *features)`, N the product of the sizes."""
    return spread(b.tensor, b.dims, dims, sizes).reshape(math.prod(sizes), *b.features)
