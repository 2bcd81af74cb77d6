"""Rows of images on one canvas, as arrays: nothing here needs matplotlib."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pixyz.core import ShapeError

CHANNELS = (1, 3)


def as_images(x: Tensor, image_shape: Sequence[int] | None, who: str) -> Tensor:
    """`(N, height, width, channels)`, on the CPU.

    Args:
        x: `(N, *features)`.
        image_shape: `(height, width)` or `(channels, height, width)`; if None it is the features' shape, or a grey square.
        who: for the message.

    Raises:
        ShapeError: if that gives no image.
    """
    x = x.detach().cpu().float()
    features = tuple(x.shape[1:])
    shape = features if image_shape is None else tuple(image_shape)
    side = math.isqrt(math.prod(features))
    if image_shape is None and len(features) == 1 and side**2 == features[0]:
        shape = (side, side)
    shape = (1, *shape) if len(shape) == 2 else shape
    if len(shape) != 3 or shape[0] not in CHANNELS or math.prod(shape) != math.prod(features):
        told = "" if image_shape is None else f" and image_shape={tuple(image_shape)}"
        raise ShapeError(
            f"{who} has features {features}{told}, which are no images. Give image_shape=(height, width), or (3, height, width)."
        )
    return x.reshape(-1, *shape).movedim(1, -1)


def limits(x: Tensor) -> tuple[float, float]:
    """The values that are black and white: 0 and 1, unless there are others."""
    low, high = (x.min().item(), x.max().item()) if x.numel() else (0.0, 1.0)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def tiled(images: Tensor, columns: int) -> Tensor:
    """The images `(N, height, width, channels)` in rows, a white line between them, with an alpha channel: `(H, W, 2 or 4)`."""
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    canvas = torch.zeros(rows * columns, height + 1, width + 1, channels + 1)  # transparent where there is no image
    canvas[:n, :-1, :-1, :-1] = images
    canvas[:n, :-1, :-1, -1] = 1
    return canvas.unflatten(0, (rows, columns)).transpose(1, 2).flatten(0, 1).flatten(1, 2)[:-1, :-1]
