"""`torch.func.vmap` over `log_likelihood`: per datum, per set of parameters, and with gradients."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

import pixyz.distributions as d
from pixyz.core import Distribution


def f64(*numbers):
    return torch.tensor(numbers if len(numbers) > 1 else numbers[0], dtype=torch.float64)


TRIL = f64([2.0, 0.0], [0.6, 1.0])
FAMILIES = {
    "Normal": (d.Normal, {"loc": f64(0.5, -1.0), "scale": f64(2.0, 0.5)}),
    "LogNormal": (d.LogNormal, {"loc": f64(0.3, 0.1), "scale": f64(0.7, 1.0)}),
    "Laplace": (d.Laplace, {"loc": f64(0.5, -1.0), "scale": f64(2.0, 0.5)}),
    "StudentT": (d.StudentT, {"df": f64(5.0, 3.0), "loc": f64(0.5, -1.0), "scale": f64(2.0, 0.5)}),
    "Cauchy": (d.Cauchy, {"loc": f64(0.5, -1.0), "scale": f64(2.0, 0.5)}),
    "Logistic": (d.Logistic, {"loc": f64(0.5, -1.0), "scale": f64(2.0, 0.5)}),
    "Gumbel": (d.Gumbel, {"loc": f64(0.5, -1.0), "scale": f64(2.0, 0.5)}),
    "Uniform": (d.Uniform, {"low": f64(-1.0, 0.0), "high": f64(2.5, 1.0)}),
    "Exponential": (d.Exponential, {"rate": f64(2.0, 0.5)}),
    "Gamma": (d.Gamma, {"concentration": f64(2.5, 0.6), "rate": f64(2.0, 1.0)}),
    "InverseGamma": (d.InverseGamma, {"concentration": f64(4.5, 3.0), "rate": f64(2.0, 1.0)}),
    "Beta": (d.Beta, {"concentration1": f64(2.5, 0.7), "concentration0": f64(1.5, 2.0)}),
    "Kumaraswamy": (d.Kumaraswamy, {"concentration1": f64(2.5, 0.7), "concentration0": f64(1.5, 2.0)}),
    "HalfNormal": (d.HalfNormal, {"scale": f64(2.0, 0.5)}),
    "VonMises": (d.VonMises, {"loc": f64(0.5, -1.0), "concentration": f64(2.0, 0.5)}),
    "Weibull": (d.Weibull, {"scale": f64(2.0, 0.5), "concentration": f64(1.5, 1.0)}),
    "Pareto": (d.Pareto, {"scale": f64(2.0, 0.5), "alpha": f64(5.5, 3.0)}),
    "Poisson": (d.Poisson, {"rate": f64(2.5, 0.5)}),
    "Geometric": (d.Geometric, {"probs": f64(0.4, 0.7)}),
    "Binomial": (d.Binomial, {"total_count": f64(7.0, 3.0), "logits": f64(-0.4, 0.4)}),
    "NegativeBinomial": (d.NegativeBinomial, {"total_count": f64(3.5, 2.0), "probs": f64(0.4, 0.7)}),
    "Bernoulli(probs)": (d.Bernoulli, {"probs": f64(0.3, 0.7)}),
    "Bernoulli(logits)": (d.Bernoulli, {"logits": f64(0.3, -0.7)}),
    "ContinuousBernoulli": (d.ContinuousBernoulli, {"probs": f64(0.3, 0.7)}),
    "RelaxedBernoulli": (d.RelaxedBernoulli, {"temperature": f64(0.5, 0.7), "probs": f64(0.3, 0.7)}),
    "Categorical(probs)": (d.Categorical, {"probs": f64(0.2, 0.7, 0.1)}),
    "Categorical(logits)": (d.Categorical, {"logits": f64(0.2, 0.7, 0.1)}),
    "CategoricalIndex": (d.CategoricalIndex, {"logits": f64([0.2, 0.7, 0.1], [0.0, 1.0, 2.0])}),
    "RelaxedCategorical": (d.RelaxedCategorical, {"temperature": f64(0.7), "probs": f64(0.2, 0.7, 0.1)}),
    "Multinomial": (d.Multinomial, {"total_count": f64(5.0), "probs": f64(0.2, 0.7, 0.1)}),
    "Dirichlet": (d.Dirichlet, {"concentration": f64(2.0, 3.0, 0.5)}),
    "MultivariateNormal(scale_tril)": (d.MultivariateNormal, {"loc": f64(0.5, -1.0), "scale_tril": TRIL}),
    "MultivariateNormal(covariance)": (d.MultivariateNormal, {"loc": f64(0.5, -1.0), "covariance_matrix": TRIL @ TRIL.T}),
    "LowRankMultivariateNormal": (
        d.LowRankMultivariateNormal,
        {"loc": f64(0.5, -1.0), "cov_factor": f64([1.0], [-1.0]), "cov_diag": f64(0.3, 0.1)},
    ),
    "PowerSpherical": (d.PowerSpherical, {"loc": f64(0.6, 0.8), "concentration": f64(8.0)}),
    "DiscretizedLogistic": (d.DiscretizedLogistic, {"loc": f64(0.4, 0.6), "scale": f64(0.08, 0.2), "levels": 17}),
}


class Scored(nn.Module):
    """A distribution whose forward pass is its log-likelihood, of one datum."""

    def __init__(self, p: Distribution) -> None:
        super().__init__()
        self.p = p

    def forward(self, x):
        return self.p.log_likelihood({"x": x.unsqueeze(0)}, validate=False).squeeze(0)


def built(name):
    family, parameters = FAMILIES[name]
    torch.manual_seed(0)
    p = family("p(x)", **{k: nn.Parameter(v) if isinstance(v, torch.Tensor) else v for k, v in parameters.items()})
    return p, p.sample(batch_size=5)["x"].detach()


@pytest.mark.parametrize("name", FAMILIES)
def test_each_datum_has_its_likelihood(name):
    p, x = built(name)
    torch.testing.assert_close(vmap(Scored(p))(x), p.log_likelihood({"x": x}))


@pytest.mark.parametrize("name", FAMILIES)
def test_each_set_of_parameters_has_its_likelihood(name):
    p, x = built(name)
    scored = Scored(p)
    stacked = {k: torch.stack([w.detach(), w.detach()]) for k, w in scored.named_parameters()}
    found = vmap(lambda w: vmap(lambda each: functional_call(scored, w, (each,)))(x))(stacked)
    expected = p.log_likelihood({"x": x}).detach()
    torch.testing.assert_close(found, expected.expand(2, -1))


@pytest.mark.parametrize("name", FAMILIES)
def test_each_datum_has_its_gradient(name):
    p, x = built(name)
    scored = Scored(p)
    weights = {k: w.detach() for k, w in scored.named_parameters()}
    found = vmap(grad(lambda w, each: functional_call(scored, w, (each,))), (None, 0))(weights, x)
    for i, each in enumerate(x):
        expected = torch.autograd.grad(scored(each), [*scored.parameters()], allow_unused=True)
        for name_, gradient in zip(weights, expected, strict=True):
            torch.testing.assert_close(found[name_][i], torch.zeros_like(weights[name_]) if gradient is None else gradient)


def normal(text="p(x)"):
    return d.Normal(text, loc=nn.Parameter(f64(0.5, -1.0)), scale=nn.Parameter(f64(2.0, 0.5)))


def marginal():
    p = d.Normal("p(x|z)", loc=nn.Linear(3, 2).double(), scale=f64(0.5)) * d.Normal("p(z)", loc=torch.zeros(3).double(), scale=1.0)
    return p.marginalize_var("z")


COMPOSED = {
    "truncated": lambda: d.Truncated(normal(), lower=-3.0, upper=3.0),
    "narrowly truncated": lambda: d.Truncated(normal(), lower=-0.01, upper=0.01),
    "inflated": lambda: d.ZeroInflated(d.Poisson("p(x)", rate=nn.Parameter(f64(2.0, 0.5))), gate=0.3),
    "mixture": lambda: d.MixtureModel([normal("p_1(x)"), normal("p_2(x)")], d.Categorical("p(k)", logits=nn.Parameter(f64(0.2, 0.7)))),
    "marginal": marginal,
}


@pytest.mark.parametrize("name", COMPOSED)
def test_what_is_composed_has_a_likelihood_for_each_datum_and_set_of_parameters(name):
    torch.manual_seed(0)
    p = COMPOSED[name]()
    x = p.sample(batch_size=5)["x"].detach()
    scored, expected = Scored(p), p.log_likelihood({"x": x}).detach()
    stacked = {k: torch.stack([w.detach(), w.detach()]) for k, w in scored.named_parameters()}
    torch.testing.assert_close(vmap(scored)(x), expected)
    found = vmap(lambda w: vmap(lambda each: functional_call(scored, w, (each,)))(x))(stacked)
    torch.testing.assert_close(found, expected.expand(2, -1))


def test_each_datum_has_draws_of_its_own():
    p, _ = built("Normal")
    torch.manual_seed(0)
    drawn = vmap(lambda shift: p.sample(batch_size=1, validate=False)["x"][0] + shift, randomness="different")(torch.zeros(50, 1))
    assert len(drawn[:, 0].unique()) == 50
