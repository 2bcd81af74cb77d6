"""Features in another order."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pixyz.core import ShapeError

from ._bijection import Bijection, Mapped


class Permutation(Bijection):
    r"""The features of a vector, or the channels of an image, in another order: $y_i = x_{\pi(i)}$.

    The order is a buffer, so it is saved and loaded with the weights.

    Args:
        shape: the features.
        order: π, a list of all numbers from 0; random, if not given.
        seed: of the random order; torch's generator, if not given.

    Raises:
        ShapeError: for an order that is no permutation of the features.

    Examples:
        >>> Permutation(3, order=[2, 0, 1]).forward_and_log_det(torch.tensor([[10.0, 20.0, 30.0]]))[0]
        tensor([[30., 10., 20.]])
    """

    domain = codomain = None
    push_passes = pull_passes = 0
    order: Tensor

    def __init__(self, shape: int | Sequence[int], *, order: Sequence[int] | None = None, seed: int | None = None) -> None:
        super().__init__(shape)
        n = (self.in_shape or (0,))[0]
        if order is None:
            generator = None if seed is None else torch.Generator().manual_seed(seed)
            order = torch.randperm(n, generator=generator, device="cpu").tolist()
        if sorted(order) != list(range(n)):
            raise ShapeError(f"{type(self).__name__}: order must have each number from 0 to {n - 1} once; got {list(order)}.")
        self.register_buffer("order", torch.tensor(order))

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        return x.index_select(1, self.order), x.new_zeros(())

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        return torch.empty_like(y).index_copy(1, self.order, y), y.new_zeros(())


class Reverse(Bijection):
    """The features of a vector, or the channels of an image, from the last to the first.

    Args:
        shape: the features; any, if not given.

    Examples:
        >>> Reverse(3).forward_and_log_det(torch.tensor([[10.0, 20.0, 30.0]]))[0]
        tensor([[30., 20., 10.]])
    """

    domain = codomain = None
    push_passes = pull_passes = 0

    def __init__(self, shape: int | Sequence[int] | None = None) -> None:
        super().__init__(shape)

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        return x.flip(1), x.new_zeros(())

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        return y.flip(1), y.new_zeros(())
