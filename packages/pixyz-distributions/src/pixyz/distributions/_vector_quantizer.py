"""A deterministic variable whose values are the vectors of a codebook."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixyz.core import Binding, Dims, Factor, FormulaError, KindError, Scope, ShapeError, Term, is_whole, need_finite, stack_terms

from ._choice import unit_vector
from ._deterministic import Computed, Deterministic
from ._eventwise import sum_features


class VectorQuantizer(Deterministic):
    r"""A variable that is computed by a network and replaced by the nearest vector of a codebook.

    $$z = e_k, \qquad k = \arg\min_j \|h(x) - e_j\|^2$$

    The gradient of z is handed straight to h(x). What brings h(x) and the codes together is `Commitment` of `pixyz.losses`. With `decay`
    the codes are moving averages of the vectors that they stand for instead, taken in train mode, once in each evaluation with gradients,
    over the batch of this process.

    Args:
        text: the distribution as papers write it, `"q(z|x)"`, in place of `var`, `cond_var` and `name`.
        network: returns a dict with h(x) under the variable's name; or give the network under that name, `z=network`.
        num_codes: how many vectors there are.
        dim: D, their length: the size of the features' axis `axis`.
        axis: which axis of the features is quantised: the last one, or 0 for images `(D, height, width)`.
        decay: of the moving averages, in [0, 1); None for a codebook that is a parameter.
        restart_below: with `decay`, a code whose moving count falls below this is put on a vector of the batch; 0 leaves dead codes alone.
        var, cond_var, name: as in `Deterministic`.
        values: the network.

    Raises:
        FormulaError: for several variables, or numbers out of range.
        ShapeError: for features whose axis has another size.

    Examples:
        >>> q = VectorQuantizer("q(z|x)", z=nn.Linear(64, 8), num_codes=32, dim=8)
        >>> codes = q.indices({"x": torch.randn(5, 64)})
        >>> codes.shape, q.codebook.shape
        (torch.Size([5]), torch.Size([32, 8]))

    Source:
        van den Oord et al. (2017), https://arxiv.org/abs/1711.00937, and its appendix A.1 for the moving averages.
    """

    distribution_name = "VectorQuantizer"
    codebook: Tensor
    code_counts: Tensor
    code_sums: Tensor

    def __init__(
        self,
        text: str | None = None,
        network: Callable[..., Any] | None = None,
        /,
        *,
        num_codes: int,
        dim: int,
        axis: int = -1,
        decay: float | None = None,
        restart_below: float = 0.0,
        var: Iterable[str] | None = None,
        cond_var: Iterable[str] | None = None,
        name: str | None = None,
        **values: Any,
    ) -> None:
        super().__init__(text, network, var=var, cond_var=cond_var, name=name, **values)
        if len(self.var) != 1:
            raise FormulaError(f"{self.prob_text}: a VectorQuantizer has one variable; quantise each by its own.")
        for word, n in (("num_codes", num_codes), ("dim", dim)):
            if not is_whole(n) or n < 1:
                raise KindError(f"{self.prob_text}: {word} must be a whole number of at least 1; got {n!r}.")
        if decay is not None and not 0 <= decay < 1:
            raise FormulaError(f"{self.prob_text}: decay must be in [0, 1), or None; got {decay!r}.")
        need_finite(restart_below, "restart_below", self.prob_text)
        if restart_below < 0 or (restart_below and decay is None):
            raise FormulaError(f"{self.prob_text}: restart_below is a count of at least 0, and needs decay; got {restart_below!r}.")
        self.axis, self.decay, self.restart_below = axis, decay, restart_below
        codes = torch.randn(num_codes, dim) / math.sqrt(dim)
        if decay is None:
            self.register_parameter("codebook", nn.Parameter(codes))
        else:
            self.register_buffer("codebook", codes)
            self.register_buffer("code_counts", torch.ones(num_codes))
            self.register_buffer("code_sums", codes.clone())

    def indices(self, values: Mapping[str, Tensor]) -> Tensor:
        """The numbers of the codes, `(batch, *features)` without the axis; nothing is trained by it.

        Args:
            values: `(batch, *features)` for each conditioning variable.
        """
        with torch.no_grad():
            z = self.sample(values, return_all=False)[self.var[0]].movedim(self._position(1), -1)
            return self._nearest(z.flatten(0, -2)).reshape(z.shape[:-1])

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "Quantized":
        ((h, dims),) = super().conditional(scope, factor, inputs).terms
        features = tuple(h.shape[len(dims) :])
        if not -len(features) <= self.axis < len(features) or features[self.axis] != self.codebook.shape[1]:
            raise ShapeError(
                f"{factor}: the codes have {self.codebook.shape[1]} elements, but the network's {factor.var[0]} has features {features}; "
                f"axis {self.axis} of them must have that size."
            )
        moved = h.movedim(self._position(len(dims)), -1)
        rows = moved.reshape(-1, moved.shape[-1])
        chosen = self._nearest(rows)
        codes = F.embedding(chosen, self.codebook).reshape(moved.shape).movedim(-1, self._position(len(dims)))
        if self.decay is not None and self.training and torch.is_grad_enabled() and rows.shape[0]:
            self._follow(rows.detach(), chosen, self.decay)
        return Quantized(h, codes, dims, learned=self.decay is None)

    def _position(self, rank: int) -> int:
        """The axis in a tensor whose features stand behind `rank` dims."""
        return self.axis if self.axis < 0 else self.axis + rank

    def _nearest(self, rows: Tensor) -> Tensor:
        """The numbers of the nearest codes, `(N,)`, for vectors `(N, D)`."""
        codes = self.codebook.detach()
        middle = codes.mean(0)  # far from 0 the product of both would lose the digits of their distance
        codes = codes - middle
        return (codes.square().sum(-1) - 2 * (rows.detach() - middle) @ codes.T).argmin(-1)

    @torch.no_grad()
    def _follow(self, rows: Tensor, chosen: Tensor, decay: float) -> None:
        """Moves each code towards the mean of the vectors `(N, D)` that chose it."""
        assigned = unit_vector(chosen, len(self.codebook), rows.dtype)
        self.code_counts.mul_(decay).add_(assigned.sum(0), alpha=1 - decay)
        self.code_sums.mul_(decay).add_(assigned.T @ rows, alpha=1 - decay)
        if self.restart_below:
            dead = self.code_counts < self.restart_below
            fresh = rows[torch.randint(rows.shape[0], (len(dead),), device=rows.device)]
            self.code_counts.copy_(torch.where(dead, 1.0, self.code_counts))
            self.code_sums.copy_(torch.where(dead.unsqueeze(-1), fresh, self.code_sums))
        # A code that nothing has chosen for long keeps its place.
        counts = self.code_counts.unsqueeze(-1)
        alive = counts > torch.finfo(rows.dtype).eps
        self.codebook.copy_(torch.where(alive, self.code_sums / counts, self.codebook))


class Quantized(Computed):
    """The values of a `VectorQuantizer`, in one evaluation."""

    def __init__(self, h: Tensor, codes: Tensor, dims: Dims, *, learned: bool) -> None:
        # In value the codes, to the last digit; in gradient h.
        super().__init__([Term(codes.detach() + (h - h.detach()), dims)])
        self.pair = (h, codes)
        self.learned = learned

    def along(self, steps: Sequence["Quantized"], dim: int) -> "Quantized":  # type: ignore[override]
        """These values of one factor as one, along a new dim."""
        pairs = [stack_terms([Term(s.pair[i], s.dims) for s in steps], dim) for i in (0, 1)]
        return Quantized(pairs[0].tensor, pairs[1].tensor, pairs[0].dims, learned=self.learned)

    def commitment(self, beta: float) -> Term:
        """β‖h - sg[e]‖², and ‖sg[h] - e‖² where the codebook is a parameter; `(*dims)`."""
        h, codes = self.pair
        loss = beta * (h - codes.detach()).square()
        if self.learned:
            loss = loss + (h.detach() - codes).square()
        return Term(sum_features(loss, len(self.dims)), self.dims)
