"""Several scales, each of which leaves half of the features to the next."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from pixyz.core import FormulaError, KindError, ShapeError

from ._bijection import Bijection, Mapped, Shape
from ._chain import Chain


class MultiScale(Chain):
    r"""Bijections one after another, each of which leaves only half of the features, or of the channels, to the next.

    $$(z_1, h_1) = f_1(x), \quad (z_2, h_2) = f_2(h_1), \quad \dots, \quad z_n = f_n(h_{n-1}), \qquad z = (z_1, \dots, z_n)$$

    The far side is one vector of all D numbers, which a single base can have. Of C channels, the first C // 2 are done, the others go on.

    Args:
        scales: f_1 to f_n; each takes what the one before it leaves.

    Raises:
        FormulaError: for no scales.
        KindError: for what is no bijection.
        ShapeError: for a scale that does not say its features, has a single channel to be halved, or does not fit the one before it.
        SupportError: for a scale whose domain is smaller than what comes.

    Source:
        Dinh et al. (2017), eq. 13 to 16, https://arxiv.org/abs/1605.08803

    Examples:
        >>> from pixyz.flows import ActNorm, Squeeze
        >>> f = MultiScale([Squeeze((1, 4, 4)) >> ActNorm((4, 2, 2)), Squeeze((2, 2, 2)) >> ActNorm((8, 1, 1))])
        >>> x = torch.randn(3, 1, 4, 4)
        >>> z, log_det = f.forward_and_log_det(x)
        >>> z.shape, torch.equal(f.inverse_and_log_det(z)[0], x)
        (torch.Size([3, 16]), True)
    """

    def __init__(self, scales: Iterable[Bijection]) -> None:
        scales = [*scales]
        if not scales:
            raise FormulaError("MultiScale takes at least one bijection; got none.")
        for i, f in enumerate(scales):
            if not isinstance(f, Bijection):
                raise KindError(f"MultiScale takes bijections; got a {type(f).__name__}.")
            if f.out_shape is None:
                raise ShapeError(f"MultiScale: scale {i}, {f.words}, takes any features; make its layers with a shape.")
        *before, last = scales
        flow = Chain([last, _Flatten(last.out_shape)])
        for f in reversed(before):
            flow = Chain([f, _Split(f.out_shape or (), flow)])
        super().__init__([flow])


class _Flatten(Bijection):
    """All numbers as one vector."""

    domain = codomain = None
    push_passes = pull_passes = 0

    def __init__(self, shape: Shape | None) -> None:
        super().__init__(shape, out_shape=math.prod(shape or ()))

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        return x.flatten(1), x.new_zeros(())

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        return y.reshape(y.shape[0], *(self.in_shape or ())), y.new_zeros(())


class _Split(Bijection):
    """The first half as it is, and what `rest` makes of the other, as one vector."""

    def __init__(self, shape: Shape, rest: Bijection) -> None:
        if shape[0] < 2:
            raise ShapeError(f"MultiScale: a single feature or channel has no half that could go on; a scale gives features {shape}.")
        super().__init__(shape, out_shape=math.prod(shape), context=rest.context)
        self.first = (shape[0] // 2, *shape[1:])
        remaining = (shape[0] - shape[0] // 2, *shape[1:])
        if rest.in_shape != remaining:
            raise ShapeError(
                f"MultiScale: a scale takes features {rest.in_shape}, but the half that the one before it leaves is {remaining}."
            )
        # All numbers are held to the domain of the rest; beyond it, the half that is done keeps what comes, so nothing is known.
        self.domain = rest.domain
        self.codomain = rest.codomain if rest.codomain == rest.domain else Bijection.codomain
        self.rest = rest
        self.push_passes, self.pull_passes = rest.push_passes, rest.pull_passes

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        done, other = x.tensor_split((self.first[0],), 1)
        z, log_det = self.rest.push(other, context)
        return torch.cat([done.flatten(1), z], 1), log_det

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        done, z = y.tensor_split((math.prod(self.first),), 1)
        other, log_det = self.rest.pull(z, context)
        return torch.cat([done.reshape(y.shape[0], *self.first), other], 1), log_det

    def start(self, x: Tensor, context: Tensor | None) -> None:
        self.rest.start(x[:, self.first[0] :], context)

    def start_back(self, y: Tensor, context: Tensor | None) -> None:
        self.rest.start_back(y[:, math.prod(self.first) :], context)

    def need_push(self, who: object) -> None:
        self.rest.need_push(who)

    def need_pull(self, who: object) -> None:
        self.rest.need_pull(who)
