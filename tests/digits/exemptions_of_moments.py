"""Exemptions of moments from the bar, each by name, with its reason and its figure."""

from typing import Any

from .bars import Exemption


def is_flat(p: Any) -> bool:
    """A shape far from 1, at which logarithms of gamma functions are large, or nearly equal."""
    return min(p.values()) < 2e-3 or max(p.values()) >= 300


def has_none(p: Any) -> bool:
    """A probability is 0, or so small that the sum of all is 1 all the same."""
    probs = p["probs"] if isinstance(p["probs"], tuple) else (p["probs"],)
    return min(probs) < 1e-20


FLAT = "the logarithm of a moment is a difference of logarithms of gamma functions at shapes far from 1; torch loses as much or more"
NONE = "at a probability of 0 the derivative is infinite, and 1 is what 0 log 0 = 0 leaves; of probabilities of sum 1 the sum is not taken"
RANK = "1 + WᵀD⁻¹W is too ill-conditioned for its Cholesky factor, or overflows; torch fails there as well"
ROUND = "the entropy of a nearly uniform direction is a difference of numbers near 1, and so is that of κ from 3 to 15, by 1 - I₁/I₀"

EXEMPTIONS_OF_MOMENTS: list[Exemption] = [
    *[Exemption("Kumaraswamy", q, n, is_flat, FLAT, "6e7") for q in ("mean", "variance") for n in ("value", "d/dconcentration1")],
    *[Exemption("Kumaraswamy", q, "d/dconcentration0", is_flat, FLAT, "3e3") for q in ("mean", "variance")],
    Exemption("Kumaraswamy", "entropy", "d/dconcentration1", is_flat, FLAT, "1e3"),
    Exemption(
        "Weibull",
        "mode",
        "d/dconcentration",
        lambda p: p["concentration"] == 1,
        "at k = 1 the mode leaves 0 with a slope on one side only; the derivative is that of the other side",
        "2e13",
    ),
    *[
        Exemption(f, "entropy", "d/dprobs", has_none, NONE, "4e15")
        for f in ("Bernoulli(probs)", "Categorical(probs)", "CategoricalIndex(probs)")
    ],
    *[Exemption(f, "entropy", "value", has_none, NONE, "2e13") for f in ("Categorical(probs)", "CategoricalIndex(probs)")],
    *[Exemption("LowRankMultivariateNormal", "entropy", n, lambda p: True, RANK, "inf") for n in ("value", "d/dcov_factor", "d/dcov_diag")],
    Exemption("PowerSpherical", "entropy", "d/dconcentration", lambda p: p["concentration"] < 1e-2, ROUND, "4e6"),
    Exemption("VonMises", "entropy", "d/dconcentration", lambda p: p["concentration"] < 30, ROUND, "4e6"),
]
