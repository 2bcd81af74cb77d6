"""The numbers of one formula: drawn from a seed by name, so that the library and the truth have the same ones."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .case import generator


class Weights:
    """Tensors in float64 by name; those that are trained require a gradient.

    Args:
        seed: what they are drawn from, with their names.
        batch: the number of data.
    """

    def __init__(self, seed: int, batch: int = 1) -> None:
        self.seed, self.batch = seed, batch
        self.trained: dict[str, Tensor] = {}
        self._constant: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int, kind: str = "real", trained: bool = True) -> Tensor:
        """The tensor of this name.

        Args:
            name: within the formula.
            shape: its shape; that of a square matrix by one number.
            kind: `"real"`, `"positive"`, `"unit"` for numbers in (0, 1), `"covariance"` or `"tril"`.
            trained: whether it requires a gradient.
        """
        found = self.trained if trained else self._constant
        if name not in found:
            found[name] = _drawn(kind, shape, generator(self.seed, name)).requires_grad_(trained)
        return found[name]

    def derived(self, name: str, function: Callable[[Tensor], Tensor], *shape: int) -> Tensor:
        """What a function makes of numbers: that is what is trained under this name, and not the numbers."""
        if name not in self.trained:
            drawn = _drawn("real", shape, generator(self.seed, name))
            self.trained[name] = function(drawn).requires_grad_()
        return self.trained[name]


def _drawn(kind: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if kind in ("covariance", "tril"):
        (n,) = shape
        tril = (0.4 * torch.randn(n, n, generator=generator, dtype=torch.float64)).tril(-1)
        tril = tril + (0.3 * torch.randn(n, generator=generator, dtype=torch.float64)).exp().diag()
        return tril if kind == "tril" else tril @ tril.T
    t = torch.randn(shape, generator=generator, dtype=torch.float64)
    return {"real": lambda: 0.7 * t, "positive": lambda: (0.4 * t).exp(), "unit": t.sigmoid}[kind]()


class Copied:
    """The parameters of the library's modules, by the names of the truth's, with the same numbers.

    Args:
        weights: those of the truth; none of its tensors is used itself.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.batch = weights.batch
        self.found: dict[str, nn.Parameter] = {}

    def __call__(self, name: str, *shape: int, kind: str = "real") -> nn.Parameter:
        """A parameter with the number that the truth has under this name."""
        if name not in self.found:
            self.found[name] = nn.Parameter(self.weights(name, *shape, kind=kind).detach().clone())
        return self.found[name]

    def constant(self, name: str, *shape: int, kind: str = "real") -> Tensor:
        """A tensor that is not trained."""
        return self.weights(name, *shape, kind=kind, trained=False).clone()

    def linear(self, name: str, inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
        """A linear network with the weights `name.weight` and `name.bias`."""
        net = nn.Linear(inputs, outputs, bias=bias, device="meta")  # the initialisation takes most of the time
        net.weight = self(f"{name}.weight", outputs, inputs)
        if bias:
            net.bias = self(f"{name}.bias", outputs)
        return net
