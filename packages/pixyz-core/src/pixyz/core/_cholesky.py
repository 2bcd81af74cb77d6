"""Cholesky factors, without asking the device whether there are any."""

import torch
from torch import Tensor


def cholesky(matrix: Tensor) -> Tensor:
    r"""The lower triangular $L$ with $LL^\top = A$, of which every entry is nan where $A$ is not positive definite.

    `torch.linalg.cholesky` raises an error there, for which the host waits for the device, and which no CUDA graph can have.

    Args:
        matrix: $A$, `(..., D, D)`.

    Examples:
        >>> cholesky(torch.tensor([[[4.0, 2.0], [2.0, 5.0]], [[1.0, 2.0], [2.0, 1.0]]]))
        tensor([[[2., 0.],
                 [1., 2.]],
        <BLANKLINE>
                [[nan, nan],
                 [nan, nan]]])
    """
    factor, info = torch.linalg.cholesky_ex(matrix)
    return factor.masked_fill((info != 0)[..., None, None], torch.nan)
