"""A network that is linear in each of several variables, and says so."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pixyz.core import FormulaError


class Affine(nn.Module):
    r"""A network that is linear in several variables. It declares so, and what is hidden among them can be integrated out exactly.

    $$f(z, u, \ldots) = A_z z + A_u u + \ldots + b$$

    Args:
        out_features: the length of what it returns.
        bias: whether there is a b.
        in_features: for each variable, by name, its number of features.

    Raises:
        FormulaError: if no variable is named, or it is called without one of those; others it leaves alone.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> move = Normal("p(z|h,u)", loc=Affine(2, h=2, u=1), scale=0.1)
        >>> sorted(move.linear_var)
        ['h', 'u']
    """

    def __init__(self, out_features: int, *, bias: bool = True, **in_features: int) -> None:
        super().__init__()
        if not in_features:
            raise FormulaError("Affine: name the variables it is linear in, with their numbers of features, like Affine(3, z=2).")
        self.maps = nn.ModuleDict({v: nn.Linear(count, out_features, bias=False) for v, count in in_features.items()})
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    @property
    def linear_maps(self) -> Mapping[str, Tensor]:
        """The matrix of each variable, `(out_features, in_features)`."""
        return {v: linear.weight for v, linear in self.maps.items()}  # type: ignore[misc]

    def forward(self, **inputs: Tensor) -> Tensor:
        """The sum, `(batch, out_features)`, for `(batch, in_features)` of each variable."""
        lacking = [v for v in self.maps if v not in inputs]
        if lacking:
            raise FormulaError(
                f"Affine is linear in {', '.join(self.maps)}; it was called with {', '.join(inputs)}, without {', '.join(lacking)}. "
                "Name in Affine(...) the variables that stand behind the bar."
            )
        total = torch.stack([linear(inputs[v]) for v, linear in self.maps.items()]).sum(0)
        return total if self.bias is None else total + self.bias
