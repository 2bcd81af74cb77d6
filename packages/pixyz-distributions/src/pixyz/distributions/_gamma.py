"""The gamma distribution, its simplest case and its inverse."""

import torch
import torch.distributions as td
from torch import Tensor

from ._family import Family, Params
from ._from_torch import TorchFamily
from ._supports import non_negative, positive


class Exponential(Family):
    r"""The exponential distribution, independent over the features.

    $$\log p(x) = \log\lambda - \lambda x$$

    Args:
        rate: λ > 0, `(*features)` or rank 0.
        scale: 1/λ, instead.

    The other arguments are those of every family.
    """

    parametrisations = (("rate",), ("scale",))
    supports = {"rate": positive, "scale": positive}
    value_support = non_negative

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        rate = _rate(params)
        return rate.log() - rate * x

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        return -torch.expm1(-_rate(params) * x)

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return -torch.log1p(-u) / _rate(params)

    @staticmethod
    def sf(params: Params, x: Tensor) -> Tensor:
        return (-_rate(params) * x).exp()

    @staticmethod
    def isf(params: Params, u: Tensor) -> Tensor:
        return -u.log() / _rate(params)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        ratio = _rate(q) / _rate(p)
        return ratio - 1 - ratio.log()

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return 1 / _rate(params)

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return torch.zeros_like(_rate(params))

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return 1 / _rate(params).square()

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return 1 - _rate(params).log()


class Gamma(TorchFamily):
    r"""The gamma distribution, independent over the features.

    $$\log p(x) = \alpha\log\beta + (\alpha-1)\log x - \beta x - \log\Gamma(\alpha)$$

    Args:
        concentration: the shape α > 0, `(*features)` or rank 0.
        rate: β > 0.
        scale: 1/β, instead of the rate.

    The other arguments are those of every family.
    """

    parametrisations = (("concentration", "rate"), ("concentration", "scale"))
    supports = {"concentration": positive, "rate": positive, "scale": positive}
    value_support = non_negative
    rims = {0.0: lambda params: params["concentration"] - 1}
    torch_class = td.Gamma

    @staticmethod
    def arguments(params: Params) -> Params:
        return {"concentration": params["concentration"], "rate": _rate(params)}

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        concentration, rate = params["concentration"], _rate(params)
        return concentration * rate.log() + (concentration - 1) * x.log() - rate * x - torch.lgamma(concentration)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        a, b, log_ratio = p["concentration"], q["concentration"], (_rate(p) / _rate(q)).log()
        gammas = torch.lgamma(b) - torch.lgamma(a) + (a - b) * torch.digamma(a)
        return b * log_ratio + gammas + a * (_rate(q) / _rate(p) - 1)


class InverseGamma(TorchFamily):
    r"""The inverse gamma distribution: 1/x is gamma; independent over the features.

    $$\log p(x) = \alpha\log\beta - (\alpha+1)\log x - \frac{\beta}{x} - \log\Gamma(\alpha)$$

    Args:
        concentration: the shape α > 0, `(*features)` or rank 0.
        rate: β > 0, the rate of 1/x.

    The other arguments are those of every family.
    """

    parametrisations = (("concentration", "rate"),)
    supports = {"concentration": positive, "rate": positive}
    value_support = positive
    torch_class = td.InverseGamma

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        concentration, rate = params["concentration"], params["rate"]
        return concentration * rate.log() - (concentration + 1) * x.log() - rate / x - torch.lgamma(concentration)

    kl = staticmethod(Gamma.kl)


def _rate(params: Params) -> Tensor:
    return params["rate"] if "rate" in params else 1 / params["scale"]
