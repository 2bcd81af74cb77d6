"""Families on a grid of levels, as of pixels."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ._choice import unit_vector
from ._family import Family, Params, Shape, device_of_params, uniform_draw
from ._logs import log_weights, safe_log, times_log
from ._supports import levels, positive, positive_vectors, real, real_vectors, simplex, unit_levels


class _OnLevels(Family):
    """What both share: exact sums over the levels."""

    counts_to_parameters = True
    counted_by = "levels"

    @staticmethod
    def outcomes(event: Shape, params: Params, count: int) -> Tensor:
        return torch.linspace(0, 1, count, dtype=params["levels"].dtype if params else None, device=device_of_params(params))

    @staticmethod
    def restored(params: Params, x: Tensor, eps: float) -> Tensor:
        level = _rounded(x, params["levels"])
        return torch.where((x - level).abs() <= eps * level, level, x)

    @classmethod
    def at_levels(cls, params: Params) -> tuple[Tensor, Tensor]:
        """The levels, `(L,)`, and the log-probability of each, `(*features, L)`."""
        count = params["levels"]
        grid = torch.linspace(0, 1, int(count.max().item()), dtype=count.dtype, device=count.device)
        return grid, cls.log_density({k: v.unsqueeze(-1 - cls._event_ranks[k]) for k, v in params.items()}, grid)

    @classmethod
    def mean_of(cls, params: Params) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        grid, log_probs = cls.at_levels(params)
        return log_probs.exp() @ grid

    @classmethod
    def variance_of(cls, params: Params) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        grid, log_probs = cls.at_levels(params)
        probs = log_probs.exp()
        return (probs * (grid - (probs @ grid).unsqueeze(-1)).square()).sum(-1)

    @classmethod
    def mode_of(cls, params: Params) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        grid, log_probs = cls.at_levels(params)
        return grid[log_probs.argmax(-1)]

    @classmethod
    def entropy_of(cls, params: Params) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        _, log_probs = cls.at_levels(params)
        return -times_log(log_probs.exp(), log_probs).sum(-1)


class DiscretizedLogistic(_OnLevels):
    r"""The logistic distribution, rounded to levels in [0, 1].

    Its tails are on the outermost levels; it is independent over the features.

    $$p(x) = \sigma\left(\frac{x + \delta - \mu}{s}\right) - \sigma\left(\frac{x - \delta - \mu}{s}\right),
    \qquad \delta = \frac{1}{2(L-1)}$$

    Args:
        loc: the mean μ before rounding, `(*features)` or rank 0.
        scale: the scale s > 0 before rounding.
        levels: L, a whole number; the values are 0, 1/(L-1), ..., 1, so 17 for digits of 0 to 16, divided by 16.

    The other arguments are those of every family.

    Source:
        Kingma et al. (2016), https://arxiv.org/abs/1606.04934; Salimans et al. (2017), https://arxiv.org/abs/1701.05517
    """

    parametrisations = (("loc", "scale", "levels"),)
    supports = {"loc": real, "scale": positive, "levels": levels}
    value_support = unit_levels

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        return _log_bin(x, params["loc"], params["scale"], params["levels"])

    @staticmethod
    def draw(params: Params, shape: Shape) -> Tensor:
        return _rounded(params["loc"] + params["scale"] * uniform_draw(params, shape).logit(), params["levels"])


class DiscretizedLogisticMixture(_OnLevels):
    r"""A mixture of logistic distributions, rounded to levels in [0, 1]; independent over the features.

    $$p(x) = \sum_m \pi_m \left[\sigma\left(\frac{x + \delta - \mu_m}{s_m}\right)
    - \sigma\left(\frac{x - \delta - \mu_m}{s_m}\right)\right]$$

    Args:
        loc: the means before rounding, `(*features, M)`.
        scale: the scales before rounding, `(*features, M)`.
        levels: L, a whole number; the values are 0, 1/(L-1), ..., 1, so 17 for digits of 0 to 16, divided by 16.
        probs: the weights π, `(*features, M)`.
        logits: log π up to a constant, instead.

    The other arguments are those of every family.

    Source:
        Salimans et al. (2017), https://arxiv.org/abs/1701.05517
    """

    parametrisations = (("loc", "scale", "levels", "logits"), ("loc", "scale", "levels", "probs"))
    supports = {
        "loc": real_vectors,
        "scale": positive_vectors,
        "levels": levels,
        "probs": simplex,
        "logits": real_vectors,
    }
    value_support = unit_levels

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        log_bins = _log_bin(x.unsqueeze(-1), params["loc"], params["scale"], params["levels"].unsqueeze(-1))
        if "logits" in params:
            return (log_weights(params) + log_bins).logsumexp(-1)
        # The logarithm of the sum, and not of each: that of a weight of 0 has no derivative.
        probs = params["probs"]
        top = (log_bins.detach() + safe_log(probs.detach())).amax(-1, keepdim=True)
        top = torch.where(top.isneginf(), 0.0, top)
        sizes = (log_bins - top).clamp_max(math.log(torch.finfo(top.dtype).max) - 0.1).exp()  # so great only where the weight is 0
        return (probs * sizes).sum(-1).log() + top.squeeze(-1)

    @staticmethod
    def draw(params: Params, shape: Shape) -> Tensor:
        weights = log_weights(params)
        gumbels = -(-uniform_draw(params, (*shape, weights.shape[-1])).log()).log()
        chosen = unit_vector((weights + gumbels).argmax(-1), weights.shape[-1], weights.dtype)
        loc, scale = (params["loc"] * chosen).sum(-1), (params["scale"] * chosen).sum(-1)
        return _rounded(loc + scale * uniform_draw(params, shape).logit(), params["levels"])


def _log_bin(x: Tensor, loc: Tensor, scale: Tensor, levels: Tensor) -> Tensor:
    """log(σ(a) - σ(b)) = log σ(a) + log σ(-b) + log(1 - e^(b-a)) for the bin of x, whose outer sides are open; -inf off the levels."""
    half = 0.5 / (levels - 1)
    above, below = (x + half - loc) / scale, (x - half - loc) / scale
    lowest, highest = x < half, x > 1 - half
    log_bin = torch.where(highest, 0.0, F.logsigmoid(above)) + torch.where(lowest, 0.0, F.logsigmoid(-below))
    log_bin = log_bin + torch.where(lowest | highest, 0.0, (-torch.expm1(-2 * half / scale)).log())
    steps = x * (levels - 1)
    rounding = (torch.finfo(x.dtype).eps * (levels - 1)).clamp(1e-3, 0.25)  # of a value that was a quotient
    return torch.where((steps - steps.round()).abs() < rounding, log_bin, -torch.inf)


def _rounded(x: Tensor, levels: Tensor) -> Tensor:
    return (x.clamp(0, 1) * (levels - 1)).round() / (levels - 1)
