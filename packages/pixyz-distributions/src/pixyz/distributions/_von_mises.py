"""The von Mises distribution."""

import math

import torch
import torch.distributions as td
from torch import Tensor

from ._family import Family, Params, Shape
from ._supports import positive, real


class VonMises(Family):
    r"""The von Mises distribution of an angle in radians, independent over the features; values are taken modulo 2π, draws lie in [-π, π).

    $$\log p(x) = \kappa\cos(x-\mu) - \log 2\pi I_0(\kappa)$$

    Args:
        loc: the mean direction μ, `(*features)` or rank 0.
        concentration: κ > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("loc", "concentration"),)
    supports = {"loc": real, "concentration": positive}
    value_support = real

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        kappa = params["concentration"]
        return -2 * kappa * torch.sin((x - params["loc"]) / 2).square() - math.log(2 * math.pi) - torch.special.i0e(kappa).log()

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        kappa, other = p["concentration"], q["concentration"]
        logs = torch.special.i0e(other).log() - torch.special.i0e(kappa).log()
        turned = 2 * torch.sin((p["loc"] - q["loc"]) / 2).square()
        return logs + (other - kappa) * _lost_length(kappa) + other * turned * (1 - _lost_length(kappa))

    @staticmethod
    def draw(params: Params, shape: Shape) -> Tensor:
        return td.VonMises(params["loc"].expand(shape), params["concentration"].expand(shape), validate_args=False).sample()

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return params["loc"]

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        kappa = params["concentration"]
        return math.log(2 * math.pi) + torch.special.i0e(kappa).log() + kappa * _lost_length(kappa)


def _lost_length(kappa: Tensor) -> Tensor:
    """1 - I₁(κ)/I₀(κ), by its series where the ratio is near 1."""
    inverse = 1 / kappa.clamp_min(100)
    far = inverse / 2 + inverse.square() / 8 + inverse**3 / 8 + 25 * inverse**4 / 128 + 13 * inverse**5 / 32
    near = kappa.clamp_max(100)
    return torch.where(kappa > 100, far, 1 - torch.special.i1e(near) / torch.special.i0e(near))
