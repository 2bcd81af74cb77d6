"""The gamma distribution, its simplest case and its inverse."""

import torch
import torch.distributions as td
from torch import Tensor

from ._deviance import deviance, excess, scale_divergence
from ._family import Family, Params
from ._from_torch import TorchFamily
from ._logs import not_exp
from ._special import digamma, gamma_entropy, log_factorial_excess, log_gamma_divergence
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
        if "scale" in params:
            return -params["scale"].log() - _in_units(params, x)
        return params["rate"].log() - _in_units(params, x)

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        certain = _in_units(params, x).detach() > 800
        return torch.where(certain, 1.0, not_exp(_in_units(params, torch.where(certain, 0.0, x))))

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        return _scaled(params, -torch.log1p(-u))

    @staticmethod
    def sf(params: Params, x: Tensor) -> Tensor:
        return (-_in_units(params, x)).exp()

    @staticmethod
    def isf(params: Params, u: Tensor) -> Tensor:
        return _scaled(params, -u.log())

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        if "scale" in p and "scale" in q:
            return scale_divergence(p["scale"], q["scale"])
        if "rate" in p and "rate" in q:
            return scale_divergence(q["rate"], p["rate"])
        return excess(*_change(p, q))

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return params["scale"] if "scale" in params else 1 / params["rate"]

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return torch.zeros_like(next(iter(params.values())))

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return Exponential.mean_of(params).square()

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return 1 + params["scale"].log() if "scale" in params else 1 - params["rate"].log()


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
        log_x, log_rate = x.log(), _log_rate(params)
        return _log_unit(params["concentration"], _in_units(params, x), log_x + log_rate, log_rate, log_x)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        a, b = p["concentration"], q["concentration"]
        change, ratio = _change(p, q)
        gap, most = b - a, torch.finfo(a.dtype).max / 2
        expected, moved = (a * ratio).clamp_max(most), a * change
        # By the changes of both parameters, or by the sides, whichever are smaller.
        apart = torch.where(gap.abs() + moved.abs() < b + expected, gap - moved, b - expected)
        return deviance(b, expected, apart, a.log() + (_log_rate(q) - _log_rate(p))) + log_gamma_divergence(a, b, gap)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return _scaled(params, params["concentration"])

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return _scaled(params, (params["concentration"] - 1).clamp_min(0))

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        if "scale" in params:
            return params["concentration"] * params["scale"] * params["scale"]
        return params["concentration"] / params["rate"] / params["rate"]

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return gamma_entropy(params["concentration"]) + digamma(params["concentration"]) - _log_rate(params)


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
        log_x = x.log()
        log_y = params["rate"].log() - log_x
        return _log_unit(params["concentration"], params["rate"] / x, log_y, log_y - log_x, log_x)

    kl = staticmethod(Gamma.kl)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        """Infinite up to α = 1."""
        concentration, rate = params["concentration"], params["rate"]
        return torch.where(concentration > 1, rate / torch.where(concentration > 1, concentration - 1, 1.0), torch.inf)

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        """Infinite up to α = 2."""
        concentration, rate = params["concentration"], params["rate"]
        known = torch.where(concentration > 2, concentration, 3.0)
        mean = rate / (known - 1)
        return torch.where(concentration > 2, mean / (known - 2) * mean, torch.inf)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        return gamma_entropy(params["concentration"]) - digamma(params["concentration"]) + params["rate"].log()


def _change(p: Params, q: Params) -> tuple[Tensor, Tensor]:
    """By how much q's rate is greater than p's, over p's, and the ratio of both."""
    if "scale" in p and "scale" in q:
        return (p["scale"] - q["scale"]) / q["scale"], p["scale"] / q["scale"]
    if "rate" in p and "rate" in q:
        return (q["rate"] - p["rate"]) / p["rate"], q["rate"] / p["rate"]
    ratio = p["scale"] * q["rate"] if "scale" in p else 1 / (p["rate"] * q["scale"])
    return ratio - 1, ratio


def _log_unit(a: Tensor, y: Tensor, log_y: Tensor, log_ratio: Tensor, log_x: Tensor) -> Tensor:
    """log of y^a e^-y / Γ(a)x; `log_ratio` is log y/x. At a = 1 there is no power of y."""
    above, y = a >= 1, y.clamp_max(torch.finfo(y.dtype).max)
    power = torch.where(above, a - 1, a)
    return torch.where(above, log_ratio, a.log() - log_x) - log_factorial_excess(power) - deviance(power, y, power - y, log_y)


def _in_units(params: Params, x: Tensor) -> Tensor:
    """x in units of the scale."""
    return x / params["scale"] if "scale" in params else params["rate"] * x


def _scaled(params: Params, y: Tensor) -> Tensor:
    """y times the scale."""
    return params["scale"] * y if "scale" in params else y / params["rate"]


def _log_rate(params: Params) -> Tensor:
    return -params["scale"].log() if "scale" in params else params["rate"].log()


def _rate(params: Params) -> Tensor:
    return params["rate"] if "rate" in params else 1 / params["scale"]
