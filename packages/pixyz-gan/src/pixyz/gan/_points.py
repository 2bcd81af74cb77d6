"""Sets of points that are compared."""

import torch
from torch import Tensor

from pixyz.core import KindError, ShapeError, SupportError


def need_points(who: str, **sets: Tensor) -> list[Tensor]:
    """Two sets, `(N, D)` and `(M, D)`, without their gradients.

    Raises:
        KindError: for what is no tensor, or tensors of different kinds.
        ShapeError: for other shapes.
        SupportError: for numbers that are not finite.
    """
    for name, points in sets.items():
        if not isinstance(points, Tensor):
            raise KindError(f"{who}: {name} must be a tensor, (N, D); got a {type(points).__name__}.")
        if points.ndim != 2 or 0 in points.shape:
            raise ShapeError(
                f"{who}: {name} must be points in a space of features, (N, D); got {tuple(points.shape)}. Flatten them, or take features."
            )
        if not points.is_floating_point():
            raise KindError(f"{who}: {name} must be of a floating-point dtype; got {points.dtype}. Convert it with .float().")
        if not points.isfinite().all():
            raise SupportError(f"{who}: {name} has numbers that are not finite.")
    (one, x), (other, y) = sets.items()
    if x.shape[1] != y.shape[1]:
        raise ShapeError(f"{who}: {one} has {x.shape[1]} features, but {other} has {y.shape[1]}.")
    if x.device != y.device or x.dtype != y.dtype:
        raise KindError(f"{who}: {one} is {x.dtype} on {x.device}, but {other} is {y.dtype} on {y.device}. Convert one with .to().")
    return [x.detach(), y.detach()]


def distances(x: Tensor, y: Tensor) -> Tensor:
    """‖x-y‖ of all pairs, `(N, M)`; not by a product of matrices, which loses the digits of points that are far from 0."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
