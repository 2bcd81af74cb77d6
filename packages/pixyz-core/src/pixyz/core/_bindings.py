"""What names stand for in one evaluation, and where a conditional stands in a joint."""

from typing import Any, NamedTuple

from torch import Tensor

from ._dims import Dims
from ._formula import Density
from ._printers import render


class Binding(NamedTuple):
    """A tensor `(*dims, *features)`, its open dims, and the number that stands for it in the memo."""

    tensor: Tensor
    dims: Dims
    number: int

    @property
    def features(self) -> tuple[int, ...]:
        """The shape behind the open dims."""
        return tuple(self.tensor.shape[len(self.dims) :])


class Factor(NamedTuple):
    """One conditional of a joint: a leaf distribution, and the joint's names in the order of the leaf's own."""

    dist: Any
    var: tuple[str, ...]
    cond_var: tuple[str, ...]

    @property
    def density(self) -> Density:
        """The node p(x|z)."""
        return Density(self.dist.name, self.var, self.cond_var)

    def __str__(self) -> str:
        return render(self.density)
