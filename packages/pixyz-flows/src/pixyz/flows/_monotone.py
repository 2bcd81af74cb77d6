"""Maps of single numbers, whose parameters a network gives: what couplings and autoregressive layers are made of."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pixyz.core import KindError
from pixyz.distributions import Support

from ._bijection import Mapped, real


class MonotoneMap(nn.Module):
    """A map of numbers that grows everywhere, given by `size` parameters; with all of them 0 it is the identity, or near it.

    It has no weights of its own. A subclass writes `push` and `pull`, both differentiable in the value and in the parameters.

    Attributes:
        size: how many parameters one number has.
        domain: where numbers lie before and after it.
        views: as how many numbers a network sees one.
    """

    size: int
    domain: Support = real
    views: int = 1
    rates: Tensor
    one: Tensor

    @abstractmethod
    def push(self, x: Tensor, params: Tensor) -> Mapped:
        """y and log dy/dx, both of the shape of x, for parameters `(*x.shape, size)`."""

    @abstractmethod
    def pull(self, y: Tensor, params: Tensor) -> Mapped:
        """The x of this y, and log dx/dy, likewise."""

    def seen(self, x: Tensor) -> Tensor:
        """What a network sees of numbers `(batch, n, ...)`: `(batch, views * n, ...)`, one view of all of them after the other."""
        return x


class ShiftMap(MonotoneMap):
    """y = x + t, which keeps volumes: the additive coupling.

    Source:
        Dinh et al. (2015), https://arxiv.org/abs/1410.8516

    Examples:
        >>> ShiftMap().push(torch.zeros(2), torch.tensor([[1.0], [2.0]]))[0]
        tensor([1., 2.])
    """

    size = 1

    def push(self, x: Tensor, params: Tensor) -> Mapped:
        return x + params.squeeze(-1), torch.zeros_like(x)

    def pull(self, y: Tensor, params: Tensor) -> Mapped:
        return y - params.squeeze(-1), torch.zeros_like(y)


class AffineMap(MonotoneMap):
    r"""The affine map, whose scale is kept between `smallest` and its reciprocal.

    $$y = e^s x + t, \qquad s = b \tanh(a / b), \quad b = -\log \mathrm{smallest}$$

    The parameters are t and a.

    Args:
        smallest: the least that a number can be scaled by, in (0, 1).

    Raises:
        KindError: for another `smallest`.

    Source:
        Dinh et al. (2017), https://arxiv.org/abs/1605.08803

    Examples:
        >>> y, log_det = AffineMap().push(torch.ones(1), torch.tensor([[2.0, 0.0]]))
        >>> y, log_det
        (tensor([3.]), tensor([0.]))
    """

    size = 2

    def __init__(self, smallest: float = 1e-3) -> None:
        super().__init__()
        need_smallest(smallest, "AffineMap")
        self.bound = -math.log(smallest)

    def push(self, x: Tensor, params: Tensor) -> Mapped:
        shift, log_scale = self._parts(params, self.bound)
        return torch.addcmul(shift, x, log_scale.exp()), log_scale

    def pull(self, y: Tensor, params: Tensor) -> Mapped:
        shift, log_scale = self._parts(params, -self.bound)
        return (y - shift) * log_scale.exp(), log_scale

    def _parts(self, params: Tensor, bound: float) -> tuple[Tensor, Tensor]:
        """The shift, and s; -s for minus the bound."""
        shift, a = params.unbind(-1)
        return shift, (a * (1 / self.bound)).tanh() * bound


def need_smallest(smallest: float, who: str) -> None:
    """Raises an error unless it is a slope below 1."""
    if not 0 < smallest < 1:
        raise KindError(f"{who}: smallest is the least slope, between 0 and 1, such as 1e-3; got {smallest!r}.")


def bound_by(map: MonotoneMap, rates: Sequence[float]) -> None:
    """Keeps, as buffers that are not saved, what `soft_bounded` needs: for each parameter the reciprocal of its bound."""
    map.register_buffer("rates", torch.tensor(rates[0] if len(rates) == 1 else rates), persistent=False)
    map.register_buffer("one", torch.ones(()), persistent=False)


def soft_bounded(map: MonotoneMap, a: Tensor) -> Tensor:
    """a/(1 + |a|·rate), which lies between ±1/rate."""
    return a / torch.addcmul(map.one, a.abs(), map.rates)
