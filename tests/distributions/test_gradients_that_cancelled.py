# ruff: noqa: E501
"""Moments, divergences and distribution functions whose values or gradients are small differences of large numbers, in float32."""

import pytest
import torch

import pixyz.distributions as d


def numbers(**given):
    return {name: torch.tensor(v, requires_grad=True) for name, v in given.items()}


def slope(value, params, name):
    return torch.autograd.grad(value, params[name])[0].item()


def of(statistic, family, by, right, **given):
    params = numbers(**given)
    return pytest.param(
        lambda: slope(getattr(family, f"{statistic}_of")(params), params, by), right, id=f"{statistic} of {family.__name__} {given}"
    )


def of_cdf(family, x, by, right, function="cdf", **given):
    params = numbers(**given)
    return pytest.param(
        lambda: slope(getattr(family, function)(params, torch.tensor(x)), params, by), right, id=f"{function} of {family.__name__} {given}"
    )


def of_kl(family, right, p, q, by=None):
    left, other = numbers(**p), numbers(**q)

    def found():
        value = family.kl(left, other)
        return value.item() if by is None else slope(value, left, by)

    return pytest.param(found, right, id=f"KL of {family.__name__} {p} {q} {by}")


# Right values by mpmath at 60 digits.
FOUND = [
    of("mean", d.Bernoulli, "logits", 2.061153613941849e-9, logits=20.0),
    of("mean", d.Binomial, "logits", 2.061153613941849e-6, logits=20.0, total_count=1000.0),
    of("variance", d.Geometric, "logits", -2.28401477963147543e26, logits=-30.0),
    of("variance", d.StudentT, "df", -8.028877947044813e-8, df=9984.0, loc=0.5, scale=2.0),
    of("entropy", d.StudentT, "df", -1.003257932154252e-8, df=9984.0, loc=0.5, scale=2.0),
    of("mean", d.Beta, "concentration1", 1.49583839454093e-16, concentration1=100139008.0, concentration0=1.5),
    of("mean", d.Pareto, "alpha", -2.006817379387692e-8, scale=2.0, alpha=9984.0),
    of("mode", d.Weibull, "concentration", 4.01956351849550571e-12, scale=2.0, concentration=9984.0),
    of("mean", d.Gamma, "scale", 2.5, concentration=2.5, scale=1e-20),
    of_cdf(d.Exponential, 3.84375, "rate", 3.7739564882572e-5, rate=3.0),
    of_cdf(d.Laplace, 0.5, "loc", -0.25, loc=0.5, scale=2.0),
    of_cdf(d.Laplace, 0.5, "loc", 1.0, loc=0.5, scale=2.0, function="icdf"),
    of_kl(d.Bernoulli, 2.119597559173665e-9, {"logits": 20.0}, {"logits": 21.875}),
    of_kl(d.Bernoulli, -3.8646630261409675e-9, {"logits": 20.0}, {"logits": 21.875}, "logits"),
    of_kl(d.Geometric, 7.619470117490063e-6, {"logits": -9984.0}, {"logits": -9984.00390625}),
    of_kl(d.Beta, 34.595752782357416, {"concentration1": 12.0, "concentration0": 100139008.0}, {"concentration1": 3.0, "concentration0": 100.0}),
    of_kl(d.Dirichlet, 33.991790076903874, {"concentration": [2.0, 1.0, 0.5]}, {"concentration": [1.0011717677116394e-08] * 3}),
    of_kl(d.Gamma, 79.17188693164518, {"concentration": 100139008.0, "rate": 1.0016005571271983e19}, {"concentration": 1.0, "rate": 1.0005576689441423e-20}),
]  # fmt: skip


@pytest.mark.parametrize(("found", "right"), FOUND)
def test_it_has_its_digits(found, right):
    assert found() == pytest.approx(right, rel=2e-5, abs=0)


def test_the_far_tail_of_a_continuous_bernoulli():
    u = torch.tensor([1e-30, 1e-30, 0.9])
    x = d.ContinuousBernoulli.icdf({"logits": torch.tensor([0.30078125, 16.0, 1e4])}, u)
    torch.testing.assert_close(x, torch.tensor([1.166672e-30, 5.5538150e-25, 0.99998946]), rtol=1e-4, atol=0)


def test_a_variance_is_finite_where_the_square_of_the_mean_is_not():
    assert d.Weibull.variance_of(numbers(scale=9.972771014849226e19, concentration=30.0)).item() == pytest.approx(1.672634e37, rel=1e-4)
    assert d.LogNormal.variance_of(numbers(loc=80.0, scale=1.0005576689441423e-20)).item() == pytest.approx(3.0732745e29, rel=1e-4)
