# ruff: noqa: E501
"""Log-densities at large counts and shapes, with their gradients, to all digits."""

import functools

import pytest
import torch
from right_digits import exact, mp, slopes_with_condition, units, value_with_condition

import pixyz.distributions as d

FEW = 24
lg, log, exp = mp.loggamma, mp.log, mp.exp


def log_sigmoid(t):
    return -mp.log1p(exp(-t))


def poisson(x, rate):
    return x * log(rate) - rate - lg(x + 1)


def binomial(x, n, log_p, log_q):
    return lg(n + 1) - lg(x + 1) - lg(n - x + 1) + x * log_p + (n - x) * log_q


def negative_binomial(x, n, log_p, log_q):
    return lg(n + x) - lg(x + 1) - lg(n) + x * log_p + n * log_q


def of_probs(f):
    return lambda x, n, p: f(x, n, log(p), mp.log1p(-p))


def of_logits(f):
    return lambda x, n, t: f(x, n, log_sigmoid(t), log_sigmoid(-t))


def gamma(x, a, rate):
    return a * log(rate) + (a - 1) * log(x) - rate * x - lg(a)


def inverse_gamma(x, a, rate):
    return a * log(rate) - (a + 1) * log(x) - rate / x - lg(a)


def beta(x, a, b):
    return (a - 1) * log(x) + (b - 1) * mp.log1p(-x) + lg(a + b) - lg(a) - lg(b)


def student_t(x, df, loc, scale):
    z = (x - loc) / scale
    return lg((df + 1) / 2) - lg(df / 2) - log(df * mp.pi) / 2 - log(scale) - (df + 1) / 2 * mp.log1p(z * z / df)


def von_mises(x, loc, kappa):
    return kappa * (mp.cos(x - loc) - 1) - log(2 * mp.pi * mp.besseli(0, kappa) * exp(-kappa))


def kumaraswamy(x, a, b):
    return log(a) + log(b) + (a - 1) * log(x) + (b - 1) * mp.log1p(-(x**a))


# family, parameters, values, the log-density; by the value too where it is continuous
COUNTS = {
    "Poisson": (d.Poisson, ["rate"], poisson, [(3.0, 2.5), (0.0, 2.5), (100.0, 90.0), (1e7, 1e7), (1e7, 1.001e7), (1e5, 3e4), (1e12, 1e12), (20.0, 1e-3)]),
    "Binomial(probs)": (d.Binomial, ["total_count", "probs"], of_probs(binomial), [(3.0, 7.0, 0.4), (0.0, 7.0, 0.4), (7.0, 7.0, 0.4), (9990000.0, 1e7, 0.999), (100.0, 1e7, 1e-5), (5e6, 1e7, 0.499), (1e5, 1e7, 0.5)]),
    "Binomial(logits)": (d.Binomial, ["total_count", "logits"], of_logits(binomial), [(3.0, 7.0, -0.4), (0.0, 7.0, -0.4), (5e6, 1e7, 0.001), (3.0, 1e7, -15.0), (3.0, 7.0, -300.0), (1e7 - 4, 1e7, 15.0)]),
    "NegativeBinomial(logits)": (d.NegativeBinomial, ["total_count", "logits"], of_logits(negative_binomial), [(3.0, 3.5, -0.4), (0.0, 3.5, -0.4), (1e5, 10.0, 9.21034), (1e6, 10.0, 11.512925), (1e7, 10.0, 13.815511), (7.0, 1e7, -15.0), (3.0, 3.5, -300.0)]),
    "NegativeBinomial(probs)": (d.NegativeBinomial, ["total_count", "probs"], of_probs(negative_binomial), [(3.0, 3.5, 0.4), (0.0, 1e9, 1e-9), (7.0, 1e9, 4e-9), (1e6, 1e6, 0.5), (1e7, 0.3, 0.9999)]),
}  # fmt: skip
DENSITIES = {
    "Gamma(rate)": (d.Gamma, ["concentration", "rate"], gamma, [(1.3, 2.5, 2.0), (1e-3, 0.5, 2.0), (1e7, 1e7, 1.0), (1.001, 1e6, 1e6), (2e3, 1e3, 1.0), (1e-20, 0.01, 1.0), (1e-36, 3.0, 1.0)]),
    "Gamma(scale)": (d.Gamma, ["concentration", "scale"], lambda x, a, s: gamma(x, a, 1 / s), [(1.3, 2.5, 2.0), (1e7, 1e7, 1.0)]),
    "InverseGamma": (d.InverseGamma, ["concentration", "rate"], inverse_gamma, [(1.3, 2.5, 2.0), (1.0, 1e7, 1e7), (1e-3, 1e5, 99.0)]),
    "Beta": (d.Beta, ["concentration1", "concentration0"], beta, [(0.3, 2.5, 1.5), (0.5, 1e7, 1e7), (0.5001, 1e7, 1e7), (1e-6, 10.0, 1e7), (0.999, 0.3, 1e-3), (0.25, 1e5, 3e5), (1e-12, 0.5, 2.0)]),
    "StudentT": (d.StudentT, ["df", "loc", "scale"], student_t, [(1.7, 5.0, 0.5, 2.0), (1.7, 1e3, 0.5, 2.0), (-3.0, 1e7, 0.5, 2.0), (2.5, 1e12, 0.5, 2.0), (50.0, 1e4, 0.5, 2.0), (1e5, 0.1, 0.5, 2.0), (1.7, 1e-3, 0.5, 2.0)]),
    "VonMises": (d.VonMises, ["loc", "concentration"], von_mises, [(0.7, 0.5, 2.0), (0.7, 0.5, 1e-3), (0.7, 0.5, 59.0), (0.7, 0.5, 61.0), (5e-4, 0.0, 1e6), (1.581139e-4, 0.0, 1e7), (-2e-3, 1e-3, 1e5)]),
    "Kumaraswamy": (d.Kumaraswamy, ["concentration1", "concentration0"], kumaraswamy, [(0.3, 2.5, 1.5), (0.75, 50.0, 1e6), (0.9, 1e3, 1e3)]),
}  # fmt: skip
EVERY = [(name, i) for name, case in {**COUNTS, **DENSITIES}.items() for i in range(len(case[3]))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize(("name", "i"), EVERY, ids=[f"{name}-{i}" for name, i in EVERY])
def test_a_density_and_its_gradients(name, i, dtype):
    family, names, right, points = {**COUNTS, **DENSITIES}[name]
    inputs = dict(zip(["x", *names], [torch.tensor(v).to(dtype).requires_grad_() for v in points[i]]))
    found = family.log_density({n: inputs[n] for n in names}, inputs["x"])
    found.backward()
    (value, condition), slopes = truth(name, i)
    report = {"value": units(found, value, condition, dtype)}
    for n, (slope, condition) in slopes.items():
        report[n] = units(inputs[n].grad, slope, condition, dtype)
    assert all(v <= FEW for v in report.values()), report


@functools.cache
def truth(name, i):
    """The log-density and its derivatives by what is continuous, each with its condition, at numbers of single precision."""
    _, names, right, points = {**COUNTS, **DENSITIES}[name]
    point = {n: exact(torch.tensor(v)) for n, v in zip(["x", *names], points[i])}
    free = [n for n in point if name in DENSITIES or n not in ("x", *(["total_count"] if name.startswith("Binomial") else []))]
    slopes = slopes_with_condition(
        lambda *at: right(*{**point, **dict(zip(free, at))}.values()), tuple(point[n] for n in free), least=int("logits" in names)
    )
    return value_with_condition(right, tuple(point.values()), floor=1), dict(zip(free, slopes))
