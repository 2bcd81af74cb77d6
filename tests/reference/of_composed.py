# ruff: noqa: E501
"""Rows of pixyz.distributions: distributions that are made of others, or of networks."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pixyz.distributions as d
from pixyz.core import Loss
from pixyz.losses import ELBO, Commitment, Entropy, Expectation, KullbackLeibler

from .row import BATCH, Row, differentiated, f64, free, wave

X = wave(BATCH, 2)
Y = wave(BATCH, 1, shift=1.0)
POSITIVE = X.abs() + 0.2
COUNTS = f64([[0.0, 1.0], [3.0, 0.0], [0.0, 0.0]])
BITS = f64([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])


def scored(p: d.Distribution, **values: Tensor) -> Row:
    """The log-density, differentiated for the data as well."""
    return Row(p.log_prob(), {k: differentiated(v) for k, v in values.items()})


def counted(p: d.Distribution, **values: Tensor) -> Row:
    """The log-probability of data that have no neighbours."""
    return Row(p.log_prob(), values)


def drawn(p: d.Distribution, var: str = "x", num_samples: int = 2, **values: Tensor) -> Row:
    """The mean of a function of the draws."""
    function = Loss.from_function(lambda **given: torch.cos(given[var]).flatten(1).sum(-1), "f", var=[var])
    return Row(Expectation(p, function, num_samples=num_samples), values, None if values else BATCH)


def normal(text: str = "p(x)", loc: float = 0.3, scale: float = 0.8) -> d.Normal:
    return d.Normal(text, loc=free([loc, -loc]), scale=free([scale, 1.5 * scale]))


def weights() -> d.Categorical:
    return d.Categorical("p(k)", logits=free([0.3, -0.5]))


def components() -> list[d.Distribution]:
    return [d.Normal("p(x|z)", loc=nn.Linear(2, 2), scale=0.6), normal()]


def experts() -> list[d.Distribution]:
    image = d.Normal("q(z|x)", loc=nn.Linear(2, 2), scale=free([0.6, 1.4]))
    label = d.Normal("q(z|y)", loc=nn.Linear(1, 2), scale=lambda y: 0.3 + y.square().expand(-1, 2))
    return [image, label]


def autoregressive(family: type[d.Family], text: str = "p(x)", **options: object) -> d.Autoregressive:
    p = d.Autoregressive(text, family=family, dim=2, hidden=[5], activation=nn.Tanh, **options)
    with torch.no_grad():
        for t in p.parameters():
            t.mul_(2)
    return p


def quantizer(**options: object) -> d.VectorQuantizer:
    return d.VectorQuantizer("q(z|x)", z=nn.Linear(2, 2), num_codes=4, dim=2, **options)


def of_codes() -> d.Distribution:
    return d.Normal("p(x|z)", loc=nn.Linear(2, 2), scale=0.7)


class Ramp(d.Family):
    """A family of one's own, on the numbers from 0 to its width: p(x) = 2 x / width²."""

    parametrisations = (("width",),)
    supports = {"width": d.Interval("positive", 0.0, open_below=True)}
    value_support = d.Interval("at least 0", 0.0)
    has_rsample = True

    @staticmethod
    def log_density(params: dict[str, Tensor], x: Tensor) -> Tensor:
        return (2 * x / params["width"].square()).log()

    @staticmethod
    def rsample(params: dict[str, Tensor], shape: torch.Size) -> Tensor:
        return params["width"] * torch.rand(shape, dtype=params["width"].dtype, device=params["width"].device).sqrt()


class Encoder(d.Normal):
    """A subclass with networks."""

    def __init__(self) -> None:
        super().__init__(var=["z"], cond_var=["x"], name="q")
        self.hidden, self.loc, self.scale = nn.Linear(2, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = torch.tanh(self.hidden(x))
        return {"loc": self.loc(h), "scale": F.softplus(self.scale(h)) + 0.1}


class Hidden(d.Deterministic):
    """A subclass that computes."""

    def __init__(self) -> None:
        super().__init__(var=["h"], cond_var=["z"], name="f")
        self.net = nn.Linear(2, 3)

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"h": torch.tanh(self.net(z))}


def through_hidden() -> Row:
    p = d.Normal("p(x|h)", loc=nn.Linear(3, 2), scale=0.8) * d.Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    return Row(ELBO(p, Encoder() * Hidden(), num_samples=2), {"x": X})


def custom_prob() -> d.CustomProb:
    class Energy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = free([0.7, -0.2])

        def forward(self, x: Tensor) -> Tensor:
            return -(self.weight * x + x.square() / 2 + 0.1 * x**4).sum(-1)

    return d.CustomProb("p(x)", Energy())


def quantized_bound() -> Row:
    q = quantizer()
    return Row(of_codes().log_prob().expectation(q) - Commitment(q, beta=0.3), {"x": X})


def truncated_normal(**bounds: float) -> d.Truncated:
    return d.Truncated(d.Normal("p(x)", loc=free([0.5, -0.2]), scale=free([2.0, 0.8])), **{k: free(v) for k, v in bounds.items()})


def ratio_of_variances() -> d.Family:
    FisherSnedecor = d.from_torch(torch.distributions.FisherSnedecor)
    return FisherSnedecor("p(x)", df1=free([5.0, 3.0]), df2=free([4.0, 6.0]))


ROWS: dict[str, Callable[[], Row]] = {
    "Affine": lambda: Row(d.Normal("p(x|h,u)", loc=d.Affine(2, h=2, u=1), scale=free(0.7)).log_prob(), {"x": X, "h": wave(BATCH, 2, shift=2.0), "u": Y}),
    "Autoregressive of Bernoulli: log-density": lambda: counted(autoregressive(d.Bernoulli), x=BITS),
    "Autoregressive of Bernoulli: entropy by draws": lambda: Row(Entropy(autoregressive(d.Bernoulli), num_samples=2), batch_size=BATCH),
    "Autoregressive of CategoricalIndex: log-density": lambda: counted(autoregressive(d.CategoricalIndex, categories=3), x=torch.tensor([[0, 2], [1, 1], [2, 0]])),
    "Autoregressive of DiscretizedLogistic: log-density": lambda: counted(autoregressive(d.DiscretizedLogistic, levels=3), x=f64([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])),
    "Autoregressive of DiscretizedLogisticMixture: log-density": lambda: counted(autoregressive(d.DiscretizedLogisticMixture, levels=3, components=2), x=f64([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])),
    "Autoregressive of Normal: log-density": lambda: scored(autoregressive(d.Normal), x=X),
    "Autoregressive of Normal, given z: log-density": lambda: scored(autoregressive(d.Normal, "p(x|z)", cond_dim=1), x=X, z=Y),
    "Autoregressive of Normal, given z: draws": lambda: drawn(autoregressive(d.Normal, "p(x|z)", cond_dim=1), z=Y),
    "Autoregressive of Laplace: log-density": lambda: scored(autoregressive(d.Laplace), x=X),
    "Autoregressive of Poisson: log-density": lambda: counted(autoregressive(d.Poisson), x=COUNTS),
    "Components: log-density": lambda: scored(d.Components(components(), "k"), x=X, z=wave(BATCH, 2, shift=2.0), k=f64([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])) ,
    "Components: draws": lambda: drawn(d.Components(components(), "k") * weights(), z=wave(BATCH, 2, shift=2.0)),
    "CustomProb: log-density": lambda: scored(custom_prob(), x=X),
    "CustomProb: energy under a normal": lambda: Row(KullbackLeibler(normal("q(x)"), custom_prob(), num_samples=2), batch_size=BATCH),
    "Deterministic: a bound through what q computes": through_hidden,
    "Deterministic: draws": lambda: drawn(d.Deterministic("p(x|z)", x=nn.Linear(2, 2)) * d.Normal("p(z)", loc=free([0.1, 0.2]), scale=1.0)),
    "Empirical: cross-entropy by draws": lambda: Row(Expectation(d.Empirical("p_data(x)", x=wave(5, 2)), normal().log_prob(), num_samples=2), batch_size=BATCH),
    "Family of one's own: log-density": lambda: scored(Ramp("p(x)", width=free([2.0, 3.0])), x=POSITIVE),
    "Family of one's own: draws": lambda: drawn(Ramp("p(x)", width=free([2.0, 3.0]))),
    "Family with networks: log-density": lambda: scored(Encoder(), x=X, z=wave(BATCH, 2, shift=2.0)),
    "Family with networks: divergence": lambda: Row(KullbackLeibler(Encoder(), normal("p(z)")), {"x": differentiated(X)}),
    "MixtureModel, given z: log-density": lambda: scored(d.MixtureModel(components(), weights()), x=X, z=wave(BATCH, 2, shift=2.0)),
    "MixtureModel: draws": lambda: drawn(d.MixtureModel([normal(), normal(loc=-1.0)], weights())),
    "MixtureModel of two families: log-density": lambda: scored(d.MixtureModel([d.Laplace("p(x)", loc=free([0.0, 1.0]), scale=free(1.0)), normal()], weights()), x=X),
    "MixtureModel of Bernoulli: log-density": lambda: counted(d.MixtureModel([d.Bernoulli("p(x)", probs=free([0.2, 0.7])), d.Bernoulli("p(x)", probs=free([0.9, 0.5]))], weights()), x=BITS),
    "MixtureOfNormal: log-density": lambda: scored(d.MixtureOfNormal(experts()), x=X, y=Y, z=wave(BATCH, 2, shift=2.0)),
    "MixtureOfNormal: draws": lambda: drawn(d.MixtureOfNormal(experts(), weights=f64(0.3, 0.7)), "z", x=X, y=Y),
    "MixtureOfProducts: log-density": lambda: scored(d.MixtureOfProducts(experts()), x=X, y=Y, z=wave(BATCH, 2, shift=2.0)),
    "MixtureOfProducts: draws": lambda: drawn(d.MixtureOfProducts(experts()), "z", x=X, y=Y),
    "ProductOfNormal: log-density": lambda: scored(d.ProductOfNormal(experts()), x=X, y=Y, z=wave(BATCH, 2, shift=2.0)),
    "ProductOfNormal without a prior: log-density": lambda: scored(d.ProductOfNormal(experts(), prior=None), x=X, y=Y, z=wave(BATCH, 2, shift=2.0)),
    "ProductOfNormal with a trained prior: divergence": lambda: Row(KullbackLeibler(d.ProductOfNormal(experts(), prior=normal("r(z)")), normal("p(z)", 0.1)), {"x": X, "y": Y}),
    "ProductOfNormal: draws": lambda: drawn(d.ProductOfNormal(experts()), "z", x=X, y=Y),
    "ProductOfNormal given x alone: log-density": lambda: scored(d.ProductOfNormal(experts()).given_only("x"), x=X, z=wave(BATCH, 2, shift=2.0)),
    "TorchFamily FisherSnedecor: log-density": lambda: scored(ratio_of_variances(), x=POSITIVE),
    "TorchFamily FisherSnedecor: draws": lambda: drawn(ratio_of_variances()),
    "Truncated Normal on both sides: log-density": lambda: scored(truncated_normal(lower=-1.3, upper=1.5), x=X),
    "Truncated Normal on both sides: draws": lambda: drawn(truncated_normal(lower=-1.3, upper=1.5)),
    "Truncated Normal on both sides: entropy by draws": lambda: Row(Entropy(truncated_normal(lower=-1.3, upper=1.5), num_samples=2), batch_size=BATCH),
    "Truncated Normal far above: log-density": lambda: scored(truncated_normal(lower=7.0), x=POSITIVE + 7),
    "Truncated Laplace from above: log-density": lambda: scored(d.Truncated(d.Laplace("p(x)", loc=free([0.5, 0.0]), scale=free(2.0)), upper=1.0), x=X),
    "Truncated Exponential: log-density": lambda: scored(d.Truncated(d.Exponential("p(x)", rate=free([0.7, 1.3])), lower=0.1, upper=3.0), x=POSITIVE),
    "Truncated Exponential: draws": lambda: drawn(d.Truncated(d.Exponential("p(x)", rate=free([0.7, 1.3])), lower=0.1, upper=3.0)),
    "Truncated Gumbel to a narrow interval: log-density": lambda: scored(d.Truncated(d.Gumbel("p(x)", loc=free([0.5, 0.0]), scale=2.0), lower=0.5, upper=0.5001), x=0.50005 + 0.00002 * X),
    "VectorQuantizer: a bound with Commitment": quantized_bound,
    "VectorQuantizer with moving averages: reconstruction": lambda: Row(of_codes().log_prob().expectation(quantizer(decay=0.9)), {"x": X}),
    "ZeroInflated Poisson: log-density": lambda: counted(d.ZeroInflated(d.Poisson("p(x)", rate=free([2.5, 0.7])), gate=free(0.3)), x=COUNTS),
    "ZeroInflated Poisson: draws": lambda: drawn(d.ZeroInflated(d.Poisson("p(x)", rate=free([2.5, 0.7])), gate=free(0.3))),
    "ZeroInflated NegativeBinomial: log-density": lambda: counted(d.ZeroInflated(d.NegativeBinomial("p(x)", total_count=free([3.5, 1.5]), logits=free([0.4, -0.2])), gate=free(0.6)), x=COUNTS),
}  # fmt: skip
