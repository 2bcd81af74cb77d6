"""Families with a location and a scale, on the whole line."""

import math

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor

from ._family import Family, Params, Shape
from ._from_torch import TorchFamily
from ._special import half_digamma_gap, log_gamma_ratio
from ._supports import positive, real
from ._symmetric import Symmetric

EULER = 0.5772156649015329
_LOG_2 = math.log(2)


class Laplace(Symmetric):
    r"""The Laplace distribution, independent over the features.

    $$\log p(x) = -\frac{|x-\mu|}{\sigma} - \log 2\sigma$$

    Args:
        loc: the mean μ, `(*features)` or rank 0.
        scale: the scale σ > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("loc", "scale"),)
    supports = {"loc": real, "scale": positive}
    value_support = real

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        loc, scale = params["loc"], params["scale"]
        return -_LOG_2 - torch.addcdiv(scale.log(), (x - loc).abs(), scale)

    @staticmethod
    def rsample(params: Params, shape: Shape) -> Tensor:
        loc, scale = params["loc"], params["scale"]
        # Its sign is that of the draw, its size the probability of what lies nearer.
        u = torch.empty(shape, dtype=loc.dtype, device=loc.device).uniform_(torch.finfo(loc.dtype).eps - 1, 1)
        return torch.addcmul(loc, scale, u.abs().neg_().log1p_().copysign_(u))

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        z = (x - params["loc"]) / params["scale"]
        tail = 0.5 * (-z.abs()).exp()
        return torch.where(z < 0, tail, 1 - tail)

    @classmethod
    def between(cls, params: Params, lower: Tensor, upper: Tensor) -> Tensor:
        a, b = (lower - params["loc"]) / params["scale"], (upper - params["loc"]) / params["scale"]
        nearer = (-torch.minimum(a.abs(), b.abs())).exp() * torch.expm1((lower - upper) / params["scale"])
        return -0.5 * torch.where((a < 0) & (b > 0), torch.expm1(-a.abs()) + torch.expm1(-b.abs()), nearer)

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        tail = (2 * torch.minimum(u, 1 - u)).log()
        return params["loc"] + params["scale"] * (0.5 - u).sign() * tail

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        ratio, gap = p["scale"] / q["scale"], (p["loc"] - q["loc"]).abs()
        return gap / q["scale"] + ratio * (-gap / p["scale"]).exp() - ratio.log() - 1

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return 2 * params["scale"].square()

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return 1 + (2 * params["scale"]).log()


class Cauchy(Symmetric):
    r"""The Cauchy distribution, independent over the features. It has no mean and no variance.

    $$\log p(x) = -\log \pi\sigma - \log\left(1 + \left(\frac{x-\mu}{\sigma}\right)^2\right)$$

    Args:
        loc: the median μ, `(*features)` or rank 0.
        scale: the scale σ > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("loc", "scale"),)
    supports = {"loc": real, "scale": positive}
    value_support = real

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        loc, scale = params["loc"], params["scale"]
        z = (x - loc) / scale
        return -(math.pi * scale).log() - 2 * torch.hypot(torch.ones_like(z), z).log()

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return torch.atan2(params["scale"], params["loc"] - x) / math.pi

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        tail = torch.minimum(u, 1 - u)
        return params["loc"] + params["scale"] * (u - 0.5).sign() / torch.tan(math.pi * tail)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        total, gap = p["scale"] + q["scale"], p["loc"] - q["loc"]
        return ((total.square() + gap.square()) / (4 * p["scale"] * q["scale"])).log()

    mean_of = staticmethod(Family.mean_of)  # there is none

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return (4 * math.pi * params["scale"]).log()


class Logistic(Symmetric):
    r"""The logistic distribution, independent over the features.

    $$\log p(x) = -z - \log\sigma - 2\log(1 + e^{-z}), \qquad z = \frac{x-\mu}{\sigma}$$

    Args:
        loc: the mean μ, `(*features)` or rank 0.
        scale: the scale σ > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("loc", "scale"),)
    supports = {"loc": real, "scale": positive}
    value_support = real

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        z = (x - params["loc"]) / params["scale"]
        return F.logsigmoid(z) + F.logsigmoid(-z) - params["scale"].log()

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return ((x - params["loc"]) / params["scale"]).sigmoid()

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return params["loc"] + params["scale"] * u.logit()

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return params["scale"].square() * (math.pi**2 / 3)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return params["scale"].log() + 2


class Gumbel(Family):
    r"""The Gumbel distribution (of the maximum), independent over the features.

    $$\log p(x) = -z - e^{-z} - \log\sigma, \qquad z = \frac{x-\mu}{\sigma}$$

    Args:
        loc: the mode μ, `(*features)` or rank 0.
        scale: the scale σ > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("loc", "scale"),)
    supports = {"loc": real, "scale": positive}
    value_support = real

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        z = (x - params["loc"]) / params["scale"]
        return -z - (-z).exp() - params["scale"].log()

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return (-(-(x - params["loc"]) / params["scale"]).exp()).exp()

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return params["loc"] - params["scale"] * (-u.log()).log()

    @staticmethod
    def sf(params: Params, x: Tensor) -> Tensor:
        return -torch.expm1(-(-(x - params["loc"]) / params["scale"]).exp())

    @staticmethod
    def isf(params: Params, u: Tensor) -> Tensor:
        return params["loc"] - params["scale"] * (-torch.log1p(-u)).log()

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        ratio, gap = p["scale"] / q["scale"], (p["loc"] - q["loc"]) / q["scale"]
        return gap - ratio.log() + EULER * (ratio - 1) - 1 + (torch.lgamma(1 + ratio) - gap).exp()

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return params["loc"] + EULER * params["scale"]

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return params["loc"]

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return params["scale"].square() * (math.pi**2 / 6)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return params["scale"].log() + (EULER + 1)


class StudentT(TorchFamily):
    r"""Student's t distribution, independent over the features.

    $$\log p(x) = -\frac{\nu+1}{2}\log\left(1 + \frac{z^2}{\nu}\right) - \log\sigma - \tfrac{1}{2}\log\nu\pi
    + \log\Gamma\left(\tfrac{\nu+1}{2}\right) - \log\Gamma\left(\tfrac{\nu}{2}\right)$$

    Args:
        df: the degrees of freedom ν > 0, `(*features)` or rank 0.
        loc: the median μ.
        scale: the scale σ > 0.

    The other arguments are those of every family.
    """

    parametrisations = (("df", "loc", "scale"),)
    supports = {"df": positive, "loc": real, "scale": positive}
    value_support = real
    torch_class = td.StudentT

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        df, scale = params["df"], params["scale"]
        z = (x - params["loc"]) / scale
        return log_gamma_ratio(0.5 * df, 0.5) - 0.5 * (math.pi * df).log() - scale.log() - 0.5 * (df + 1) * torch.log1p(z.square() / df)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        half = 0.5 * params["df"]
        log_beta = 0.5 * math.log(math.pi) - log_gamma_ratio(half, 0.5)
        return (half + 0.5) * half_digamma_gap(half) + 0.5 * params["df"].log() + log_beta + params["scale"].log()
