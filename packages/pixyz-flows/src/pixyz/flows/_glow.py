"""Glow: images, at several scales."""

from collections.abc import Iterable, Sequence

from torch import nn

from pixyz.core import Distribution, KindError, ShapeError, is_whole

from ._actnorm import ActNorm
from ._bijection import Bijection, Shape, as_shape
from ._chain import Chain
from ._coupling import Coupling
from ._linear import InvertibleConv1x1
from ._multiscale import MultiScale
from ._networks import MakesActivation, MakesNetwork
from ._ready_made import need_transforms, standard_noise
from ._squeeze import Squeeze
from ._transformed import InverseTransformedDistribution


class Glow(InverseTransformedDistribution):
    r"""Images at several scales, by affine couplings of channels and invertible 1 × 1 convolutions; density and draws cost one pass each.

    Each level makes pixels to channels, `Squeeze`, and takes its steps, each of them `ActNorm >> InvertibleConv1x1 >> Coupling`. Then
    half of the channels, h, are noise, and the other half, r, goes on to the next level. Given r, h has a learnt mean and scale, which a
    last coupling makes of r:

    $$h \mid r \sim \mathcal N\left(\mu(r), \sigma(r)^2\right)$$

    The noise is one vector of all CHW numbers.

    Args:
        text: the distribution as papers write it, `"p(x|y)"`, in place of `var`, `cond_var` and `name`.
        features: `(C, H, W)`; H and W are multiples of 2 to the power of `levels`.
        levels: how many scales.
        transforms: how many steps each of them has.
        context: how many features the conditioning variables have together.
        hidden: the channels of the hidden layers of each network: 3 × 3 at both ends, 1 × 1 between.
        activation: makes what stands between their layers.
        network: makes another network, from the numbers of its channels, which keeps height and width.
        base: the distribution of the noise; the standard normal one, if not given.
        var: the variable.
        cond_var: the variables that it depends on.
        name: the letter before the brackets.

    Raises:
        ShapeError: for what is no image, or an image that cannot be halved so often.
        KindError: for numbers of levels or steps that are none.

    Examples:
        >>> p = Glow("p(x)", features=(1, 8, 8), levels=2, transforms=2, hidden=[8])
        >>> x = p.sample(batch_size=5)["x"]
        >>> x.shape, p.log_likelihood({"x": x}).shape
        (torch.Size([5, 1, 8, 8]), torch.Size([5]))

    Source:
        Kingma and Dhariwal (2018), https://arxiv.org/abs/1807.03039
    """

    distribution_name = "Glow"

    def __init__(
        self,
        text: str | None = None,
        /,
        *,
        features: Sequence[int],
        levels: int = 2,
        transforms: int = 8,
        context: int = 0,
        hidden: Sequence[int] = (64, 64),
        activation: MakesActivation = nn.ReLU,
        network: MakesNetwork | None = None,
        base: Distribution | None = None,
        var: Iterable[str] | None = None,
        cond_var: Iterable[str] | None = None,
        name: str | None = None,
    ) -> None:
        who = type(self).__name__
        need_transforms(who, transforms)
        shape = _image(who, features, levels)
        scales: list[Bijection] = []
        for level in range(levels):
            squeeze = Squeeze(shape)
            shape = squeeze.out_shape or shape
            layers: list[Bijection] = [squeeze]
            for _ in range(transforms):
                coupling = Coupling(shape, context=context, hidden=hidden, network=network, activation=activation)
                layers += [ActNorm(shape), InvertibleConv1x1(shape), coupling]
            if level < levels - 1:
                layers.append(Coupling(shape, swap=True, context=context, hidden=[]))
                shape = (shape[0] // 2, *shape[1:])
            scales.append(Chain(layers))
        flow = MultiScale(scales)
        super().__init__(standard_noise(base, flow.out_shape or ()), flow, text, var=var, cond_var=cond_var, name=name)


def _image(who: str, features: Sequence[int], levels: int) -> Shape:
    if not is_whole(levels) or levels < 1:
        raise KindError(f"{who}: levels must be a whole number of at least 1; got {levels!r}.")
    shape = as_shape(features, who) or ()
    if len(shape) != 3:
        raise ShapeError(f"{who} takes images (C, H, W); the features are {shape}. Use RealNVP or NSF for vectors.")
    if shape[1] % 2**levels or shape[2] % 2**levels:
        raise ShapeError(
            f"{who}: each of {levels} levels halves the height and the width, so they must be divisible by {2**levels}; "
            f"the features are {shape}. Pad the images, or take fewer levels."
        )
    return shape
