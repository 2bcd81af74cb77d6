"""Families of several features, their supports, extreme parameters and shapes, beside the laws of each in `test_laws`."""

import importlib

import pytest
import torch
from torch import nn

import pixyz.distributions
from pixyz.distributions import Bernoulli, Categorical, Deterministic, Normal

scipy = pytest.importorskip("scipy", reason="the densities are held against scipy's")
importlib.import_module("scipy.stats")


def f64(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


LOC, SCALE = f64(-1.0, 0.5, 3.0), f64(0.3, 1.0, 2.5)
PROBS = f64(0.1, 0.5, 0.97)
SIMPLEX = f64(0.2, 0.7, 0.1)

CASES = {
    "Normal": (Normal(loc=LOC, scale=SCALE), lambda x: scipy.stats.norm(LOC, SCALE).logpdf(x)),
    "Bernoulli(probs)": (Bernoulli(probs=PROBS), lambda x: scipy.stats.bernoulli(PROBS).logpmf(x)),
    "Bernoulli(logits)": (Bernoulli(logits=torch.logit(PROBS)), lambda x: scipy.stats.bernoulli(PROBS).logpmf(x)),
    "Categorical(probs)": (Categorical(probs=SIMPLEX), lambda x: scipy.stats.multinomial(1, SIMPLEX.numpy()).logpmf(x)[:, None]),
    "Categorical(logits)": (
        Categorical(logits=SIMPLEX.log() + 4.0),
        lambda x: scipy.stats.multinomial(1, SIMPLEX.numpy()).logpmf(x)[:, None],
    ),
}


@pytest.mark.parametrize(("p", "log_density"), CASES.values(), ids=CASES)
def test_log_likelihood_is_scipys_summed_over_the_features(p, log_density):
    x = p.sample(batch_size=50)["x"]
    assert x.shape == (50, 3)
    assert x.dtype == torch.float64
    torch.testing.assert_close(p.log_likelihood({"x": x}), torch.as_tensor(log_density(x.numpy()).sum(-1)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in CASES if n != "Normal"])
def test_finite_families_sum_to_one_over_their_support(name):
    p = CASES[name][0]
    support = p.enumerate_support((3,)).double()
    assert len(support) == p.count_support((3,))
    assert len(support.unique(dim=0)) == len(support)
    torch.testing.assert_close(p.log_likelihood({"x": support}).exp().sum(), f64(1.0)[0])


def test_enumeration_over_several_features():
    for p, features, count in ((Bernoulli(probs=0.5), (2, 2), 16), (Categorical(probs=SIMPLEX), (2, 3), 9)):
        support = p.enumerate_support(features)
        assert support.shape == (count, *features)
        assert len(support.flatten(1).unique(dim=0)) == count == p.count_support(features)


@pytest.mark.parametrize("name", [n for n in CASES if n != "Normal"])
def test_draws_of_finite_families_pass_chi_squared(name):
    p, n = CASES[name][0], 20_000
    support = p.enumerate_support((3,)).double()
    expected = p.log_likelihood({"x": support}).exp() * n
    x = p.sample(batch_size=n)["x"]
    observed = (x[:, None] == support).all(-1).sum(0)
    assert observed.sum() == n
    assert scipy.stats.chisquare(observed.numpy(), expected.numpy()).pvalue > 1e-4


def kl(p, q):
    from pixyz.losses import KullbackLeibler

    loss = KullbackLeibler(p, q)
    assert loss.is_analytic
    return loss.estimate()


def test_kl_counts_every_feature_of_constants_that_broadcast():
    """Sixty-four features of scale 2 are sixty-four terms, though the parameter is one number."""
    one = kl(Normal(loc=0.0, scale=2.0, name="q"), Normal(loc=0.0, scale=1.0))
    many = kl(Normal(loc=0.0, scale=2.0, dim=64, name="q"), Normal(loc=0.0, scale=1.0, dim=64))
    torch.testing.assert_close(many, 64 * one)


def test_kl_is_per_datum_not_summed_over_the_batch():
    from pixyz.losses import KullbackLeibler

    class Encoder(Normal):
        def forward(self, x):
            return {"loc": x, "scale": torch.ones_like(x)}

    value = KullbackLeibler(Encoder(var=["z"], cond_var=["x"], name="q"), Normal(var=["z"], loc=0.0, scale=1.0, dim=3))
    x = torch.randn(5, 3)
    torch.testing.assert_close(value.estimate({"x": x}), 0.5 * x.square().sum(-1))


def test_constants_given_as_parameters_are_trained():
    loc = nn.Parameter(torch.zeros(2))
    p = Normal(loc=loc, scale=1.0)
    assert [*p.parameters()] == [loc]
    p.log_likelihood({"x": torch.ones(3, 2)}).sum().backward()
    torch.testing.assert_close(loc.grad, torch.full((2,), 3.0))


def test_a_trained_parameter_that_leaves_its_support_is_caught():
    scale = nn.Parameter(torch.ones(2))
    p = Normal(loc=0.0, scale=scale)
    with torch.no_grad():
        scale[0] = -1
    with pytest.raises(pixyz.core.SupportError, match="scale must be positive, but 1 of 2 are not"):
        p.sample()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saturated_bernoulli_stays_finite_in_value_and_gradient(dtype):
    probs = nn.Parameter(torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=dtype))
    p = Bernoulli(probs=probs)
    value = p.log_likelihood({"x": torch.tensor([[1.0, 0.0, 0.0, 1.0]], dtype=dtype)})
    value.backward()
    assert value.isfinite()
    assert value < -30
    assert probs.grad.isfinite().all()


@pytest.mark.parametrize("p", [1e-30, 1e-12, 1e-6])
def test_a_bernoulli_does_not_clip_small_probabilities(p):
    probs = nn.Parameter(f64(p))
    value = Bernoulli(probs=probs).log_likelihood({"x": f64(1.0)[None]})
    value.backward()
    torch.testing.assert_close(value, f64(p).log())
    torch.testing.assert_close(probs.grad, 1 / f64(p))


@pytest.mark.parametrize("form", ["probs", "logits"])
def test_a_category_of_probability_zero(form):
    """0 log 0 = 0, an impossible category that occurs is -inf, and no gradient is nan."""
    probs = f64(0.4, 0.6, 0.0)
    parameter = nn.Parameter(probs if form == "probs" else probs.log())
    p = Categorical(**{form: parameter})
    values = p.log_likelihood({"x": torch.eye(3, dtype=torch.float64)})
    torch.testing.assert_close(values.detach(), probs.log())
    values[:2].sum().backward()
    assert parameter.grad.isfinite().all()


def test_a_divergence_from_what_is_impossible_is_infinite():
    zero, half = f64(0.0, 1.0), f64(0.5, 0.5)
    for family in (Categorical, Bernoulli):
        impossible, possible = family(probs=zero, name="p"), family(probs=half, name="q")
        assert kl(possible, impossible).item() == torch.inf
        torch.testing.assert_close(kl(impossible, possible), (1 if family is Categorical else 2) * f64(2.0).log())
        assert kl(impossible, family(probs=zero, name="q")).item() == 0


@pytest.mark.parametrize("family", [Categorical, Bernoulli])
def test_gradients_of_kl_are_finite_at_zero(family):
    probs = nn.Parameter(f64(0.0, 1.0))
    kl(family(probs=probs, name="p"), family(probs=f64(0.5, 0.5), name="q")).sum().backward()
    assert probs.grad.isfinite().all()


def test_features_shape_and_dim():
    assert Normal(loc=0.0, scale=1.0, dim=4).sample()["x"].shape == (1, 4)
    assert Normal(loc=0.0, scale=1.0, features_shape=[2, 3]).sample(batch_size=5)["x"].shape == (5, 2, 3)
    assert Normal(loc=torch.zeros(2, 3), scale=1.0).sample(batch_size=5)["x"].shape == (5, 2, 3)
    assert Normal(loc=torch.zeros(2, 1), scale=torch.ones(3).expand(2, 3)).sample()["x"].shape == (1, 2, 3)
    assert Normal(loc=0.0, scale=1.0).sample(batch_size=5)["x"].shape == (5,)


@pytest.mark.parametrize("scale", [1.0, torch.tensor(2.0), torch.full((4, 1), 3.0), torch.full((3,), 0.5)])
def test_shapes_that_a_network_may_return(scale):
    class Q(Normal):
        def forward(self, x):
            return {"loc": x, "scale": scale}

    q = Q(var=["z"], cond_var=["x"])
    x, z = torch.randn(4, 3), torch.randn(4, 3)
    expected = torch.distributions.Normal(x, torch.as_tensor(scale)).log_prob(z).sum(-1)
    torch.testing.assert_close(q.log_likelihood({"x": x, "z": z}), expected)


def test_a_deterministic_variable_has_several_outputs():
    class Split(Deterministic):
        def __init__(self):
            super().__init__(var=["a", "b"], cond_var=["x"], name="f")

        def forward(self, x):
            return {"a": x[:, 0], "b": x[:, 1:]}

    drawn = Split().sample({"x": torch.arange(6.0).reshape(2, 3)})
    assert drawn["a"].tolist() == [0.0, 3.0]
    assert drawn["b"].tolist() == [[1.0, 2.0], [4.0, 5.0]]
    constant = Deterministic(var=["c"], c=torch.ones(3))
    assert constant.sample(batch_size=2)["c"].shape == (2, 3)
