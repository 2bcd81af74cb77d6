# ruff: noqa: E501
"""Truncated and zero-inflated families, by the laws and against scipy."""

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
    testing.check_graph(p, nodes)


def test_gradients_of_truncated_draws():
    """Pathwise gradients of E[x²] against those of the quadrature, for the parameters of the base."""
    loc, scale = nn.Parameter(f64(0.5)), nn.Parameter(f64(2.0))
    p = Truncated(d.Normal(loc=loc, scale=scale), lower=f64(-1.0), upper=f64(1.5))
    nodes = testing.line(-1, 1.5)
    truth = (nodes.weights * nodes.points.square() * p.log_likelihood({"x": nodes.points}).exp()).sum()
    expected = torch.stack(torch.autograd.grad(truth, [loc, scale]))
    found = torch.stack([torch.stack(torch.autograd.grad(p.sample(batch_size=500)["x"].square().mean(), [loc, scale])) for _ in range(50)])
    assert ((found.mean(0) - expected).abs() < 5 * found.std(0) / 50**0.5).all()


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
