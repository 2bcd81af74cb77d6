"""Families of distributions, to be given parameters or to be subclassed with a network."""

from pixyz.core import Distribution

from ._affine import Affine
from ._autoregressive import Autoregressive
from ._bernoulli import Bernoulli
from ._bounded import Beta, ContinuousBernoulli, Kumaraswamy, Uniform
from ._categorical import Categorical
from ._categories import CategoricalIndex, Multinomial
from ._components import Components
from ._counts import Binomial, Geometric, NegativeBinomial, Poisson
from ._custom_prob import CustomProb
from ._deterministic import Deterministic
from ._discretized import DiscretizedLogistic, DiscretizedLogisticMixture
from ._empirical import Empirical
from ._experts import ProductOfNormal
from ._family import Family
from ._from_exponential import Pareto, Weibull
from ._from_normal import HalfNormal, LogNormal
from ._from_torch import TorchFamily, from_torch
from ._gamma import Exponential, Gamma, InverseGamma
from ._location_scale import Cauchy, Gumbel, Laplace, Logistic, StudentT
from ._mixtures import MixtureModel, MixtureOfNormal, MixtureOfProducts
from ._normal import Normal
from ._simplex import Dirichlet, RelaxedBernoulli, RelaxedCategorical
from ._supports import Interval, Support, outside
from ._truncated import Truncated
from ._vector_quantizer import VectorQuantizer
from ._vectors import LowRankMultivariateNormal, MultivariateNormal, PowerSpherical
from ._von_mises import VonMises
from ._zero_inflated import ZeroInflated

__all__ = [
    "Affine",
    "Autoregressive",
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "CategoricalIndex",
    "Cauchy",
    "Components",
    "ContinuousBernoulli",
    "CustomProb",
    "Deterministic",
    "Dirichlet",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Distribution",
    "Empirical",
    "Exponential",
    "Family",
    "Gamma",
    "Geometric",
    "Gumbel",
    "HalfNormal",
    "Interval",
    "InverseGamma",
    "Kumaraswamy",
    "Laplace",
    "LogNormal",
    "Logistic",
    "LowRankMultivariateNormal",
    "MixtureModel",
    "MixtureOfNormal",
    "MixtureOfProducts",
    "Multinomial",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "Pareto",
    "Poisson",
    "PowerSpherical",
    "ProductOfNormal",
    "RelaxedBernoulli",
    "RelaxedCategorical",
    "StudentT",
    "Support",
    "TorchFamily",
    "Truncated",
    "Uniform",
    "VectorQuantizer",
    "VonMises",
    "Weibull",
    "ZeroInflated",
    "from_torch",
    "outside",
]
