"""Values and inputs of one density, with any open dims, folded into one batch."""

from typing import NamedTuple

from torch import Tensor

from pixyz.core import Binding, Dims, Factor, ShapeError, Term, common_sizes, fold, unfold, union


class Folded(NamedTuple):
    """Tensors `(N, *features)`, and the dims, with their sizes, that were folded into N."""

    tensors: list[Tensor]
    dims: Dims
    sizes: list[int]

    def unfold(self, t: Tensor) -> Term:
        """`(N, *features)` as `(*dims, *features)`."""
        return Term(unfold(t, self.dims, self.sizes), self.dims)


def fold_values(values: tuple[Binding, ...], inputs: tuple[Binding, ...], factor: Factor) -> Folded:
    """The values of `factor.var` and the inputs of `factor.cond_var`, folded.

    Raises:
        ShapeError: for a value without a batch, or different batches.
    """
    for name, b in zip(factor.var, values):
        if not b.dims:
            raise ShapeError(f"{factor}: {name} has shape {tuple(b.tensor.shape)}; a value is (batch, *features).")
    bindings = (*values, *inputs)
    dims = union(*[b.dims for b in bindings])
    sizes = common_sizes(dims, bindings, (*factor.var, *factor.cond_var), factor)
    return Folded([fold(b.tensor, b.dims, dims, sizes) for b in bindings], dims, sizes)
