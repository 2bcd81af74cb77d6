"""Linear maps of the features, by their LU factors."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixyz.core import ShapeError

from ._bijection import Bijection, Mapped


class LULinear(Bijection):
    r"""A linear map of the features of a vector, or of the channels at each pixel of an image, by its LU factors.

    $$y = P L U x + b, \qquad \log\left|\det\frac{\partial y}{\partial x}\right| = HW \sum_i \log|u_{ii}|$$

    P is a fixed permutation; L has ones on its diagonal; the signs of U's diagonal are fixed as well. The inverse solves with both
    triangles. It starts as a random rotation, whose P and signs are saved with the weights.

    Args:
        shape: the features: D, or `(C, H, W)`.
        bias: whether there is a b.
        seed: of the rotation; torch's generator, if not given.

    Source:
        Kingma and Dhariwal (2018), eq. 10, https://arxiv.org/abs/1807.03039

    Examples:
        >>> f = LULinear(3, seed=0)
        >>> x = torch.tensor([[1.0, 2.0, 3.0]])
        >>> y, log_det = f.forward_and_log_det(x)
        >>> (y.norm() - x.norm()).abs() < 1e-5, log_det.abs() < 1e-5
        (tensor(True), tensor([True]))
        >>> (f.inverse_and_log_det(y)[0] - x).abs().max() < 1e-5
        tensor(True)
    """

    push_passes = pull_passes = 0
    order: Tensor
    signs: Tensor

    def __init__(self, shape: int | Sequence[int], *, bias: bool = True, seed: int | None = None) -> None:
        super().__init__(shape)
        n, *pixels = self.in_shape or (0,)
        self.pixels = torch.Size(pixels).numel()
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        rotation, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
        p, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        # Both triangles in one matrix, as LAPACK packs them; on its diagonal log|u_ii|.
        packed = lower.tril(-1) + upper.triu(1) + diagonal.abs().log().diag()
        self.factors = nn.Parameter(packed.to(torch.get_default_dtype()))
        self.bias = nn.Parameter(torch.zeros(n)) if bias else None
        self.register_buffer("order", p.argmax(1))
        self.register_buffer("signs", diagonal.sign().to(torch.get_default_dtype()))

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        lower, upper, log_det = self._triangles()
        matrix = (lower @ upper).index_select(0, self.order)
        return F.linear(x.movedim(1, -1), matrix, self.bias).movedim(-1, 1), log_det

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        lower, upper, log_det = self._triangles()
        last = y.movedim(1, -1)
        moved = last if self.bias is None else last - self.bias
        rows = torch.empty_like(moved).index_copy(-1, self.order, moved)
        half = torch.linalg.solve_triangular(lower.mT, rows.reshape(-1, len(lower)), upper=True, left=False, unitriangular=True)
        x = torch.linalg.solve_triangular(upper.mT, half, upper=False, left=False)
        return x.view(rows.shape).movedim(-1, 1), -log_det

    def _triangles(self) -> tuple[Tensor, Tensor, Tensor]:
        log_diagonal = self.factors.diagonal()
        lower = self.factors.tril(-1) + torch.ones_like(log_diagonal).diag()
        upper = self.factors.triu(1) + (self.signs * log_diagonal.exp()).diag()
        return lower, upper, log_diagonal.sum() * self.pixels


class InvertibleConv1x1(LULinear):
    """The invertible 1 × 1 convolution of images: one `LULinear` of the channels for all pixels, without a bias.

    Args:
        shape: `(C, H, W)`.
        seed: of the rotation that it starts as; torch's generator, if not given.

    Raises:
        ShapeError: for what is no image.

    Source:
        Kingma and Dhariwal (2018), section 3.2, https://arxiv.org/abs/1807.03039

    Examples:
        >>> y, log_det = InvertibleConv1x1((4, 8, 8)).forward_and_log_det(torch.ones(2, 4, 8, 8))
        >>> y.shape, log_det.shape
        (torch.Size([2, 4, 8, 8]), torch.Size([2]))
    """

    def __init__(self, shape: Sequence[int], *, seed: int | None = None) -> None:
        super().__init__(shape, bias=False, seed=seed)
        if len(self.in_shape or ()) != 3:
            raise ShapeError(f"InvertibleConv1x1 takes images (C, H, W); the features are {self.in_shape}. Use LULinear for vectors.")
