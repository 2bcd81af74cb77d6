"""The networks that layers have, where none is given."""

from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn

from pixyz.core import KindError, ShapeError, call_network, is_whole

from ._bijection import Shape

MakesNetwork = Callable[[int, int], nn.Module]
"""Makes a network of so many inputs and outputs: features of vectors, or channels of images."""

MakesActivation = Callable[[], nn.Module]
"""Makes what stands between the layers of a network: `nn.ELU`, or a function that gives an activation followed by dropout."""

START = 1e-2
"""By how much the last layer's weights are scaled: a layer starts near the identity, and still every weight has a gradient."""


class Conditioner(nn.Module):
    """A network of a part of x and the context, that gives `count` parameters for each of `outputs` features or channels.

    Args:
        shape: the features of what goes in; a vector's `(D,)`, or an image's `(C, H, W)`, of which C channels go in.
        outputs: how many features or channels have parameters.
        count: how many each of them has.
        context: how many features the context has. It stands behind those of a vector, or as constant channels behind those of an image.
        hidden: the sizes of the hidden layers.
        network: makes another network, from the numbers of inputs and outputs.
        activation: makes what stands between its layers.

    Raises:
        KindError: for hidden sizes that are none.
        ShapeError: for features of another rank.
    """

    def __init__(
        self,
        shape: Shape,
        outputs: int,
        count: int,
        *,
        context: int,
        hidden: Iterable[int],
        network: MakesNetwork | None,
        activation: MakesActivation = nn.ReLU,
    ) -> None:
        super().__init__()
        if len(shape) not in (1, 3):
            raise ShapeError(f"A network takes vectors (D,) or images (C, H, W); these features have {len(shape)} dims. Flatten them.")
        inner = list(hidden) if isinstance(hidden, Iterable) else [hidden]
        if not isinstance(hidden, Iterable) or not all([is_whole(n) and n > 0 for n in inner]):
            raise KindError(f"hidden must be a list of positive sizes, like [64, 64]; got {hidden!r}.")
        sizes = [shape[0] + context, *inner, outputs * count]
        self.is_image = len(shape) == 3
        self.parts = (outputs, count)
        if network is None:
            self.net = _convolutions(sizes, activation) if self.is_image else _mlp(sizes, activation)
        else:
            self.net = network(sizes[0], sizes[-1])
            if not isinstance(self.net, nn.Module):
                raise KindError(f"network must make an nn.Module; it made a {type(self.net).__name__}.")

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """The parameters, `(batch, outputs, count)` or `(batch, outputs, H, W, count)`."""
        if context is not None:
            x = torch.cat([x, context[..., None, None].expand(*context.shape, *x.shape[2:]) if self.is_image else context], 1)
        params = call_network(self.net, x)
        params = params.view(params.shape[0], *self.parts, *params.shape[2:])
        return params.movedim(2, -1) if self.is_image else params


def _mlp(sizes: list[int], activation: MakesActivation) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m), activation()]
    return near_zero(nn.Sequential(*layers[:-1]))


def _convolutions(sizes: list[int], activation: MakesActivation) -> nn.Sequential:
    """3 × 3 at both ends, 1 × 1 between."""
    layers: list[nn.Module] = []
    last = len(sizes) - 2
    for i, (n, m) in enumerate(pairwise(sizes)):
        wide = i in (0, last)
        layers += [nn.Conv2d(n, m, 3 if wide else 1, padding=1 if wide else 0), activation()]
    return near_zero(nn.Sequential(*layers[:-1]))


@torch.no_grad()
def near_zero(net: nn.Sequential) -> nn.Sequential:
    """The network with its last layer's weights made small, so that what it gives is near 0."""
    for weight in net[-1].parameters():
        weight.mul_(START)
    return net
