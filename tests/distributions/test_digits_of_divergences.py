# ruff: noqa: E501
"""Closed-form KL divergences, small between nearly equal distributions: relative to themselves they have all digits, and none is negative."""

import pytest
import torch
from right_digits import exact, mp, units

import pixyz.distributions as d

lg, log, exp, psi, e = mp.loggamma, mp.log, mp.exp, mp.digamma, mp.euler


def poisson(a, b):
    return a * log(a / b) - a + b if a else b


def of_probs(times=lambda a: 1):
    return lambda a, b: times(a) * (a * log(a / b) + (1 - a) * log((1 - a) / (1 - b)))


def of_logits(times=lambda a: 1):
    return lambda s, t: of_probs(times)(1 / (1 + exp(-s)), 1 / (1 + exp(-t)))


def gamma(a, r, b, s):
    return b * log(r / s) + lg(b) - lg(a) + (a - b) * psi(a) + a * (s - r) / r


def dirichlet(*ab):
    a, b = ab[: len(ab) // 2], ab[len(ab) // 2 :]
    logs = sum((x - y) * (psi(x) - psi(sum(a))) + lg(y) - lg(x) for x, y in zip(a, b))
    return logs + lg(sum(a)) - lg(sum(b))


def normal(m, s, n, t):
    return log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - mp.mpf(1) / 2


def laplace(m, s, n, t):
    return log(t / s) - 1 + (abs(m - n) + s * exp(-abs(m - n) / s)) / t


def cauchy(m, s, n, t):
    return log(((s + t) ** 2 + (m - n) ** 2) / (4 * s * t))


def gumbel(m, s, n, t):
    return log(t / s) + e * (s / t - 1) - 1 + (m - n) / t + exp((n - m) / t + lg(1 + s / t))


def weibull(s, k, t, m):
    return log(k / s**k) - log(m / t**m) + (k - m) * (log(s) - e / k) + (s / t) ** m * mp.gamma(m / k + 1) - 1


def pareto(m, a, n, b):
    return log(a / b) + b * log(m / n) + b / a - 1


def uniform(a, b, c, f):
    return log((f - c) / (b - a))


def categorical(*ab):
    a, b = ab[: len(ab) // 2], ab[len(ab) // 2 :]
    return sum(x / sum(a) * log(x / sum(a) / (y / sum(b))) for x, y in zip(a, b) if x)


def of_logs(*ab):
    return categorical(*[exp(t) for t in ab])


def continuous_bernoulli(s, t):
    a = log(s / (exp(s) - 1)) if s else mp.mpf(0)
    mean = 1 / (1 - exp(-s)) - 1 / s if s else mp.mpf(1) / 2
    return mean * (s - t) + a - log(t / (exp(t) - 1))


def von_mises(m, k, n, j):
    ratio = mp.besseli(1, k) / mp.besseli(0, k)
    return log(mp.besseli(0, j) / mp.besseli(0, k)) + ratio * (k - j * mp.cos(m - n))


def tril(a, b, c, f, g, h):
    # of the means 0 and the Cholesky factors ((a, 0), (b, c)) and ((f, 0), (g, h))
    top = a / f
    low = (b - g * top) / h, c / h
    return (top**2 + low[0] ** 2 + low[1] ** 2) / 2 - 1 - log(top * low[1])


def factors(t):
    one = torch.zeros((), dtype=t.dtype)
    return {"loc": torch.zeros(2, dtype=t.dtype), "scale_tril": torch.stack([torch.stack([t[0], one]), t[1:]])}


def vector(name):
    return lambda t: {name: t}


def named(*names, **more):
    return lambda t: {**dict(zip(names, t.unbind())), **{k: torch.tensor(v, dtype=t.dtype) for k, v in more.items()}}


LOC_SCALE = [
    (0.5, 2.0, 0.5001, 2.0001),
    (0.5, 2.0, 0.5, 2.0000002),
    (1e5, 2.0, 100000.0078125, 2.0),
    (0.5, 2.0, -3.0, 1.2),
    (0.0, 1e-9, 0.0, 1.0),
    (-3.0, 7.0, 0.5, 1.2),
]
LOGITS = [(0.3, 0.3001), (0.001, 0.0010001), (-9.0, -9.0001), (-0.4, 3.0), (12.0, 12.5), (8.0, -8.0)]
PROBS = [(0.3, 0.30001), (1e-10, 1.001e-10), (0.4, 0.9), (1e-10, 1e-8), (0.999, 0.9991)]
SIMPLEX = [(0.25, 0.5, 0.25, 0.2501220703125, 0.499755859375, 0.2501220703125), (0.25, 0.75, 0.0, 0.5, 0.375, 0.125)]
SCORES = [
    (0.1, -1.0, 2.0, 0.1001, -1.0, 2.0),
    (0.125, -1.0, 2.0, 4.125, 3.0, 6.001953125),
    (0.1, -1.0, 2.0, -0.9, 1.0, 4.0),
    (0.0, -12.0, 0.0, 0.0, -11.5, 0.0),
]
SHAPES = [
    (2.5, 2.0, 2.5001, 2.0001),
    (8388608.0, 1.0, 8396800.0, 1.0009765625),
    (1e7, 3.0, 1.0001e7, 3.0),
    (0.1, 2.0, 0.2, 1.0),
    (3.0, 1.0, 40.0, 7.0),
    (1e-3, 1.0, 1.001e-3, 1.0),
    (12.0, 1.0, 14.0, 1.25),
    (1e7, 1e7, 1.0, 1.0),
]
PAIRS = [(2.0, 3.0, 2.0001, 3.0), (1e7, 1e7, 1.001e7, 1.001e7), (1e6, 1e3, 1.0001e6, 1e3), (0.5, 0.1, 3.0, 8.0), (1e-3, 5.0, 1.001e-3, 5.0)]
RATES = [(1e4, 1.001e4), (100.0, 100.001), (2.5, 4.0), (1e7, 10000001.0), (2.5, 2.6), (1e-8, 3.0)]

# family, the parameters of numbers, KL, the numbers of both sides
CASES = {
    "Poisson": (d.Poisson, named("rate"), poisson, [*RATES, (0.0, 3.0)]),
    "Exponential(rate)": (d.Exponential, named("rate"), lambda a, b: poisson(a, b) / a, RATES),
    "Exponential(scale)": (d.Exponential, named("scale"), lambda a, b: poisson(b, a) / b, RATES),
    "Bernoulli(probs)": (d.Bernoulli, named("probs"), of_probs(), PROBS),
    "Bernoulli(logits)": (d.Bernoulli, named("logits"), of_logits(), LOGITS),
    "Geometric(probs)": (d.Geometric, named("probs"), of_probs(lambda a: 1 / a), PROBS),
    "Geometric(logits)": (d.Geometric, named("logits"), of_logits(lambda a: 1 / a), LOGITS),
    "Binomial(logits)": (d.Binomial, named("logits", total_count=1000.0), of_logits(lambda a: 1000), LOGITS),
    "NegativeBinomial(probs)": (d.NegativeBinomial, named("probs", total_count=1000.0), of_probs(lambda a: 1000 / (1 - a)), PROBS),
    "Categorical(probs)": (d.Categorical, vector("probs"), categorical, SIMPLEX),
    "Categorical(logits)": (d.Categorical, vector("logits"), of_logs, SCORES),
    "CategoricalIndex(logits)": (d.CategoricalIndex, vector("logits"), of_logs, SCORES[:1]),
    "Multinomial(logits)": (d.Multinomial, lambda t: {"logits": t, "total_count": t.new_tensor(1000.0)}, lambda *ab: 1000 * of_logs(*ab), SCORES[:2]),
    "ContinuousBernoulli": (d.ContinuousBernoulli, named("logits"), continuous_bernoulli, [(0.3, 0.3001), (4.0, 4.001), (0.0, 1e-3), (-2.0, 3.0)]),
    "Gamma": (d.Gamma, named("concentration", "rate"), gamma, SHAPES),
    "Gamma(scale)": (d.Gamma, named("concentration", "scale"), lambda a, r, b, s: gamma(a, 1 / r, b, 1 / s), SHAPES[:2]),
    "InverseGamma": (d.InverseGamma, named("concentration", "rate"), gamma, SHAPES[:2]),
    "Beta": (d.Beta, named("concentration1", "concentration0"), dirichlet, PAIRS),
    "Dirichlet": (d.Dirichlet, vector("concentration"), dirichlet, [(1.5, 2.5, 3.0, 1.5, 2.501, 3.0), (1e6, 2e6, 3.0, 1.001e6, 2.002e6, 3.0)]),
    "Normal": (d.Normal, named("loc", "scale"), normal, LOC_SCALE),
    "LogNormal": (d.LogNormal, named("loc", "scale"), normal, LOC_SCALE[:1]),
    "HalfNormal": (d.HalfNormal, named("scale"), lambda s, t: normal(0, s, 0, t), [(2.0, 2.0001), (1e-9, 1.0), (2.0, 1.2)]),
    "Laplace": (d.Laplace, named("loc", "scale"), laplace, LOC_SCALE),
    "Cauchy": (d.Cauchy, named("loc", "scale"), cauchy, LOC_SCALE),
    "Gumbel": (d.Gumbel, named("loc", "scale"), gumbel, LOC_SCALE),
    "Weibull": (d.Weibull, named("scale", "concentration"), weibull, [(2.0, 1.5, 2.0001, 1.5), (2.0, 1.5, 2.0, 1.5001), (2.0, 1.5, 1.4, 2.1)]),
    "Pareto": (d.Pareto, named("scale", "alpha"), pareto, [(2.0, 5.5, 2.0, 5.501), (2.0001, 5.5, 2.0, 5.5), (2.0, 5.5, 1.4, 3.1)]),
    "Uniform": (d.Uniform, named("low", "high"), uniform, [(-1.0, 2.5, -1.0001, 2.5), (-1.0, 2.5, -7.0, 9.0)]),
    "VonMises": (d.VonMises, named("loc", "concentration"), von_mises, [(0.5, 2.0, 0.5001, 2.0), (0.5, 2.0, 0.5, 2.0001), (0.5, 1e5, 0.5, 1.001e5), (0.5, 59.0, 0.5, 61.0), (0.5, 1e3, 0.7, 9e2), (0.5, 2.0, -0.7, 0.8), (0.5, 1e2, 0.5, 9e2), (0.5, 1e5, 0.6, 2e4)]),
    "MultivariateNormal": (d.MultivariateNormal, factors, tril, [(1.0, 0.5, 2.0, 1.0001, 0.5, 2.0), (1.0, 0.5, 2.0, 1.0, 0.5001, 2.0), (1.0, 0.5, 2.0, 0.9, -0.3, 1.3)]),
}  # fmt: skip
FEW, MANY = 100, {"VonMises": 4000}
EVERY = [(name, i) for name, case in CASES.items() for i in range(len(case[3]))]


@pytest.mark.parametrize(("name", "i"), EVERY, ids=[f"{name}-{i}" for name, i in EVERY])
def test_a_divergence_has_all_digits(name, i):
    family, parameters, right, points = CASES[name]
    numbers = torch.tensor(points[i])
    truth = right(*[exact(t) for t in numbers])
    for dtype in (torch.float32, torch.float64):
        p, q = (parameters(t) for t in numbers.to(dtype).chunk(2))
        found = family.kl(p, q)
        assert found >= 0
        assert units(found, truth, abs(truth), dtype) <= MANY.get(name, FEW), (found, truth)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("Pareto", "Uniform")])  # at the rim of their supports
def test_the_divergence_of_equals_is_zero_with_a_gradient_of_zero(name):
    family, parameters, _, points = CASES[name]
    numbers = torch.tensor(points[0], dtype=torch.float64).chunk(2)[0].requires_grad_()
    found = family.kl(parameters(numbers), parameters(numbers.detach()))
    found.backward()
    assert found == 0
    torch.testing.assert_close(numbers.grad, torch.zeros_like(numbers), rtol=0, atol=1e-12)


def test_every_closed_form_is_here():
    known = {
        c for c in vars(d).values() if isinstance(c, type) and issubclass(c, d.Family) and "parametrisations" in vars(c) and c.knows("kl")
    }
    assert known - {family for family, *_ in CASES.values()} == {d.LowRankMultivariateNormal}  # that of a MultivariateNormal
