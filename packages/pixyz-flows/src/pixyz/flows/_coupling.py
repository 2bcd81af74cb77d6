"""Coupling layers: a part of the features, mapped by what the others say."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from pixyz.core import KindError, ParameterError, ShapeError

from ._bijection import Bijection, Mapped, Shape, sum_features
from ._monotone import AffineMap, MonotoneMap
from ._networks import Conditioner, MakesActivation, MakesNetwork


class Coupling(Bijection):
    r"""Maps some of the features, number by number, with parameters that a network makes of the others; both directions cost one pass.

    $$y_A = x_A, \qquad y_B = g(x_B; \theta(x_A, c)), \qquad \log\left|\det\frac{\partial y}{\partial x}\right| =
    \sum_{i \in B} \log g'(x_i; \theta_i)$$

    Args:
        shape: the features: D, `(D,)`, or `(C, H, W)` of an image.
        map: g; an `AffineMap`, if not given.
        mask: what A is: `"halves"`, the first half of a vector or of the channels; or `"checkerboard"`, every other number or pixel.
        swap: takes B for A.
        context: how many features the context c has.
        hidden: the sizes of the network's hidden layers; of vectors it is an MLP, of images it has convolutions.
        network: makes another network, from the numbers of its inputs and outputs; for images these are channels.
        activation: makes what stands between the layers of the network, if none is given.

    Raises:
        ShapeError: for a single feature, of which nothing is left to map.
        ParameterError: for another mask.
        KindError: for what is no `MonotoneMap`, or no size.

    Source:
        Dinh et al. (2017), section 3.4, https://arxiv.org/abs/1605.08803

    Examples:
        >>> f = Coupling(4, map=AffineMap(), context=3)
        >>> y, log_det = f.forward_and_log_det(torch.zeros(5, 4), torch.zeros(5, 3))
        >>> f.inverse_and_log_det(y, torch.zeros(5, 3))[0].abs().max() < 1e-6
        tensor(True)
    """

    kept_at: Tensor

    def __init__(
        self,
        shape: int | Sequence[int],
        *,
        map: MonotoneMap | None = None,
        mask: str = "halves",
        swap: bool = False,
        context: int = 0,
        hidden: Iterable[int] = (64, 64),
        network: MakesNetwork | None = None,
        activation: MakesActivation = nn.ReLU,
    ) -> None:
        super().__init__(shape, context=context)
        features: Shape = self.in_shape or (1,)
        if map is not None and not isinstance(map, MonotoneMap):
            raise KindError(f"Coupling: map must be a MonotoneMap, like SplineMap(); got a {type(map).__name__}.")
        if mask not in ("halves", "checkerboard"):
            raise ParameterError(f'Coupling: mask must be "halves" or "checkerboard"; got {mask!r}.')
        self.map = AffineMap() if map is None else map
        self.domain = self.codomain = self.map.domain
        self.mask, self.swap = mask, swap
        count, views = self.map.size, self.map.views
        if mask == "halves":
            if features[0] < 2:
                what = "feature" if len(features) == 1 else "channel"
                raise ShapeError(f"Coupling: with a single {what} there is no half that could map the other; features are {features}.")
            self.first = features[0] // 2
            kept = features[0] - self.first if swap else self.first
            seen, outputs = (views * kept, *features[1:]), features[0] - kept
        else:
            kept_at = _checkerboard(features, swap)
            if (kept_at if len(features) == 1 else kept_at[0]).numel() < 2:
                raise ShapeError(f"Coupling: a checkerboard needs at least two numbers or pixels; features are {features}.")
            self.register_buffer("kept_at", kept_at, persistent=False)
            seen, outputs = (views * features[0], *features[1:]), features[0]
        self.network = Conditioner(seen, outputs, count, context=context, hidden=hidden, network=network, activation=activation)

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        return self._apply_map(self.map.push, x, context)

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        return self._apply_map(self.map.pull, y, context)

    def _apply_map(self, map: Callable[[Tensor, Tensor], Mapped], x: Tensor, context: Tensor | None) -> Mapped:
        if self.mask == "checkerboard":
            kept = self.kept_at
            y, log_slope = map(x, self.network(self.map.seen(torch.where(kept, x, 0)), context))
            return torch.where(kept, x, y), sum_features(torch.where(kept, 0, log_slope))
        a, b = x.tensor_split((self.first,), 1)
        if self.swap:
            a, log_slope = map(a, self.network(self.map.seen(b), context))
        else:
            b, log_slope = map(b, self.network(self.map.seen(a), context))
        return torch.cat([a, b], 1), sum_features(log_slope)

    def extra_repr(self) -> str:
        """What it keeps, for `print`."""
        return f"{self.in_shape}, mask={self.mask!r}, swap={self.swap}"


def _checkerboard(features: Shape, swap: bool) -> Tensor:
    """Where the numbers of a vector or the pixels of an image, all channels alike, are kept."""
    axes = features if len(features) == 1 else features[1:]
    total = sum(torch.meshgrid(*[torch.arange(n) for n in axes], indexing="ij"))
    return torch.as_tensor(total % 2 == int(swap)).expand(features).clone()
