"""The normal distribution."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pixyz.core import normal_noise

from ._deviance import excess, normal_divergence
from ._family import Params
from ._supports import positive, real
from ._symmetric import Symmetric

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Normal(Symmetric):
    r"""The normal distribution, independent over the features.

    $$\log p(x) = -\tfrac{1}{2}\left(\frac{x-\mu}{\sigma}\right)^2 - \log\sigma - \tfrac{1}{2}\log 2\pi$$

    Args:
        loc: the mean μ, `(*features)` or rank 0.
        scale: the standard deviation σ > 0.

    The other arguments are those of every family.

    Examples:
        >>> print(Normal(var=["z"], loc=0.0, scale=1.0, dim=64, name="p_prior"))
        Distribution:
          p_prior(z) (Normal)
        Network architecture:
          Normal(loc=0, scale=1)
    """

    parametrisations = (("loc", "scale"),)
    supports = {"loc": real, "scale": positive}
    value_support = real

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        loc, scale = params["loc"], params["scale"]
        return -0.5 * ((x - loc) / scale).square() - scale.log() - _HALF_LOG_TWO_PI

    @staticmethod
    def rsample(params: Params, shape: tuple[int, ...]) -> Tensor:
        loc, scale = params["loc"], params["scale"]
        return torch.addcmul(loc, scale, normal_noise(shape, loc))

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        return normal_divergence(p["scale"], q["scale"], (p["loc"] - q["loc"]) / q["scale"])

    @staticmethod
    def renyi(p: Params, q: Params, alpha: float) -> Tensor:
        change, ratio = (p["scale"] - q["scale"]) / q["scale"], p["scale"] / q["scale"]
        # In units of q's scale. Where the scales are near to one another, neither logarithm is taken.
        near = change.abs() < 0.5
        variance = alpha + (1 - alpha) * ratio.square()
        infinite = variance <= 0
        variance = torch.where(infinite, 1.0, variance)
        gain = torch.where(near & ~infinite, change * (2 + change), 0.0)
        by_excess = 0.5 * (excess(gain, 1 + gain) - excess((1 - alpha) * gain, 1 + (1 - alpha) * gain) / (1 - alpha))
        by_logs = q["scale"].log() - p["scale"].log() - 0.5 / (alpha - 1) * variance.log()
        shift = (p["loc"] - q["loc"]) / q["scale"]
        value = torch.where(near, by_excess, by_logs) + 0.5 * alpha * (shift / variance) * shift
        return value.masked_fill(infinite, torch.inf)

    @staticmethod
    def squared_wasserstein(p: Params, q: Params) -> Tensor:
        return (p["loc"] - q["loc"]).square() + (p["scale"] - q["scale"]).square()

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return 0.5 * torch.erfc((params["loc"] - x) / (params["scale"] * math.sqrt(2)))  # torch's ndtr is 0 below -9

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return params["loc"] + params["scale"] * torch.special.ndtri(u)

    @staticmethod
    def whitener(params: Params, count: int) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        scale = params["scale"]
        scale = scale.expand(*scale.shape[: max(scale.ndim - 1, 0)], count)
        return lambda t: t / scale.unsqueeze(-1), -scale.log().sum(-1)

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return params["scale"].square()

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return params["scale"].log() + (0.5 + _HALF_LOG_TWO_PI)
