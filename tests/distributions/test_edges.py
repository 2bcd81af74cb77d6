"""Families at the edges: parameters that do not reach every dim, extreme values, draws that have a density, finite gradients."""

import math
import re
from decimal import Decimal, localcontext

import pytest
import torch
import torch.distributions as td
from torch import nn

import pixyz.distributions as d
from pixyz.core import FormulaError, KindError, ShapeError, SupportError
from pixyz.distributions import Normal, Truncated, ZeroInflated, from_torch
from pixyz.losses import KullbackLeibler

T = torch.tensor


@pytest.mark.parametrize("scale", [1.0, T([1.0, 2.0])])
def test_an_entropy_that_ignores_a_parameter_keeps_its_batch(scale):
    q = Normal("q(x|a)", loc="a", scale=scale)
    expected = td.Normal(torch.zeros(3, 2), T(scale) if isinstance(scale, float) else scale).entropy().sum(-1)
    torch.testing.assert_close(q.entropy({"a": torch.zeros(3, 2)}), expected)


def test_an_entropy_of_vectors_keeps_its_batch():
    q = d.MultivariateNormal("q(x|a)", loc="a", scale_tril=torch.eye(2))
    expected = td.MultivariateNormal(torch.zeros(3, 2), scale_tril=torch.eye(2)).entropy()
    torch.testing.assert_close(q.entropy({"a": torch.zeros(3, 2)}), expected)
    parameters = {"cov_factor": torch.ones(5, 2), "cov_diag": torch.linspace(0.5, 2.0, 5)}
    p = d.LowRankMultivariateNormal("p(x|a)", loc="a", **parameters)
    expected = td.LowRankMultivariateNormal(torch.zeros(3, 5), **parameters).entropy()
    torch.testing.assert_close(p.entropy({"a": torch.zeros(3, 5)}), expected)


def test_densities_of_several_vectors_are_summed():
    torch.manual_seed(0)
    logits, x = torch.randn(4, 2, 3), torch.randn(4, 2, 3).softmax(-1)
    p = d.RelaxedCategorical("p(x|l)", logits="l", temperature=0.7)
    expected = sum(td.RelaxedOneHotCategorical(T(0.7), logits=logits[:, i]).log_prob(x[:, i]) for i in range(2))
    torch.testing.assert_close(p.log_likelihood({"x": x, "l": logits}), expected)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda z: d.RelaxedCategorical("p(x|z)", logits="z", temperature=lambda z: z[:, :1].exp()).sample({"z": z}),
        lambda z: d.RelaxedCategorical("p(x|z)", logits="z", temperature=T([1.0])).sample({"z": z}),
        lambda z: d.MultivariateNormal("p(x|z)", loc="z", scale_tril=torch.eye(3).expand(4, 3, 3)).sample({"z": z}),
        lambda z: d.Categorical("p(x|z)", logits="z", features_shape=[4, 3]).sample({"z": z}),
        lambda z: d.MultivariateNormal("p(z)", loc=torch.zeros(3), scale_tril=torch.eye(3), dim=5),
        lambda z: d.Categorical("p(z)", probs=T([0.5, 0.5]), dim=3),
    ],
)
def test_parameters_of_vectors_that_do_not_fit_are_refused(misuse):
    with pytest.raises(ShapeError):
        misuse(torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("base", "lower", "upper", "x"),
    [
        (d.Exponential(rate=T([1.0])), -1.0, 3.0, 1.0),
        (d.HalfNormal(scale=T([1.0])), -1.0, 3.0, 1.0),
        (d.LogNormal(loc=T([0.0]), scale=T([1.0])), 0.0, 3.0, 1.0),
        (d.Weibull(scale=T([1.0]), concentration=T([1.5])), -1.0, 3.0, 1.0),
        (d.Kumaraswamy(concentration1=T([2.0]), concentration0=T([3.0])), 0.0, 2.0, 0.5),
        (d.ContinuousBernoulli(logits=T([0.0])), -1.0, 0.7, 0.5),
        (d.RelaxedBernoulli(temperature=T([0.7]), logits=T([0.3])), 0.0, 0.7, 0.5),
        (Normal(loc=T([0.0, 0.0]), scale=T([1.0, 1.0])), T([-torch.inf, 0.0]), None, 0.5),
    ],
    ids=lambda v: getattr(v, "distribution_name", None),
)
def test_bounds_at_and_beyond_the_rim_of_the_support(base, lower, upper, x):
    """The density is that of the base over its mass between the bounds, and its gradients are finite."""
    for name in base.constant_names:
        parameter = nn.Parameter(getattr(base, name).clone())
        del base._buffers[name]
        base.register_parameter(name, parameter)
    p = Truncated(base, lower=lower, upper=upper)
    value = torch.full((1, *base.get_params()[base.constant_names[0]].shape), x)
    score = p.log_likelihood({"x": value})
    draws = p.sample(batch_size=40_000)["x"].detach()
    mass_above = (draws > x).float().mean(0)
    inner = base.sample(batch_size=400_000)["x"].detach()
    kept = ((inner >= (-torch.inf if lower is None else lower)) & (inner <= (torch.inf if upper is None else upper))).float()
    expected = base.log_likelihood({"x": value}) - kept.mean(0).log().sum()
    torch.testing.assert_close(score, expected, atol=0.02, rtol=0)
    torch.testing.assert_close(mass_above, ((inner > x) * kept).mean(0) / kept.mean(0), atol=0.02, rtol=0)
    score.sum().backward()
    p.sample(batch_size=50)["x"].sum().backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in base.parameters())


def test_what_a_truncation_cannot_tell_is_said():
    with pytest.raises(SupportError, match="p\\(x\\): for 1 of 1 the base has no probability between the bounds"):
        Truncated(Normal(loc=T([-20.0]), scale=T([1.0])), lower=0.0).sample()


@pytest.mark.parametrize(
    ("misuse", "error"),
    [
        (lambda: ZeroInflated(d.Poisson(rate=T([2.0])), gate=T([0.5, 0.5, 0.5])).sample(), ShapeError),
        (lambda: ZeroInflated(d.Poisson(rate=T([2.0])), gate=T([0.5]).double()).sample(), KindError),
        (lambda: Truncated(Normal(loc=T([0.0]), scale=T([1.0])), lower=T([0.0, 0.1, 0.2])).sample(), ShapeError),
        (lambda: Truncated(Normal(loc=0.0, scale=1.0), lower=float("nan"), upper=1.0), SupportError),
        (lambda: Normal("p(x|a,b)", loc=nn.Linear(1, 1), scale=1.0), FormulaError),
        (lambda: d.Deterministic("f(type|z)", type=nn.Linear(1, 1)), FormulaError),
        (lambda: d.Deterministic("f(mean)", float=T([1.0]), mean=T([1.0])), FormulaError),
        (lambda: d.Autoregressive("p(x)", family=d.Bernoulli, dim=3, hidden=8), KindError),
        (lambda: d.Autoregressive("p(x)", family=d.Bernoulli, dim=3, activation=nn.ReLU()), KindError),
        (lambda: from_torch(td.RelaxedBernoulli), KindError),
        (lambda: from_torch(td.Independent), KindError),
        (lambda: from_torch(td.Wishart), KindError),
    ],
)
def test_misuse(misuse, error):
    with pytest.raises(error):
        misuse()


def test_a_network_of_too_few_arguments_is_named():
    words = "p(x|a,b): loc is called with a, b, but it takes (input: torch.Tensor) -> torch.Tensor."
    with pytest.raises(FormulaError, match=re.escape(words)):
        Normal("p(x|a,b)", loc=nn.Linear(1, 1), scale=1.0)


@pytest.mark.parametrize(
    ("make", "start", "x"),
    [
        (lambda t: d.Binomial(total_count=255.0, probs=t), [1.0, 0.0], [[255.0, 0.0]]),
        (lambda t: d.Geometric(probs=t), [1.0], [[0.0]]),
        (lambda t: d.NegativeBinomial(total_count=3.0, probs=t), [0.0], [[0.0]]),
        (lambda t: d.Poisson(rate=t), [0.0], [[0.0]]),
        (lambda t: d.CategoricalIndex(probs=t), [0.0, 1.0], [1.0]),
        (lambda t: d.Multinomial(total_count=3.0, probs=t), [0.0, 1.0], [[0.0, 3.0]]),
        (lambda t: d.DiscretizedLogisticMixture(loc=T([0.2, 0.8]), scale=T([0.1, 0.1]), levels=5, probs=t), [0.0, 1.0], [0.75]),
        (lambda t: ZeroInflated(d.Poisson(rate=2.0, dim=1), gate=t), [0.0], [[1.0]]),
        (lambda t: ZeroInflated(d.Poisson(rate=2.0, dim=1), gate=t), [0.0], [[0.0]]),
    ],
)
def test_gradients_at_the_rim_are_finite(make, start, x):
    t = nn.Parameter(T(start))
    score = make(t).log_likelihood({"x": T(x)})
    score.sum().backward()
    assert score.isfinite().all()
    assert t.grad.isfinite().all()


@pytest.mark.parametrize("logits", [-200.0, -100.0, -1.0, 0.0, 1e-6, 1.0, 100.0, 200.0])
def test_pathwise_gradients_of_a_continuous_bernoulli_are_finite(logits):
    t = nn.Parameter(T([logits]))
    d.ContinuousBernoulli(logits=t).sample(batch_size=50)["x"].sum().backward()
    assert t.grad.isfinite().all()


@pytest.mark.parametrize(
    "p",
    [
        d.Kumaraswamy(concentration1=T([0.05]), concentration0=T([1.0])),
        d.Kumaraswamy(concentration1=T([1.0]), concentration0=T([0.3])),
        d.Uniform(low=T([1.0]), high=T([1.0001])),
        d.Weibull(scale=T([1.0]), concentration=T([0.01])),
        d.LogNormal(loc=T([0.0]), scale=T([50.0])),
        d.Pareto(scale=T([1.0]), alpha=T([0.01])),
        d.RelaxedBernoulli(temperature=T([0.05]), logits=T([3.0])),
        d.RelaxedCategorical(temperature=T(0.05), logits=T([3.0, 0.0, -3.0])),
    ],
    ids=lambda p: p.distribution_name,
)
def test_draws_have_a_density(p):
    x = p.sample(batch_size=50_000)["x"]
    assert not p.log_likelihood({"x": x}).isnan().any()
    assert (p.log_likelihood({"x": x}) > -torch.inf).all()


def test_a_count_may_be_the_number_of_trials():
    joint = d.Binomial("p(x|n)", total_count="n", probs=0.5) * d.Poisson("p(n)", rate=T([3.0]))
    counts = {"x": T([[1]]), "n": T([[3]])}
    torch.testing.assert_close(joint.log_likelihood(counts), joint.log_likelihood({k: v.float() for k, v in counts.items()}))


@pytest.mark.parametrize("kappa", [0.1, 1.0, 50.0, 99.0, 101.0, 1e3, 1e4, 1e5])
def test_a_concentrated_von_mises_in_single_precision(kappa):
    single, double = (d.VonMises(loc=T(0.0, dtype=t), concentration=T(kappa, dtype=t)) for t in (torch.float32, torch.float64))
    torch.testing.assert_close(single.entropy().double(), double.entropy(), atol=1e-4, rtol=1e-5)
    stats = pytest.importorskip("scipy.stats")
    assert double.entropy().item() == pytest.approx(stats.vonmises(kappa).entropy(), abs=1e-6 if kappa < 1e4 else 1e-4)
    x = T([0.003])
    torch.testing.assert_close(single.log_likelihood({"x": x}).double(), double.log_likelihood({"x": x.double()}), atol=1e-3, rtol=1e-5)


def log_rising(start, count):
    """log a(a+1)…(a+k-1) = log Γ(a+k)/Γ(a), in sixty digits, and its derivative."""
    with localcontext() as context:
        context.prec = 60
        factors = [start + i for i in range(count)]
        return float(sum(f.ln() for f in factors)), float(sum(1 / f for f in factors))


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 3e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("kappa", [0.5, 9.0, 12.0, 900.0, 1500.0, 1e6, 1e9, 1e12])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_the_peak_of_a_power_spherical_is_a_product(kappa, k, dtype, rtol):
    """On a sphere of 2k dims it is (κ+k)(κ+k+1)…(κ+2k-1)/(4π)ᵏ, from two gamma functions however large they are."""
    t = T(kappa, dtype=dtype, requires_grad=True)
    loc = torch.eye(2 * k + 1, dtype=dtype)[0]
    found = d.PowerSpherical.log_density({"loc": loc, "concentration": t}, loc)
    found.backward()
    value, slope = log_rising(Decimal(t.item()) + k, k)
    area = k * math.log(4 * math.pi)
    assert found.item() == pytest.approx(value - area, rel=rtol, abs=rtol * (1 + abs(value) + area))
    assert t.grad.item() == pytest.approx(slope, rel=10 * rtol)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 3e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("b", [0.5, 8.0, 11.0])
@pytest.mark.parametrize("k", [1, 4, 32])
def test_the_mean_of_a_kumaraswamy_is_a_quotient_of_products(b, k, dtype, rtol):
    """k! / (b+1)(b+2)…(b+k), where the other concentration is 1/k."""
    t = T(b, dtype=dtype, requires_grad=True)
    found = d.Kumaraswamy.mean_of({"concentration1": T(1 / k, dtype=dtype), "concentration0": t}).log()
    found.backward()
    value, slope = log_rising(Decimal(b) + 1, k)
    assert found.item() == pytest.approx(math.lgamma(k + 1) - value, rel=rtol, abs=rtol * (1 + math.lgamma(k + 1) + abs(value)))
    assert t.grad.item() == pytest.approx(-slope, rel=10 * rtol)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("df", [1e6, 1e9, 1e12])
def test_a_student_t_of_many_degrees_of_freedom(df, dtype, tolerance):
    """log p differs from the normal's by (z⁴ - 2z² - 1)/4ν, the entropy by 1/ν, and by less than ν⁻² more."""
    p = d.StudentT(df=T(df, dtype=dtype), loc=T(0.0, dtype=dtype), scale=T(2.0, dtype=dtype))
    x = T([0.0, 1.0, -5.0], dtype=dtype)
    z, normal = x.double() / 2, td.Normal(T(0.0, dtype=torch.float64), 2.0)
    expected = normal.log_prob(x.double()) + (z**4 - 2 * z**2 - 1) / (4 * df)
    torch.testing.assert_close(p.log_likelihood({"x": x}).double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(p.entropy().double()[0], normal.entropy() + 1 / df, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("n", [1e6, 1e9, 1e12])
def test_a_negative_binomial_of_many_failures(n, dtype, tolerance):
    """log p differs from the Poisson's by (x(x-1) - λ²)/2n where π = λ/n, and by less than x³n⁻² more."""
    rate = 3.0
    p = d.NegativeBinomial(total_count=T(n, dtype=dtype), probs=T(rate / n, dtype=dtype))
    x = T([0.0, 1.0, 7.0], dtype=dtype)
    exact = x.double()
    poisson = td.Poisson(T(rate, dtype=torch.float64)).log_prob(exact)
    expected = poisson + (exact * (exact - 1) - rate**2) / (2 * n)
    torch.testing.assert_close(p.log_likelihood({"x": x}).double(), expected, rtol=tolerance, atol=tolerance)


def test_a_divergence_of_rare_events_is_exact():
    p, q = d.Bernoulli(probs=T(1e-10)), d.Bernoulli(probs=T(1e-8), name="q")
    a, b = T(1e-10).double(), T(1e-8).double()
    expected = a * (a / b).log() + (1 - a) * (torch.log1p(-a) - torch.log1p(-b))
    torch.testing.assert_close(KullbackLeibler(p, q).estimate()[0].double(), expected, rtol=1e-3, atol=0)


def test_functions_are_printed():
    def head(z):
        return z

    assert "loc=head" in str(Normal("p(x|z)", loc=head, scale=1.0))


def test_a_cauchy_far_away():
    stats = pytest.importorskip("scipy.stats")
    score = d.Cauchy(loc=0.0, scale=1.0).log_likelihood({"x": T([1e25, 0.0])})
    torch.testing.assert_close(score, torch.as_tensor(stats.cauchy.logpdf([1e25, 0.0])).float())
