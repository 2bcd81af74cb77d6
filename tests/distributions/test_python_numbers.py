"""Python numbers take the dtype of what they meet, with all their digits: parameters, bounds, gates, experts, components."""

import copy
import math
import pickle

import pytest
import torch
from scipy import stats

import pixyz.distributions as d
from pixyz.distributions import Normal, Truncated

T = torch.tensor


def f64(*values):
    return T(values, dtype=torch.float64)


def near(found, expected, rtol=1e-13):
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, f64(*[float(v) for v in expected]), rtol=rtol, atol=0)


def standard():
    return Normal("p(x)", loc=f64(0.0), scale=f64(1.0))


CASES = {
    "a bound": (lambda: Truncated(standard(), lower=0.1), 0.1, stats.truncnorm(0.1, math.inf).logpdf(0.1)),
    "an upper bound": (lambda: Truncated(standard(), upper=0.3), 0.3, stats.truncnorm(-math.inf, 0.3).logpdf(0.3)),
    "bounds in the tail": (
        lambda: Truncated(Normal("p(x)", loc=f64(-1.0), scale=f64(1.0)), lower=14.91, upper=20.06),
        17.0,
        -32.66508987,
    ),
    "a scale": (lambda: Normal("p(x)", loc=f64(0.7), scale=0.1), 0.4, stats.norm(0.7, 0.1).logpdf(0.4)),
    "a location beside a parameter": (
        lambda: Normal("p(x)", loc=0.1, scale=torch.nn.Parameter(f64(0.3))),
        0.4,
        stats.norm(0.1, 0.3).logpdf(0.4),
    ),
    "converted afterwards": (lambda: Normal("p(x)", loc=0.1, scale=0.3, dim=1).double(), 0.4, stats.norm(0.1, 0.3).logpdf(0.4)),
    "by way of half precision": (lambda: Normal("p(x)", loc=0.1, scale=0.3, dim=1).half().double(), 0.4, stats.norm(0.1, 0.3).logpdf(0.4)),
    "a copy": (
        lambda: pickle.loads(pickle.dumps(copy.deepcopy(Normal("p(x)", loc=0.1, scale=0.3, dim=1)))).double(),
        0.4,
        stats.norm(0.1, 0.3).logpdf(0.4),
    ),
    "a gate": (
        lambda: d.ZeroInflated(d.Poisson("p(x)", rate=f64(2.0)), gate=0.1),
        0.0,
        math.log(0.1 + 0.9 * math.exp(-2.0)),
    ),
    "components": (
        lambda: d.MixtureModel(
            [Normal("p(x)", loc=0.1, scale=0.3), Normal("p(x)", loc=f64(1.0), scale=f64(2.0))], d.Categorical("p(k)", probs=f64(0.25, 0.75))
        ),
        0.4,
        math.log(0.25 * stats.norm(0.1, 0.3).pdf(0.4) + 0.75 * stats.norm(1.0, 2.0).pdf(0.4)),
    ),
    "experts": (
        lambda: d.ProductOfNormal([Normal("p(x)", loc=f64(0.0), scale=f64(1.0)), Normal("r(x)", loc=0.1, scale=0.3)], prior=None),
        0.4,
        stats.norm(0.1 / 0.09 / (1 + 1 / 0.09), (1 + 1 / 0.09) ** -0.5).logpdf(0.4),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_number_has_all_its_digits_in_float64(case):
    make, x, expected = CASES[case]
    near(make().log_likelihood({"x": f64(x)[None]}), [expected], rtol=1e-9 if case == "bounds in the tail" else 1e-13)


def test_a_number_beside_values_or_a_network():
    x, z = f64(0.4)[None], f64(0.7)[None]
    near(Normal("p(x|z)", loc="z", scale=0.1).log_likelihood({"x": x, "z": z}), [stats.norm(0.7, 0.1).logpdf(0.4)])
    near(Normal("p(x|z)", loc=lambda z: 2 * z, scale=0.1).log_likelihood({"x": x, "z": z}), [stats.norm(1.4, 0.1).logpdf(0.4)])
    p = (Normal("p(z)", loc=0.0, scale=1.0) * Normal("p(x|z)", loc="z", scale=0.1)).condition(z=0.7).double()
    near(p.log_likelihood({"x": x[0]}), [stats.norm(0.7, 0.1).logpdf(0.4)])


def test_what_has_been_put_in_place_of_the_number_stays():
    p = Normal("p(x)", loc=0.1, scale=0.3, dim=1)
    state = {name: torch.full_like(t, 0.7) for name, t in p.state_dict().items()}
    p.load_state_dict(state)
    p = p.double()
    assert p.loc.item() == T(0.7).double().item()  # what float32 made of it was loaded
    assert Normal("p(x)", loc=0.1, scale=0.3).to("meta").double().loc.dtype == torch.float64


def test_a_network_may_return_a_whole_number():
    p = Normal("p(x|k)", lambda k: {"loc": torch.nn.functional.one_hot(k, 3).float(), "scale": 2})
    expected = stats.norm(0.0, 2.0).logpdf(0.0) * 2 + stats.norm(1.0, 2.0).logpdf(0.0)
    found = p.log_likelihood({"x": torch.zeros(1, 3), "k": T([1])})
    torch.testing.assert_close(found, T([expected], dtype=torch.float32))
