"""Exemptions from the bar, each by name, with its reason and its figure. One that no row needs fails a test."""

from collections.abc import Mapping
from typing import Any

from .bars import Exemption
from .exemptions_of_moments import EXEMPTIONS_OF_MOMENTS

Point = Mapping[str, Any]


def is_far(p: Point) -> bool:
    """A vector some 1e15 away from its mean."""
    return max(abs(a - b) for a, b in zip(p["x"], p["loc"])) > 1e15


def has_little_noise(p: Point, times: float = 1e6) -> bool:
    """The factors explain a million times as much as the noise."""
    return max(max(map(abs, row)) for row in p["cov_factor"]) ** 2 > times * min(p["cov_diag"])


def is_mixed(p: Point) -> bool:
    """Of the elements of a vector's distance from its mean, or of a matrix, some are a hundred times as great as others."""
    gaps = [abs(a - b) for a, b in zip(p["x"], p["loc"]) if a != b]
    diagonal = [row[i] for i, row in enumerate(p["precision_matrix"])]
    return any(max(v, default=1.0) > 100 * min(v, default=1.0) for v in (gaps, diagonal))


def is_decided(p: Point) -> bool:
    """One weight of a mixture is nearly 1."""
    top, second, *_ = sorted(p["logits"], reverse=True)
    return top - second > 8


LOW_RANK = "1 + WᵀD⁻¹W is too ill-conditioned for its Cholesky factor; torch fails there as well"
DECIDED = "the logarithm of a sum of shares has the digits of the sum, which is nearly that of one share, or nearly 1"

EXEMPTIONS: list[Exemption] = [
    Exemption(
        "Beta",
        "log-density",
        "d/dconcentration0",
        lambda p: p["concentration1"] < 1e-7,
        "where the other shape is below 1e-7, so is the derivative, a difference of numbers near 1; torch loses the same",
        "4e6",
    ),
    Exemption(
        "Geometric(logits)",
        "log-density",
        "d/dlogits",
        lambda p: p["x"] == 1 and abs(p["logits"]) < 1e-6,
        "the derivative of the mode vanishes at logits 0, and is a difference of 1/2 and 1/2 beside it; torch loses the same",
        "4e6",
    ),
    Exemption(
        "StudentT",
        "log-density",
        "d/ddf",
        lambda p: 4 < p["df"] < 40,
        "below the range of Stirling's series in float64 the derivative is a difference of digammas",
        "160",
        dtype="float64",
    ),
    *[
        Exemption("DiscretizedLogisticMixture(loc, scale, levels, logits)", "log-density", number, is_decided, DECIDED, "8e5")
        for number in ("value", "d/dloc", "d/dscale", "d/dlogits")
    ],
    *[
        Exemption(
            "RelaxedCategorical",
            "log-density",
            number,
            lambda p: p["temperature"] >= 1e4,
            "the scores -τ log x are rounded before their differences are taken",
            "110",
        )
        for number in ("d/dprobs", "d/dx")
    ],
    Exemption(
        "LowRankMultivariateNormal",
        "log-density",
        "d/dcov_factor",
        lambda p: has_little_noise(p, 1e4) and not has_little_noise(p),
        "products of the factor with Σ⁻¹ are differences",
        "130",
        dtype="float64",
    ),
    *[
        Exemption("LowRankMultivariateNormal", "log-density", number, has_little_noise, LOW_RANK, "all")
        for number in ("value", "d/dx", "d/dloc", "d/dcov_factor", "d/dcov_diag")
    ],
    Exemption(
        "LowRankMultivariateNormal",
        "log-density",
        "d/dcov_diag",
        lambda p: has_little_noise(p, 1e4) and not has_little_noise(p),
        "the diagonal of Σ⁻¹ is a difference of numbers as large as 1/d; torch loses a hundred times as much",
        "2e4",
    ),
    Exemption(
        "MultivariateNormal(loc, precision_matrix)",
        "log-density",
        "d/dprecision_matrix",
        is_mixed,
        "elements that are small beside others are lost in the products of matrices; torch loses the same",
        "all",
    ),
    Exemption(
        "MultivariateNormal(loc, covariance_matrix)",
        "log-density",
        "d/dcovariance_matrix",
        is_far,
        "beside elements that overflow the others are nan, by the products of matrices; torch has them so",
        "all",
    ),
    *EXEMPTIONS_OF_MOMENTS,
]
