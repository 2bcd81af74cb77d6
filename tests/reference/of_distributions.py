# ruff: noqa: E501
"""Rows of pixyz.distributions: of every family in every parametrisation its log-density, draws, entropy and a divergence."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import pixyz.distributions as d
from pixyz.core import Loss
from pixyz.losses import Entropy, Expectation, KullbackLeibler

from .row import Row, differentiated, free

PROBS = [0.2, 0.7, 0.1]
OTHERS = [0.3, 0.3, 0.4]
TRIL = [[1.4, 0.0], [0.4, 0.9]]
TRIL2 = [[0.9, 0.0], [-0.3, 1.3]]
COVARIANCE = [[2.0, 0.6], [0.6, 1.0]]
COVARIANCE2 = [[0.9, 0.2], [0.2, 1.3]]
REAL, POSITIVE, UNIT = [-1.2, 0.3, 2.1], [0.4, 1.1, 2.6], [0.15, 0.5, 0.85]
COUNTS, BITS, ABOVE = [0.0, 2.0, 5.0], [0.0, 1.0, 1.0], [2.2, 3.0, 5.5]
ONE_HOT, SIMPLEX = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]
TRIALS, PLANE = [[1.0, 3.0, 1.0], [5.0, 0.0, 0.0], [0.0, 2.0, 3.0]], [[0.5, -0.4], [1.5, 0.2], [-1.0, 0.9]]
CIRCLE, SPHERE = [[1.0, 0.0], [0.6, 0.8], [-0.8, 0.6]], [[1.0, 0.0, 0.0], [0.48, 0.6, 0.64], [0.0, -0.6, 0.8]]
LEVELS, LEVELS5 = [0.0, 0.375, 1.0], [0.0, 0.5, 1.0]

# family, its parameters, those of another member of the family, values
FAMILIES: dict[str, tuple[type[d.Family], dict[str, Any], dict[str, Any], list[Any]]] = {
    "Normal": (d.Normal, {"loc": 0.5, "scale": 2.0}, {"loc": -0.3, "scale": 1.2}, REAL),
    "LogNormal": (d.LogNormal, {"loc": 0.3, "scale": 0.7}, {"loc": -0.3, "scale": 1.2}, POSITIVE),
    "Laplace": (d.Laplace, {"loc": 0.5, "scale": 2.0}, {"loc": -0.3, "scale": 1.2}, REAL),
    "StudentT": (d.StudentT, {"df": 5.0, "loc": 0.5, "scale": 2.0}, {"df": 7.0, "loc": -0.3, "scale": 1.2}, REAL),
    "Cauchy": (d.Cauchy, {"loc": 0.5, "scale": 2.0}, {"loc": -0.3, "scale": 1.2}, REAL),
    "Logistic": (d.Logistic, {"loc": 0.5, "scale": 2.0}, {"loc": -0.3, "scale": 1.2}, REAL),
    "Gumbel": (d.Gumbel, {"loc": 0.5, "scale": 2.0}, {"loc": -0.3, "scale": 2.8}, REAL),
    "Uniform": (d.Uniform, {"low": -1.5, "high": 2.5}, {"low": -2.5, "high": 4.0}, REAL),
    "Exponential(rate)": (d.Exponential, {"rate": 2.0}, {"scale": 0.9}, POSITIVE),
    "Exponential(scale)": (d.Exponential, {"scale": 0.5}, {"rate": 3.0}, POSITIVE),
    "Gamma(rate)": (d.Gamma, {"concentration": 2.5, "rate": 2.0}, {"concentration": 1.7, "scale": 0.3}, POSITIVE),
    "Gamma(scale)": (d.Gamma, {"concentration": 0.6, "scale": 0.5}, {"concentration": 1.7, "rate": 3.0}, POSITIVE),
    "InverseGamma": (d.InverseGamma, {"concentration": 4.5, "rate": 2.0}, {"concentration": 3.5, "rate": 3.0}, POSITIVE),
    "Beta": (d.Beta, {"concentration1": 2.5, "concentration0": 1.5}, {"concentration1": 1.2, "concentration0": 3.5}, UNIT),
    "Kumaraswamy": (d.Kumaraswamy, {"concentration1": 2.5, "concentration0": 1.5}, {"concentration1": 1.2, "concentration0": 3.5}, UNIT),
    "HalfNormal": (d.HalfNormal, {"scale": 2.0}, {"scale": 1.2}, POSITIVE),
    "VonMises": (d.VonMises, {"loc": 0.5, "concentration": 2.0}, {"loc": -0.7, "concentration": 0.8}, REAL),
    "Weibull": (d.Weibull, {"scale": 2.0, "concentration": 1.5}, {"scale": 1.4, "concentration": 2.1}, POSITIVE),
    "Pareto": (d.Pareto, {"scale": 2.0, "alpha": 5.5}, {"scale": 1.4, "alpha": 3.1}, ABOVE),
    "Poisson": (d.Poisson, {"rate": 2.5}, {"rate": 4.0}, COUNTS),
    "Geometric(probs)": (d.Geometric, {"probs": 0.4}, {"logits": 0.7}, COUNTS),
    "Geometric(logits)": (d.Geometric, {"logits": -0.4}, {"probs": 0.6}, COUNTS),
    "Binomial(probs)": (d.Binomial, {"total_count": 7, "probs": 0.4}, {"total_count": 7, "logits": 0.7}, COUNTS),
    "Binomial(logits)": (d.Binomial, {"total_count": 7, "logits": -0.4}, {"total_count": 7, "probs": 0.6}, COUNTS),
    "NegativeBinomial(probs)": (d.NegativeBinomial, {"total_count": 3.5, "probs": 0.4}, {"total_count": 3.5, "logits": 0.7}, COUNTS),
    "NegativeBinomial(logits)": (d.NegativeBinomial, {"total_count": 3.5, "logits": -0.4}, {"total_count": 3.5, "probs": 0.6}, COUNTS),
    "Bernoulli(probs)": (d.Bernoulli, {"probs": 0.3}, {"logits": 0.7}, BITS),
    "Bernoulli(logits)": (d.Bernoulli, {"logits": -0.4}, {"probs": 0.6}, BITS),
    "ContinuousBernoulli(probs)": (d.ContinuousBernoulli, {"probs": 0.3}, {"logits": 0.7}, UNIT),
    "ContinuousBernoulli(logits)": (d.ContinuousBernoulli, {"logits": 4.0}, {"probs": 0.6}, UNIT),
    "ContinuousBernoulli(near one half)": (d.ContinuousBernoulli, {"logits": 0.03}, {"logits": -0.02}, UNIT),
    "Categorical(probs)": (d.Categorical, {"probs": PROBS}, {"logits": [0.1, -1.0, 2.0]}, ONE_HOT),
    "Categorical(logits)": (d.Categorical, {"logits": [0.4, 1.6, -0.3]}, {"probs": OTHERS}, ONE_HOT),
    "CategoricalIndex(probs)": (d.CategoricalIndex, {"probs": PROBS}, {"logits": [0.1, -1.0, 2.0]}, [0, 1, 2]),
    "CategoricalIndex(logits)": (d.CategoricalIndex, {"logits": [0.4, 1.6, -0.3]}, {"probs": OTHERS}, [0, 1, 2]),
    "Multinomial(probs)": (d.Multinomial, {"total_count": 5, "probs": PROBS}, {"total_count": 5, "logits": [0.1, -1.0, 2.0]}, TRIALS),
    "Multinomial(logits)": (d.Multinomial, {"total_count": 5, "logits": [0.4, 1.6, -0.3]}, {"total_count": 5, "probs": OTHERS}, TRIALS),
    "Dirichlet": (d.Dirichlet, {"concentration": [1.5, 2.5, 3.0]}, {"concentration": [2.5, 1.2, 4.0]}, SIMPLEX),
    "RelaxedBernoulli(probs)": (d.RelaxedBernoulli, {"temperature": 0.7, "probs": 0.3}, {"temperature": 0.9, "logits": 0.7}, UNIT),
    "RelaxedBernoulli(logits)": (d.RelaxedBernoulli, {"temperature": 0.7, "logits": -0.4}, {"temperature": 0.9, "probs": 0.6}, UNIT),
    "RelaxedCategorical(probs)": (d.RelaxedCategorical, {"temperature": 1.2, "probs": PROBS}, {"temperature": 0.8, "probs": OTHERS}, SIMPLEX),
    "RelaxedCategorical(logits)": (d.RelaxedCategorical, {"temperature": 1.5, "logits": [0.4, 1.6, -0.3]}, {"temperature": 0.8, "probs": OTHERS}, SIMPLEX),
    "MultivariateNormal(covariance)": (d.MultivariateNormal, {"loc": [0.5, -0.5], "covariance_matrix": COVARIANCE}, {"loc": [0.0, 0.3], "scale_tril": TRIL2}, PLANE),
    "MultivariateNormal(precision)": (d.MultivariateNormal, {"loc": [0.5, -0.5], "precision_matrix": COVARIANCE}, {"loc": [0.0, 0.3], "covariance_matrix": COVARIANCE2}, PLANE),
    "MultivariateNormal(scale_tril)": (d.MultivariateNormal, {"loc": [0.5, -0.5], "scale_tril": TRIL}, {"loc": [0.0, 0.3], "precision_matrix": COVARIANCE2}, PLANE),
    "LowRankMultivariateNormal": (d.LowRankMultivariateNormal, {"loc": [0.5, -0.5], "cov_factor": [[1.0], [0.5]], "cov_diag": [0.7, 0.9]}, {"loc": [0.0, 0.3], "cov_factor": [[-0.4], [0.9]], "cov_diag": [1.2, 0.6]}, PLANE),
    "PowerSpherical(circle)": (d.PowerSpherical, {"loc": [0.6, 0.8], "concentration": 3.0}, {"loc": [-0.8, 0.6], "concentration": 2.0}, CIRCLE),
    "PowerSpherical(sphere)": (d.PowerSpherical, {"loc": [0.48, 0.6, 0.64], "concentration": 3.0}, {"loc": [0.0, 0.6, 0.8], "concentration": 2.0}, SPHERE),
    "DiscretizedLogistic": (d.DiscretizedLogistic, {"loc": 0.4, "scale": 0.1, "levels": 17}, {"loc": 0.6, "scale": 0.2, "levels": 17}, LEVELS),
    "DiscretizedLogisticMixture(logits)": (d.DiscretizedLogisticMixture, {"loc": [0.2, 0.9], "scale": [0.1, 0.2], "levels": 17, "logits": [0.5, -0.5]}, {"loc": [0.4, 0.6], "scale": [0.2, 0.3], "levels": 17, "probs": [0.4, 0.6]}, LEVELS),
    "DiscretizedLogisticMixture(probs)": (d.DiscretizedLogisticMixture, {"loc": [0.2, 0.9], "scale": [0.1, 0.2], "levels": 5, "probs": [0.4, 0.6]}, {"loc": [0.4, 0.6], "scale": [0.2, 0.3], "levels": 5, "logits": [0.5, -0.5]}, LEVELS5),
}  # fmt: skip


def member(name: str, parameters: dict[str, Any], letter: str = "p") -> d.Family:
    """A member of a family over x, of which all parameters but the whole numbers are trained."""
    return FAMILIES[name][0](f"{letter}(x)", **{k: v if isinstance(v, int) else free(v) for k, v in parameters.items()})


def values_of(name: str) -> dict[str, Tensor]:
    x = torch.as_tensor(FAMILIES[name][3])
    x = x.double() if x.is_floating_point() else x
    return {"x": differentiated(x) if FAMILIES[name][0].has_rsample else x}


def log_density(name: str) -> Row:
    return Row(member(name, FAMILIES[name][1]).log_prob(), values_of(name))


def draws(name: str) -> Row:
    def f(x: Tensor) -> Tensor:
        return torch.cos(x if x.ndim == 1 else x @ torch.arange(1.0, 1.0 + x.shape[-1], device=x.device))

    of_x = Loss.from_function(f, "f", var=["x"])
    return Row(Expectation(member(name, FAMILIES[name][1]), of_x, num_samples=2), batch_size=3)


def entropy(name: str) -> Row:
    return Row(Entropy(member(name, FAMILIES[name][1]), num_samples=2), batch_size=3)


def divergence(name: str) -> Row:
    _, here, there, _ = FAMILIES[name]
    return Row(KullbackLeibler(member(name, here), member(name, there, "q"), num_samples=2), batch_size=3)


ROWS: dict[str, Callable[[], Row]] = {
    f"{name}: {of.__name__.replace('_', '-')}": partial(of, name) for name in FAMILIES for of in (log_density, draws, entropy, divergence)
}
