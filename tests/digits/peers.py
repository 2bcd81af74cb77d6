"""The same distributions in `torch.distributions` and scipy."""

import inspect

import torch.distributions as td
from scipy import stats

from pixyz.distributions import Family


def probs(p):
    if "probs" in p:
        return p["probs"]
    from scipy.special import expit

    return expit(p["logits"])


def of_torch(family: type[Family], names):
    """The class of torch of the same name, where it takes the same parameters, as a function of tensors by name; or None."""
    made = RENAMED.get(family.__name__)
    if made is not None:
        return made
    known = getattr(td, family.__name__, None)
    if known is None or family.__name__ in ("Categorical", "VonMises") or not set(names) <= set(inspect.signature(known).parameters):
        return OTHERS.get((family.__name__, names))
    return lambda p: known(**p, validate_args=False)


RENAMED = {
    "Categorical": lambda p: td.OneHotCategorical(**p, validate_args=False),
    "CategoricalIndex": lambda p: td.Categorical(**p, validate_args=False),
    "VonMises": lambda p: td.VonMises(**p, validate_args=False),
    "RelaxedCategorical": lambda p: td.RelaxedOneHotCategorical(**p, validate_args=False),
}
OTHERS = {
    ("Gamma", ("concentration", "scale")): lambda p: td.Gamma(p["concentration"], 1 / p["scale"], validate_args=False),
    ("Exponential", ("scale",)): lambda p: td.Exponential(1 / p["scale"], validate_args=False),
}

SCIPY = {
    "Bernoulli": lambda p: stats.bernoulli(probs(p)),
    "Beta": lambda p: stats.beta(p["concentration1"], p["concentration0"]),
    "Binomial": lambda p: stats.binom(p["total_count"], probs(p)),
    "Cauchy": lambda p: stats.cauchy(p["loc"], p["scale"]),
    "Exponential": lambda p: stats.expon(scale=p["scale"] if "scale" in p else 1 / p["rate"]),
    "Gamma": lambda p: stats.gamma(p["concentration"], scale=p["scale"] if "scale" in p else 1 / p["rate"]),
    "Geometric": lambda p: stats.geom(probs(p), loc=-1),
    "Gumbel": lambda p: stats.gumbel_r(p["loc"], p["scale"]),
    "HalfNormal": lambda p: stats.halfnorm(scale=p["scale"]),
    "InverseGamma": lambda p: stats.invgamma(p["concentration"], scale=p["rate"]),
    "Laplace": lambda p: stats.laplace(p["loc"], p["scale"]),
    "LogNormal": lambda p: stats.lognorm(p["scale"], scale=_exp(p["loc"])),
    "Logistic": lambda p: stats.logistic(p["loc"], p["scale"]),
    "NegativeBinomial": lambda p: stats.nbinom(p["total_count"], 1 - probs(p)),
    "Normal": lambda p: stats.norm(p["loc"], p["scale"]),
    "Pareto": lambda p: stats.pareto(p["alpha"], scale=p["scale"]),
    "Poisson": lambda p: stats.poisson(p["rate"]),
    "StudentT": lambda p: stats.t(p["df"], p["loc"], p["scale"]),
    "Uniform": lambda p: stats.uniform(p["low"], p["high"] - p["low"]),
    "VonMises": lambda p: stats.vonmises(p["concentration"], p["loc"]),
    "Weibull": lambda p: stats.weibull_min(p["concentration"], scale=p["scale"]),
}
"""Frozen distributions of scipy, of arrays by name."""


def _exp(v):
    import numpy

    return numpy.exp(v)


def by_scipy(family: type[Family]):
    """log p(x) by scipy, of arrays by name, or None."""
    made = SCIPY.get(family.__name__)
    if made is None:
        return None

    def log_density(inputs):
        frozen = made({k: v for k, v in inputs.items() if k != "x"})
        return (frozen.logpmf if hasattr(frozen.dist, "_logpmf") else frozen.logpdf)(inputs["x"])

    return log_density
