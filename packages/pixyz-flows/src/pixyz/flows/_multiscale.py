"""Several scales, of which each leaves a part as it is."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pixyz.core import FormulaError, KindError, ShapeError

from ._bijection import Bijection, Mapped, Shape
from ._chain import check_fit, common_context, outer_supports, total_passes


class MultiScale(Bijection):
    r"""Bijections one after another, between which the first half of the features, or of the channels, is left out of what follows.

    $$(z_1, h_1) = f_1(x), \quad (z_2, h_2) = f_2(h_1), \quad \dots, \quad z_n = f_n(h_{n-1}), \qquad z = (z_1, \dots, z_n)$$

    The far side is one vector of all numbers, `(batch, D)`, which a single base can have. A half of C channels is C // 2.

    Args:
        scales: f_1 to f_n; each takes what is left over by the one before it.

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
        for f in scales:
            if not isinstance(f, Bijection):
                raise KindError(f"MultiScale takes bijections; got a {type(f).__name__}.")
        rests = [_rest(f) for f in scales[:-1]]
        for i, (f, rest) in enumerate(zip(scales[1:], rests), start=1):
            if f.in_shape != rest:
                raise ShapeError(f"MultiScale: scale {i}, {f.words}, takes features {f.in_shape}, but half of scale {i - 1} leaves {rest}.")
        shape, last = scales[0].in_shape, scales[-1].out_shape
        if shape is None or last is None:
            raise ShapeError("MultiScale: each scale must say its features; make the layers with a shape.")
        super().__init__(shape, out_shape=math.prod(shape), context=common_context(scales))
        self.domain, _ = outer_supports(scales)
        kinds = {f.codomain for f in scales}
        self.codomain = kinds.pop() if len(kinds) == 1 else Bijection.codomain
        self.push_passes = total_passes([f.push_passes for f in scales])
        self.pull_passes = total_passes([f.pull_passes for f in scales])
        self.ends = [(*rest, ) for rest in rests]
