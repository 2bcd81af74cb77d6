"""The von Mises distribution."""

import math

import torch
import torch.distributions as td
from torch import Tensor

from ._bessel import log_i0_divergence, log_i0e, lost_length
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
        return -2 * kappa * torch.sin((x - params["loc"]) / 2).square() - math.log(2 * math.pi) - log_i0e(kappa)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        kappa, other = p["concentration"], q["concentration"]
        turned = 2 * torch.sin((p["loc"] - q["loc"]) / 2).square()
        return log_i0_divergence(kappa, other) + other * turned * (1 - lost_length(kappa))

    @staticmethod
    def draw(params: Params, shape: Shape) -> Tensor:
        return td.VonMises(params["loc"].expand(shape), params["concentration"].expand(shape), validate_args=False).sample()

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return params["loc"]

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        kappa = params["concentration"]
        return math.log(2 * math.pi) + log_i0e(kappa) + kappa * lost_length(kappa)
