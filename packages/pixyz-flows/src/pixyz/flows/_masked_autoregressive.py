"""Autoregressive layers: each feature, mapped by what those before it say."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixyz.core import KindError, ParameterError, call_network, is_whole

from ._bijection import Bijection, Mapped
from ._monotone import AffineMap, MonotoneMap
from ._networks import START, MakesActivation


class MaskedAutoregressive(Bijection):
    r"""Maps each feature with parameters that one masked network (MADE) makes of the features before it.

    $$y_i = g(x_i; \theta_i(x_1, \dots, x_{i-1}, c)), \qquad \log\left|\det\frac{\partial y}{\partial x}\right| = \sum_i \log g'(x_i;
    \theta_i)$$

    Forward costs one pass of the network. The inverse takes D steps, one after the other: as long as D small passes, though in each only
    those units are computed whose inputs have just become known. So from data to noise it is a masked autoregressive flow (MAF), which
    scores data fast and draws slowly; its `.inverse` is the inverse autoregressive flow (IAF), which draws fast, and scores fast what it
    has drawn itself. Where both must be fast, use a `Coupling`.

    Args:
        shape: the features: D, or any shape, whose numbers are taken row by row.
        map: g; an `AffineMap`, if not given.
        order: in which the features are taken: `"forward"`, `"reverse"`, or a list of all numbers from 0. It is saved with the weights.
        context: how many features the context c has.
        hidden: the sizes of the network's hidden layers.
        activation: makes what stands between the layers, which acts on each number for itself.

    Raises:
        ParameterError: for an order that is none.
        KindError: for what is no `MonotoneMap`, or no size.

    Source:
        Papamakarios et al. (2017), https://arxiv.org/abs/1705.07057; Kingma et al. (2016), https://arxiv.org/abs/1606.04934

    Examples:
        >>> from pixyz.flows import SplineMap
        >>> f = MaskedAutoregressive(4, map=SplineMap(), context=3)
        >>> x, c = torch.randn(5, 4), torch.randn(5, 3)
        >>> y, log_det = f.forward_and_log_det(x, c)
        >>> (f.inverse_and_log_det(y, c)[0] - x).abs().max() < 1e-5
        tensor(True)
        >>> f.push_passes, f.pull_passes
        (1, 4)
    """

    order: Tensor
    layers: nn.ModuleList

    def __init__(
        self,
        shape: int | Sequence[int],
        *,
        map: MonotoneMap | None = None,
        order: str | Sequence[int] = "forward",
        context: int = 0,
        hidden: Iterable[int] = (64, 64),
        activation: MakesActivation = nn.ReLU,
    ) -> None:
        super().__init__(shape, context=context)
        if map is not None and not isinstance(map, MonotoneMap):
            raise KindError(f"MaskedAutoregressive: map must be a MonotoneMap, like SplineMap(); got a {type(map).__name__}.")
        hidden = [*hidden] if isinstance(hidden, Iterable) else hidden
        if not isinstance(hidden, list) or not all([is_whole(n) and n > 0 for n in hidden]):
            raise KindError(f"MaskedAutoregressive: hidden must be a list of positive sizes, like [64, 64]; got {hidden!r}.")
        dim = torch.Size(self.in_shape or ()).numel()
        self.map = AffineMap() if map is None else map
        self.domain = self.codomain = self.map.domain
        self.dim = self.pull_passes = dim
        self.activation = activation()
        self.register_buffer("order", torch.tensor(_as_order(order, dim)))
        first = 0 if context else 1  # the least degree of a hidden unit, which is the last feature that it sees: 0 if only the context
        hidden = hidden if dim > first else []
        self.degrees = [_spread(n, first, dim - 1) for n in hidden]
        sizes = [context + self.map.views * dim, *hidden, dim * self.map.size]
        self.layers = nn.ModuleList([MaskedLinear(n, m) for n, m in pairwise(sizes)])
        with torch.no_grad():
            for weight in self.layers[-1].parameters():
                weight.mul_(START)
        self._set_masks()
        self.register_load_state_dict_post_hook(_follow_order)

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        flat = x.flatten(1) if x.ndim > 2 else x
        h = self.map.seen(flat)
        if context is not None:
            h = torch.cat([context, h], 1)
        y, log_slope = self.map.push(flat, call_network(self._network, h).unflatten(1, (self.dim, self.map.size)))
        return y.view_as(x), log_slope.sum(-1)

    def _network(self, h: Tensor) -> Tensor:
        """The parameters of every feature's map, `(batch, features * parameters)`."""
        *hidden, last = self.layers
        for layer in hidden:
            h = self.activation(layer(h))
        return last(h)

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        ordered = y.flatten(1).index_select(1, self.order)
        *hidden, last = self._rows()
        none = ordered[:, :0]
        # Of each layer, the units that depend on known features only; by degree, so that they are connected to all that are known before.
        known = [none if context is None else context] + [none] * len(hidden)
        xs, log_slopes = [], []
        for i in range(self.dim):
            for k, rows in enumerate(hidden):
                weight, bias = rows[i]
                if len(bias):
                    new = self.activation(call_network(F.linear, known[k], weight[:, : known[k].shape[1]], bias))
                    known[k + 1] = torch.cat([known[k + 1], new], 1)
            weight, bias = last[i]
            params = call_network(F.linear, known[-1], weight[:, : known[-1].shape[1]], bias)
            x, log_slope = self.map.pull(ordered[:, i : i + 1], params.unsqueeze(1))
            known[0] = torch.cat([known[0], self.map.seen(x)], 1)
            xs.append(x)
            log_slopes.append(log_slope)
        in_order = torch.cat(xs, 1)
        x = torch.empty_like(in_order).index_copy(1, self.order, in_order)
        return x.view_as(y), torch.cat(log_slopes, 1).sum(-1)

    def _rows(self) -> list[list[tuple[Tensor, Tensor]]]:
        """Of each layer weights and biases of the units of degree 0, of degree 1, and so on; the inputs in the order of the features."""
        layers = cast(list[MaskedLinear], [*self.layers])
        weights: list[Tensor] = [layer.weight for layer in layers]
        biases: list[Tensor] = [layer.bias for layer in layers]
        count: int = self.map.size
        outputs = (self.order.unsqueeze(-1) * count + torch.arange(count, device=self.order.device)).flatten()
        weights[-1], biases[-1] = weights[-1].index_select(0, outputs), biases[-1].index_select(0, outputs)
        views = self.order.unsqueeze(-1) + self.dim * torch.arange(self.map.views, device=self.order.device)
        inputs = torch.cat([torch.arange(self.context, device=self.order.device), self.context + views.flatten()])
        weights[0] = weights[0].index_select(1, inputs)
        sizes = [[degrees.count(i) for i in range(self.dim)] for degrees in self.degrees] + [[count] * self.dim]
        return [[*zip(w.split(n), b.split(n))] for w, b, n in zip(weights, biases, sizes)]

    @torch.no_grad()
    def _set_masks(self) -> None:
        rank = self.order.argsort() + 1
        inputs = torch.cat([rank.new_zeros(self.context), rank.repeat(self.map.views)])
        outputs = rank.repeat_interleave(self.map.size)
        degrees = [inputs, *[rank.new_tensor(d) for d in self.degrees], outputs - 1]
        for layer, (before, after) in zip(self.layers, pairwise(degrees)):
            cast(MaskedLinear, layer).mask.copy_(after.unsqueeze(-1) >= before)

    def extra_repr(self) -> str:
        """Its features, for `print`."""
        return f"{self.in_shape}"


class MaskedLinear(nn.Linear):
    """A linear layer whose weights are multiplied by a mask, which is not saved: 1 where there is a connection."""

    mask: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("mask", torch.ones_like(self.weight.detach()), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """`(N, outputs)` for `(N, inputs)`."""
        return F.linear(input, self.weight * self.mask, self.bias)


def _follow_order(f: MaskedAutoregressive, _: object) -> None:
    """After another order was loaded."""
    f._set_masks()


def _as_order(order: str | Sequence[int], dim: int) -> list[int]:
    if isinstance(order, str):
        if order not in ("forward", "reverse"):
            raise ParameterError(f'MaskedAutoregressive: order must be "forward", "reverse" or a list of numbers; got {order!r}.')
        return [*range(dim)] if order == "forward" else [*reversed(range(dim))]
    if sorted(order) != [*range(dim)]:
        raise ParameterError(f"MaskedAutoregressive: order must have each number from 0 to {dim - 1} once; got {[*order]}.")
    return [int(i) for i in order]


def _spread(n: int, first: int, last: int) -> list[int]:
    """n degrees from `first` to `last`, none less than the one before it, spread evenly; the last one is `last`."""
    return [first + -(-k * (last - first + 1) // n) - 1 for k in range(1, n + 1)]
