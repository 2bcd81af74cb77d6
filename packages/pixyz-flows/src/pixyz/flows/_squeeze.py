"""Pixels as channels."""

from collections.abc import Sequence

from torch import Tensor

from pixyz.core import KindError, ShapeError, is_whole

from ._bijection import Bijection, Mapped


class Squeeze(Bijection):
    """Each square of factor × factor pixels as channels of one pixel: `(C, H, W)` becomes `(C factor², H / factor, W / factor)`.

    It moves numbers only, so its log-determinant is 0.

    Args:
        shape: `(C, H, W)`.
        factor: the side of a square.

    Raises:
        ShapeError: for what is no image, or an image of other sizes than multiples of the factor.
        KindError: for a factor that is no whole number of at least 1.

    Source:
        Dinh et al. (2017), section 3.6, https://arxiv.org/abs/1605.08803

    Examples:
        >>> import torch
        >>> f = Squeeze((1, 2, 2))
        >>> f.forward_and_log_det(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))[0].flatten(), f.out_shape
        (tensor([1., 2., 3., 4.]), (4, 1, 1))
    """

    domain = codomain = None
    push_passes = pull_passes = 0

    def __init__(self, shape: Sequence[int], *, factor: int = 2) -> None:
        if not is_whole(factor) or factor < 1:
            raise KindError(f"Squeeze: factor must be a positive whole number; got {factor!r}.")
        super().__init__(shape)
        features = self.in_shape or ()
        if len(features) != 3:
            raise ShapeError(f"Squeeze takes images (C, H, W); the features are {features}.")
        c, h, w = features
        if h % factor or w % factor:
            raise ShapeError(
                f"Squeeze: the height and the width must be divisible by {factor}; they are {h} and {w}. Pad or crop the images."
            )
        self.factor = factor
        self.out_shape = (c * factor**2, h // factor, w // factor)

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        # Not pixel_unshuffle, which gives a batch of 0 back as it is.
        f = self.factor
        squares = x.unflatten(3, (-1, f)).unflatten(2, (-1, f))
        return squares.permute(0, 1, 3, 5, 2, 4).flatten(1, 3), x.new_zeros(())

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        f = self.factor
        channels = y.unflatten(1, (-1, f, f))
        return channels.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3), y.new_zeros(())

    def extra_repr(self) -> str:
        """Its features, for `print`."""
        return f"{self.in_shape}, factor={self.factor}"
