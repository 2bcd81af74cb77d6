# ruff: noqa: E501
"""Truncated and zero-inflated families, by the laws and against scipy."""

import math
import re

import pytest
import torch
from torch import nn

import pixyz.distributions as d
from pixyz.core import KindError, ParameterError, SupportError, testing
from pixyz.distributions import Truncated, ZeroInflated

stats = pytest.importorskip("scipy.stats", reason="the densities are held against scipy's")


def f64(x):
    return torch.tensor(x, dtype=torch.float64)


CASES = {
    "normal": (Truncated(d.Normal(loc=f64(0.5), scale=f64(2.0)), lower=f64(-1.0), upper=f64(1.5)), testing.line(-1, 1.5)),
    "normal from below": (Truncated(d.Normal(loc=f64(0.5), scale=f64(2.0)), lower=f64(-1.0)), testing.line(-1)),
    "laplace from above": (Truncated(d.Laplace(loc=f64(0.5), scale=f64(2.0)), upper=f64(1.0)), testing.Nodes(-testing.line(-1.0).points, testing.line(-1.0).weights)),
    "exponential": (Truncated(d.Exponential(rate=f64(0.7)), lower=f64(0.5), upper=f64(3.0)), testing.line(0.5, 3)),
    "gumbel": (Truncated(d.Gumbel(loc=f64(0.5), scale=f64(2.0)), lower=f64(0.0), upper=f64(3.0)), testing.line(0, 3)),
    "poisson": (ZeroInflated(d.Poisson(rate=f64(2.5)), gate=f64(0.3)), testing.counts(60)),
    "negative binomial": (ZeroInflated(d.NegativeBinomial(total_count=f64(3.5), probs=f64(0.4)), gate=f64(0.6)), testing.counts(120)),
}  # fmt: skip


@pytest.mark.parametrize(("p", "nodes"), CASES.values(), ids=CASES)
def test_laws(p, nodes):
    testing.check_mass(p, nodes)
    testing.check_statistics(p, nodes)
    testing.check_draws(p, nodes)
    testing.check_shapes(p, nodes)
    testing.check_kinds(p, nodes)
    testing.check_copies(p, nodes)
    testing.check_graph(p, nodes, what=["draw"])  # and its density


def test_gradients_of_truncated_draws():
    """Pathwise gradients of E[x²] against those of the quadrature, for the parameters of the base."""
    loc, scale = nn.Parameter(f64(0.5)), nn.Parameter(f64(2.0))
    p = Truncated(d.Normal(loc=loc, scale=scale), lower=f64(-1.0), upper=f64(1.5))
    nodes = testing.line(-1, 1.5)
    truth = (nodes.weights * nodes.points.square() * p.log_likelihood({"x": nodes.points}).exp()).sum()
    expected = torch.stack(torch.autograd.grad(truth, [loc, scale]))
    found = torch.stack([torch.stack(torch.autograd.grad(p.sample(batch_size=500)["x"].square().mean(), [loc, scale])) for _ in range(50)])
    assert ((found.mean(0) - expected).abs() < 5 * found.std(0) / 50**0.5).all()


# Far in the upper tail, where F is 1 in float64: the family, the bound, the nodes above it, scipy's distribution (or None).
FAR = {
    "Normal": (d.Normal, {"loc": 0.5, "scale": 2.0}, 25.0, testing.line(25.0, width=0.2), stats.norm(0.5, 2)),
    "Laplace": (d.Laplace, {"loc": 0.5, "scale": 2.0}, 100.0, testing.line(100.0), stats.laplace(0.5, 2)),
    "Logistic": (d.Logistic, {"loc": 0.5, "scale": 2.0}, 100.0, testing.line(100.0), stats.logistic(0.5, 2)),
    "Cauchy": (d.Cauchy, {"loc": 0.5, "scale": 2.0}, 1e18, testing.line(1e18, width=1e18), stats.cauchy(0.5, 2)),
    "Gumbel": (d.Gumbel, {"loc": 0.5, "scale": 2.0}, 100.0, testing.line(100.0), stats.gumbel_r(0.5, 2)),
    "LogNormal": (d.LogNormal, {"loc": 0.5, "scale": 0.2}, 10.0, testing.line(10.0, width=0.2), stats.lognorm(0.2, scale=math.exp(0.5))),
    "HalfNormal": (d.HalfNormal, {"scale": 2.0}, 25.0, testing.line(25.0, width=0.2), stats.halfnorm(scale=2)),
    "Exponential": (d.Exponential, {"rate": 2.0}, 30.0, testing.line(30.0), stats.expon(scale=0.5)),
    "Weibull": (d.Weibull, {"scale": 2.0, "concentration": 1.5}, 30.0, testing.line(30.0), stats.weibull_min(1.5, scale=2)),
    "Pareto": (d.Pareto, {"scale": 2.0, "alpha": 5.5}, 1e5, testing.line(1e5, width=1e5), stats.pareto(5.5, scale=2)),
    "Kumaraswamy": (d.Kumaraswamy, {"concentration1": 2.5, "concentration0": 15.0}, 0.98, testing.line(0.98, 1), None),
    "ContinuousBernoulli": (d.ContinuousBernoulli, {"logits": -60.0}, 0.7, testing.line(0.7, 1), None),
    "RelaxedBernoulli": (d.RelaxedBernoulli, {"temperature": 5.0, "logits": -20.0}, 0.99, testing.line(0.99, 1), None),
}  # fmt: skip


def far(name):
    family, parameters, lower, *_ = FAR[name]
    return Truncated(family(**{k: f64(v) for k, v in parameters.items()}), lower=f64(lower))


def test_every_family_with_a_tail_has_a_row():
    families = {c for c in vars(d).values() if isinstance(c, type) and issubclass(c, d.Family) and c.knows("cdf")} - {d.ProductOfNormal}
    assert families - {d.Uniform} == {row[0] for row in FAR.values()}  # its tails are as wide as its middle


@pytest.mark.parametrize("name", FAR)
def test_laws_far_in_the_upper_tail(name):
    """The mass above the bound is that of the density's quadrature; draws and their gradients follow the density."""
    p, nodes = far(name), FAR[name][3]
    assert p.base.cdf(p.base.get_params(), p.lower) > 1 - 1e-15
    testing.check_mass(p, nodes)
    testing.check_draws(p, nodes)
    if name.lower() not in CASES:
        testing.check_graph(p, nodes, what=["draw"])
    family, parameters = FAR[name][:2]
    lower = p.lower
    testing.check_free_gradients(
        lambda t: Truncated(family(**dict(zip(parameters, t))), lower=lower), lambda t: nodes, f64([*parameters.values()])
    )


@pytest.mark.parametrize("lower", [-1.0, 0.7, 25.0])
def test_gradients_of_draws_for_the_bounds(lower):
    testing.check_free_gradients(
        lambda t: Truncated(d.Normal(loc=t[0], scale=t[1]), lower=t[2], upper=t[3]),
        lambda t: testing.line(t[2].item(), t[3].item()),
        f64([0.5, 2.0, lower, lower + 1]),
    )


@pytest.mark.parametrize("name", [name for name, row in FAR.items() if row[4] is not None])
def test_upper_tails_are_scipys(name):
    p, reference = far(name), FAR[name][4]
    params, x = p.base.get_params(), p.lower * f64([1.0, 1.1, 1.5])
    torch.testing.assert_close(p.base.sf(params, x), torch.as_tensor(reference.sf(x.numpy())), rtol=1e-10, atol=0)
    u = f64([1e-30, 1e-18, 0.2, 0.7])
    torch.testing.assert_close(p.base.isf(params, u), torch.as_tensor(reference.isf(u.numpy())), rtol=1e-9, atol=0)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize(
    ("lower", "upper"), [(10.0, math.inf), (10.0, 10.1), (6.0, 8.0), (0.5, math.inf), (-math.inf, -10.0), (-11.0, -10.0)]
)
def test_a_tail_of_a_normal_is_scipys(lower, upper, dtype, rtol):
    """The density, the distribution of the draws, and d/dμ and d/dσ of the density and of the draws' mean."""
    loc, scale = (nn.Parameter(torch.tensor(t, dtype=dtype)) for t in (0.0, 1.0))
    p = Truncated(
        d.Normal(loc=loc, scale=scale),
        **{k: torch.tensor(b, dtype=dtype) for k, b in (("lower", lower), ("upper", upper)) if math.isfinite(b)},
    )

    def truth(mu=0.0, sigma=1.0):
        return stats.truncnorm((lower - mu) / sigma, (upper - mu) / sigma, mu, sigma)

    def slopes(f, h=1e-5):
        return f64([(f(h, 1.0) - f(-h, 1.0)) / (2 * h), (f(0.0, 1.0 + h) - f(0.0, 1.0 - h)) / (2 * h)])

    x = torch.as_tensor(truth().ppf([0.01, 0.3, 0.9])).to(dtype)
    score = p.log_likelihood({"x": x})
    torch.testing.assert_close(score.double(), torch.as_tensor(truth().logpdf(x.double().numpy())), rtol=rtol, atol=rtol)
    found = torch.stack(torch.autograd.grad(score.sum(), [loc, scale])).double()
    torch.testing.assert_close(found, slopes(lambda m, s: truth(m, s).logpdf(x.double().numpy()).sum()), rtol=100 * rtol, atol=1e-4)
    draws = p.sample(batch_size=20_000)["x"]
    assert stats.kstest(draws.detach().double().numpy(), truth().cdf).pvalue > 1e-4
    gradients = torch.stack(
        [torch.stack(torch.autograd.grad(p.sample(batch_size=500)["x"].mean(), [loc, scale])) for _ in range(50)]
    ).double()
    spread = gradients.std(0) / 50**0.5 + 1e-5
    assert ((gradients.mean(0) - slopes(lambda m, s: truth(m, s).mean(), h=1e-3)).abs() < 5 * spread).all()


def test_a_truncated_normal_is_scipys():
    p = CASES["normal"][0]
    x = p.sample(batch_size=100)["x"]
    reference = stats.truncnorm((-1 - 0.5) / 2, (1.5 - 0.5) / 2, 0.5, 2)
    torch.testing.assert_close(p.log_likelihood({"x": x}), torch.as_tensor(reference.logpdf(x.numpy())))
    assert p.log_likelihood({"x": f64([2.0, -1.5])}).tolist() == [-torch.inf, -torch.inf]


def test_networks_below():
    base = d.Poisson("p(x|z)", rate=lambda z: z.exp())
    p = ZeroInflated(base, gate=lambda z: (z - 1).sigmoid())
    z = torch.randn(4, 3)
    x = p.sample({"z": z})["x"]
    pi, pmf = (z - 1).sigmoid(), torch.distributions.Poisson(z.exp()).log_prob(x).exp()
    expected = (pi * (x == 0) + (1 - pi) * pmf).log().sum(-1)
    torch.testing.assert_close(p.log_likelihood({"x": x, "z": z}), expected)
    torch.testing.assert_close(p.mean({"z": z}), (1 - pi) * z.exp())


def test_parameters_of_the_base_are_found():
    net = nn.Linear(3, 2)
    p = Truncated(d.Normal("p(x|z)", loc=net, scale=1.0), lower=0.0)
    joint = p * d.Normal("p(z)", loc=0.0, scale=1.0, dim=3)
    assert {*net.parameters()} <= {*joint.log_prob().mean().parameters()}
    samples = joint.sample(batch_size=5)
    assert (samples["x"] >= 0).all()
    joint.log_likelihood(samples).sum().backward()
    assert net.weight.grad is not None


@pytest.mark.parametrize(
    ("misuse", "error", "words"),
    [
        (lambda: Truncated(d.Gamma(concentration=1.0, rate=1.0), lower=1.0), ParameterError, "p(x): a Gamma has no distribution function here"),
        (lambda: Truncated(d.InverseGamma(concentration=1.0, rate=1.0), lower=1.0), ParameterError, "p(x): a InverseGamma has no distribution function here"),
        (lambda: Truncated(d.Normal(loc=0.0, scale=1.0)), ParameterError, "p(x): a Truncated takes lower, upper or both"),
        (lambda: Truncated(d.Normal(loc=0.0, scale=1.0), lower=2.0, upper=1.0), SupportError, "p(x): it must be that lower < upper."),
        (lambda: Truncated(torch.distributions.Normal(0.0, 1.0), lower=2.0), KindError, "Truncated takes a family of distributions; got a Normal."),
        (lambda: ZeroInflated(d.Normal(loc=0.0, scale=1.0), gate=0.5), ParameterError, "p(x): a Normal has no counts to inflate"),
        (lambda: ZeroInflated(d.Poisson(rate=1.0), gate=1.5), SupportError, "p(x): gate must be in [0, 1]."),
    ],
)  # fmt: skip
def test_misuse(misuse, error, words):
    with pytest.raises(error, match=re.escape(words)):
        misuse()
