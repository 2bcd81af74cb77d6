"""Planar and radial layers: a step along one direction, or away from one point."""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixyz.core import ShapeError

from ._bijection import Bijection, Mapped
from ._networks import Conditioner

AT_ZERO = math.log(math.e - 1)
"""softplus(AT_ZERO) = 1."""

LEAST = 1e-3
"""How far the slope stays above 0."""


class _Step(Bijection):
    """A layer of D-vectors whose parameters are a few vectors and numbers, to which a network of the context adds, if there is one."""

    def __init__(self, shape: int | Sequence[int], vectors: int, numbers: int, context: int, hidden: Iterable[int]) -> None:
        super().__init__(shape, context=context)
        features = self.in_shape or ()
        if len(features) != 1:
            raise ShapeError(f"{type(self).__name__} takes vectors (D,); the features are {features}.")
        self.dim = features[0]
        self.sizes = [self.dim] * vectors + [1] * numbers
        total = sum(self.sizes)
        self.params = nn.Parameter(torch.randn(total) / math.sqrt(self.dim))
        self.network = Conditioner((context,), 1, total, context=0, hidden=hidden, network=None) if context else None

    def _parts(self, context: Tensor | None) -> tuple[Tensor, ...]:
        params = self.params
        if self.network is not None:
            params = params + self.network(context, None).squeeze(1)
        return params.split(self.sizes, -1)


class Planar(_Step):
    r"""A step along u, as long as the place along w says. It has no inverse in closed form.

    $$y = x + \hat u \tanh(w^\top x + b), \qquad \log\left|\det\frac{\partial y}{\partial x}\right| =
    \log\left(1 + (1 - \tanh^2(w^\top x + b))\, w^\top \hat u\right)$$

    $\hat u$ is u moved along w until $w^\top \hat u > -1$, without which there would be no inverse. As nothing is known of it but that it
    is there, a `TransformedDistribution` draws, and scores what it has drawn; an `InverseTransformedDistribution` scores data.

    Args:
        shape: the features, D.
        context: how many features the context c has; with one, u, w and b depend on it.
        hidden: the sizes of the hidden layers of the network of the context.

    Raises:
        ShapeError: for what is no vector.

    Source:
        Rezende and Mohamed (2015), eq. 10 to 12 and appendix A.1, https://arxiv.org/abs/1505.05770

    Examples:
        >>> y, log_det = Planar(2).forward_and_log_det(torch.zeros(5, 2))
        >>> y.shape, log_det.shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    push_passes = 0
    pull_passes = None

    def __init__(self, shape: int | Sequence[int], *, context: int = 0, hidden: Iterable[int] = (64, 64)) -> None:
        super().__init__(shape, 2, 1, context, hidden)
        self.push_passes = int(context > 0)
        with torch.no_grad():
            self.params[: self.dim] *= 0.1  # u: near the identity

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        u, w, b = self._parts(context)
        along = (w * u).sum(-1, keepdim=True)
        least = LEAST + (1 - LEAST) * _softplus(along + AT_ZERO)
        u = u + (least - 1 - along) * w / w.square().sum(-1, keepdim=True).clamp_min(1e-12)
        along = (x * w).sum(-1, keepdim=True) + b
        place, steepness = torch.tanh(along), 4 * torch.sigmoid(2 * along) * torch.sigmoid(-2 * along)
        # 1 + (1 - tanh²)(least - 1) as a sum of positive terms: the differences would lose the digits of the least, and of 1 - tanh².
        return x + u * place, (place.square() + steepness * least).log().squeeze(-1)


class Radial(_Step):
    r"""A step away from a point, or towards it, the longer the nearer.

    $$y = x + \frac{\beta\,(x - x_0)}{\alpha + r}, \qquad r = |x - x_0|, \qquad \log\left|\det\frac{\partial y}{\partial x}\right| =
    (D - 1) \log\left(1 + \frac{\beta}{\alpha + r}\right) + \log\left(1 + \frac{\alpha\beta}{(\alpha + r)^2}\right)$$

    With $\alpha > 0$ and $\beta > -\alpha$ the length of $y - x_0$ grows with r, by a rule whose inverse is the root of a quadratic
    equation; so both directions are known.

    Args:
        shape: the features, D.
        context: how many features the context c has; with one, $x_0$, α and β depend on it.
        hidden: the sizes of the hidden layers of the network of the context.

    Raises:
        ShapeError: for what is no vector.

    Source:
        Rezende and Mohamed (2015), eq. 14 and appendix A.2, https://arxiv.org/abs/1505.05770

    Examples:
        >>> f = Radial(2)
        >>> x = torch.randn(5, 2)
        >>> y, _ = f.forward_and_log_det(x)
        >>> (f.inverse_and_log_det(y)[0] - x).abs().max() < 1e-5
        tensor(True)
    """

    def __init__(self, shape: int | Sequence[int], *, context: int = 0, hidden: Iterable[int] = (64, 64)) -> None:
        super().__init__(shape, 1, 2, context, hidden)
        self.push_passes = self.pull_passes = int(context > 0)
        with torch.no_grad():
            self.params[self.dim :] *= 0.1  # α near 1 and β near 0: near the identity

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        centre, alpha, beta, gamma = self._terms(context)
        away = x - centre
        r = torch.linalg.vector_norm(away, dim=-1, keepdim=True)
        return _stretched(x, centre, away, gamma + r, beta, alpha + r), self._log_det(r, alpha, gamma)

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        centre, alpha, beta, gamma = self._terms(context)
        away = y - centre
        length = torch.linalg.vector_norm(away, dim=-1, keepdim=True)
        # r² + b r - α |y - x₀| = 0; of both forms of the positive root, the one without cancellation.
        b = gamma - length
        root = (b.square() + 4 * alpha * length).sqrt()
        r = torch.where(b > 0, 2 * alpha * length / (root + b.abs()), (root - b) / 2)
        return _stretched(y, centre, away, alpha + r, -beta, gamma + r), -self._log_det(r, alpha, gamma)

    def _terms(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The centre, α, β, and γ = α + β > 0, whose digits the sum would lose where β is near -α."""
        centre, a, b = self._parts(context)
        alpha, longer = _softplus(a + AT_ZERO), _softplus(b + AT_ZERO)
        return centre, alpha, (1 - LEAST) * alpha * (longer - 1), alpha * (LEAST + (1 - LEAST) * longer)

    def _log_det(self, r: Tensor, alpha: Tensor, gamma: Tensor) -> Tensor:
        far = alpha + r
        along = (r * (r + 2 * alpha) + alpha * gamma) / far.square()
        return ((self.dim - 1) * ((gamma + r) / far).log() + along.log()).squeeze(-1)


def _stretched(t: Tensor, centre: Tensor, away: Tensor, to: Tensor, by: Tensor, of: Tensor) -> Tensor:
    """What is `away` from the centre, at to/of = 1 + by/of of that distance; counted from what is nearer, the centre or t."""
    ratio = to / of
    return torch.where(ratio < 0.5, torch.addcmul(centre, away, ratio), torch.addcmul(t, away, by / of))


def _softplus(t: Tensor) -> Tensor:
    """log(1 + e^t); torch's own is t above 20, which float64 tells apart."""
    return -F.logsigmoid(-t)
