# ruff: noqa: E501
"""Means, variances and entropies at large and small parameters; densities of vectors; gradients at very large and small scales."""

import functools

import pytest
import torch
from right_digits import exact, mp, slopes_with_condition, units

import pixyz.distributions as d

FEW = 60
lg, log, exp, psi, e = mp.loggamma, mp.log, mp.exp, mp.digamma, mp.euler


def kumaraswamy(n):
    return lambda a, b: exp(log(b) + lg(1 + n / a) + lg(b) - lg(1 + n / a + b))


def variance(moment):
    return lambda *at: moment(2)(*at) - moment(1)(*at) ** 2


def weibull(n):
    return lambda s, k: s**n * mp.gamma(1 + n / k)


def dirichlet_entropy(*a):
    total = sum(a)
    return sum(lg(x) - (x - 1) * psi(x) for x in a) - lg(total) + (total - len(a)) * psi(total)


def student_entropy(df, loc, scale):
    gap = psi((df + 1) / 2) - psi(df / 2)
    return (df + 1) / 2 * gap + log(df) / 2 + lg(mp.mpf(1) / 2) + lg(df / 2) - lg((df + 1) / 2) + log(scale)


def von_mises_entropy(loc, k):
    return log(2 * mp.pi * mp.besseli(0, k)) - k * mp.besseli(1, k) / mp.besseli(0, k)


def sigmoid(t):
    return 1 / (1 + exp(-t))


def softmax(*t):
    return [exp(s) / sum(exp(r) for r in t) for s in t]


def index_variance(*t):
    pi = softmax(*t)
    mean = sum(k * p for k, p in enumerate(pi))
    return sum((k - mean) ** 2 * p for k, p in enumerate(pi))


# family, parameters, statistic, the right value, numbers
NUMBERS = {
    "Kumaraswamy mean": (d.Kumaraswamy, "concentration1 concentration0", "mean", kumaraswamy(1), [(2.5, 1.5), (50.0, 1e6), (1e3, 1e3), (0.1, 20.0)]),
    "Kumaraswamy variance": (d.Kumaraswamy, "concentration1 concentration0", "variance", variance(kumaraswamy), [(2.5, 1.5), (50.0, 1e6), (1e3, 1e3), (1e6, 3.0)]),
    "Weibull mean": (d.Weibull, "scale concentration", "mean", weibull(1), [(2.0, 1.5), (2.0, 1e4), (2.0, 0.2)]),
    "Weibull variance": (d.Weibull, "scale concentration", "variance", variance(weibull), [(2.0, 1.5), (2.0, 1e4), (2.0, 0.2)]),
    "Beta variance": (d.Beta, "concentration1 concentration0", "variance", lambda a, b: a * b / (a + b) ** 2 / (a + b + 1), [(2.5, 1.5), (1e14, 1e14), (1e-3, 5.0)]),
    "Beta entropy": (d.Beta, "concentration1 concentration0", "entropy", dirichlet_entropy, [(2.5, 1.5), (1e7, 1e7), (1e7, 3.0), (0.2, 0.5)]),
    "Gamma variance": (d.Gamma, "concentration rate", "variance", lambda a, r: a / r**2, [(2.5, 2.0), (1e20, 1e25)]),
    "Gamma entropy": (d.Gamma, "concentration rate", "entropy", lambda a, r: a - log(r) + lg(a) + (1 - a) * psi(a), [(2.5, 2.0), (1e7, 3.0), (1e-2, 1.0)]),
    "InverseGamma variance": (d.InverseGamma, "concentration rate", "variance", lambda a, r: (r / (a - 1)) ** 2 / (a - 2), [(4.5, 2.0), (1e13, 1e25)]),
    "InverseGamma entropy": (d.InverseGamma, "concentration rate", "entropy", lambda a, r: a + log(r) + lg(a) - (1 + a) * psi(a), [(4.5, 2.0), (1e7, 3.0)]),
    "LogNormal variance": (d.LogNormal, "loc scale", "variance", lambda m, s: (exp(s**2) - 1) * exp(2 * m + s**2), [(0.3, 0.7), (-64.0, 8.0), (0.5, 1e-3)]),
    "Pareto variance": (d.Pareto, "scale alpha", "variance", lambda m, a: m**2 * a / ((a - 1) ** 2 * (a - 2)), [(2.0, 5.5), (1e3, 1e13)]),
    "StudentT variance": (d.StudentT, "df loc scale", "variance", lambda df, m, s: s**2 * df / (df - 2), [(5.0, 0.5, 2.0), (1e30, 0.5, 1e9)]),
    "StudentT entropy": (d.StudentT, "df loc scale", "entropy", student_entropy, [(5.0, 0.5, 2.0), (1e7, 0.5, 2.0), (1e-2, 0.5, 2.0)]),
    "VonMises entropy": (d.VonMises, "loc concentration", "entropy", von_mises_entropy, [(0.5, 2.0), (0.5, 16.0), (0.5, 31.0), (0.5, 1e7), (0.5, 1e-3)]),
    "Geometric mean": (d.Geometric, "probs", "mean", lambda p: (1 - p) / p, [(0.4,), (1e-30,)]),
    "Geometric variance": (d.Geometric, "logits", "variance", lambda t: exp(-t) / sigmoid(t), [(-0.4,), (30.0,), (-40.0,)]),
    "NegativeBinomial variance": (d.NegativeBinomial, "total_count logits", "variance", lambda n, t: n * exp(t) / sigmoid(-t), [(3.5, -0.4), (3.5, 30.0)]),
    "Bernoulli variance": (d.Bernoulli, "logits", "variance", lambda t: sigmoid(t) * sigmoid(-t), [(0.3,), (20.0,)]),
    "Binomial variance": (d.Binomial, "total_count logits", "variance", lambda n, t: n * sigmoid(t) * sigmoid(-t), [(7.0, 0.3), (1e7, 20.0)]),
}  # fmt: skip
VECTORS = {
    "Dirichlet variance": (d.Dirichlet, "concentration", "variance", lambda *a: [x * (sum(a) - x) / sum(a) ** 2 / (sum(a) + 1) for x in a], [(1.5, 2.5, 3.0), (1e8, 1.0, 3.0)]),
    "Dirichlet entropy": (d.Dirichlet, "concentration", "entropy", dirichlet_entropy, [(1.5, 2.5, 3.0), (1e7, 2e7, 3.0)]),
    "Categorical variance": (d.Categorical, "logits", "variance", lambda *t: [p * (1 - p) for p in softmax(*t)], [(0.3, 1.0, -2.0), (25.0, 0.0, -3.0)]),
    "CategoricalIndex variance": (d.CategoricalIndex, "logits", "variance", index_variance, [(0.3, 1.0, -2.0), tuple([0.0] * 499 + [30.0, 0.0])]),
}  # fmt: skip
EVERY = [(name, i) for name, case in {**NUMBERS, **VECTORS}.items() for i in range(len(case[4]))]


@pytest.mark.parametrize(("name", "i"), EVERY, ids=[f"{name}-{i}" for name, i in EVERY])
def test_a_moment(name, i):
    """A variance relative to itself, an entropy to what is above 1 of it."""
    family, names, statistic, right, points = {**NUMBERS, **VECTORS}[name]
    numbers = torch.tensor(points[i])
    truth = right(*[exact(t) for t in numbers])
    for dtype in (torch.float32, torch.float64):
        given = numbers.to(dtype)
        found = getattr(family, f"{statistic}_of")({names: given} if name in VECTORS else dict(zip(names.split(), given)))
        for f, t in zip(found.reshape(-1), truth if isinstance(truth, list) else [truth]):
            assert units(f, t, max(abs(t), 1) if statistic == "entropy" else abs(t), dtype) <= FEW, (dtype, f, t)


def dirichlet(x, a):
    return sum((s - 1) * log(t / sum(x)) - lg(s) for s, t in zip(a, x)) + lg(sum(a))


def multinomial(x, p):
    return lg(sum(x) + 1) + sum(t * log(q / sum(p)) - lg(t + 1) for t, q in zip(x, p))


def power_spherical(x, loc, kappa):
    x, loc = ([t / mp.sqrt(sum(s**2 for s in v)) for t in v] for v in (x, loc))
    beta = mp.mpf(len(x) - 1) / 2
    total = 2 * beta + kappa
    return kappa * mp.log1p(sum(s * t for s, t in zip(x, loc))) - total * log(2) - beta * log(mp.pi) - lg(beta + kappa) + lg(total)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("x", "alpha"), [((0.25, 0.5, 0.25), (1e6, 2e6, 1.001e6)), ((0.2, 0.3, 0.5), (2.5, 3.5, 1.0)), ((0.001, 0.499, 0.5), (1e4, 5e6, 5e6))]
)
def test_a_dirichlet_density(x, alpha, dtype):
    """Of elements whose sum is 1 but for rounding as if it were 1."""
    x, alpha = torch.tensor(x, dtype=dtype), torch.tensor(alpha, dtype=dtype)
    right = dirichlet(*([exact(t) for t in v] for v in (x, alpha)))
    condition = abs(right) + sum(abs(exact(a) - sum(alpha).item() * exact(t)) for a, t in zip(alpha, x)) + len(x) * 10
    assert units(d.Dirichlet.log_density({"concentration": alpha}, x), right, condition, dtype) <= 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("x", "alpha"),
    [
        ((0.0, 0.4, 0.6), (1.0, 1.0, 1.0)),
        ((0.0, 0.4, 0.6), (1.0, 2.0, 3.0)),
        ((0.2, 0.3, 0.5), (1.5, 2.5, 3.0)),
        ((0.2, 0.3, 0.5), (1e6, 2e6, 3e6)),
    ],
)
def test_slopes_of_a_dirichlet_density(x, alpha, dtype):
    """(α - 1) / x, and 0 on the rim where α is 1: also across the rim, where the slopes of the other elements alone would be off by Σα."""
    x, alpha = torch.tensor(x, dtype=dtype, requires_grad=True), torch.tensor(alpha, dtype=dtype)
    (found,) = torch.autograd.grad(d.Dirichlet.log_density({"concentration": alpha}, x), x)
    right = [(a - 1) / t if t else 0.0 for a, t in zip(alpha.tolist(), x.tolist())]
    assert (found - torch.tensor(right, dtype=dtype)).abs().max() <= 10 * torch.finfo(dtype).eps * alpha.sum() / x[x > 0].min()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("x", "probs"),
    [((3.0, 0.0, 4.0), (0.25, 0.25, 0.5)), ((2.5e6, 2.5e6, 5e6), (0.25, 0.25, 0.5)), ((1e6, 2e6, 5e6), (0.125, 0.25, 0.625))],
)
def test_a_multinomial_density(x, probs, dtype):
    x, probs = torch.tensor(x), torch.tensor(probs)
    right = multinomial(*([exact(t) for t in v] for v in (x, probs)))
    for given in ({"probs": probs.to(dtype)}, {"logits": probs.to(torch.float64).log().to(dtype)}):
        found = d.Multinomial.log_density({"total_count": x.sum().to(dtype), **given}, x.to(dtype))
        gap = sum(abs(exact(t) - exact(x.sum()) * exact(p)) for t, p in zip(x, probs))
        assert units(found, right, abs(right) + gap + 30, dtype) <= 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("x", "kappa"), [((0.48, 0.6, 0.64), 1e6), ((0.481, 0.6, 0.64), 1e6), ((-0.48, -0.6, 0.64), 3.0), ((0.6, 0.64, 0.48), 30.0)]
)
def test_a_power_spherical_density(x, kappa, dtype):
    x, loc = (torch.nn.functional.normalize(torch.tensor(v, dtype=dtype), dim=0) for v in (x, (0.48, 0.6, 0.64000001)))
    kappa = torch.tensor(kappa, dtype=dtype)
    right = power_spherical([exact(t) for t in x], [exact(t) for t in loc], exact(kappa))
    found = d.PowerSpherical.log_density({"loc": loc, "concentration": kappa}, x)
    apart = (x - loc).norm().item()
    assert units(found, right, abs(right) + 10 + kappa.item() * apart * (1 if apart < 1 else 100), dtype) <= 10


def cauchy(x, m, s):
    return -log(mp.pi * s) - mp.log1p(((x - m) / s) ** 2)


SCALED = {
    "Normal": (d.Normal, lambda x, m, s: -log(s) - ((x - m) / s) ** 2 / 2 - log(2 * mp.pi) / 2),
    "Laplace": (d.Laplace, lambda x, m, s: -log(2 * s) - abs(x - m) / s),
    "Cauchy": (d.Cauchy, cauchy),
    "Logistic": (d.Logistic, lambda x, m, s: -(x - m) / s - log(s) - 2 * mp.log1p(exp(-(x - m) / s))),
    "Gumbel": (d.Gumbel, lambda x, m, s: -(x - m) / s - exp(-(x - m) / s) - log(s)),
    "StudentT": (d.StudentT, lambda x, m, s: -3 * mp.log1p(((x - m) / s) ** 2 / 5) - log(s) + lg(3) - lg(mp.mpf(5) / 2) - log(5 * mp.pi) / 2),
    "HalfNormal": (d.HalfNormal, lambda x, m, s: -((x / s) ** 2) / 2 - log(s) - log(mp.pi / 2) / 2),
    "Exponential": (d.Exponential, lambda x, m, s: -log(s) - x / s),
    "Weibull": (d.Weibull, lambda x, m, s: log(mp.mpf(3) / 2 / s) + log(x / s) / 2 - (x / s) ** (mp.mpf(3) / 2)),
    "Gamma": (d.Gamma, lambda x, m, s: log(x / s) * 3 / 2 - x / s - lg(mp.mpf(5) / 2) - log(s)),
}  # fmt: skip
MORE = {"StudentT": {"df": 5.0}, "Weibull": {"concentration": 1.5}, "Gamma": {"concentration": 2.5}}


@functools.cache
def at_two_scales(name):
    """The log-density two scales away, and its slopes by the value and by the scale, in units of the scale: there log p is less by log σ."""
    right = SCALED[name][1]
    (by_x, _), (by_scale, _) = slopes_with_condition(lambda t, u: right(t, mp.mpf(0), u), (mp.mpf(2), mp.mpf(1)))
    return right(mp.mpf(2), mp.mpf(0), mp.mpf(1)), by_x, by_scale


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float16", 2e-4), ("float16", 300.0), ("float16", 2e4), ("bfloat16", 1e-30), ("bfloat16", 1e30), ("float32", 1e-30), ("float32", 1e30), ("float64", 1e-290), ("float64", 1e290)],
)  # fmt: skip
@pytest.mark.parametrize("name", SCALED)
def test_gradients_do_not_square_a_scale(name, dtype, scale):
    """By the scale and by the value two scales away, where each is of the order of 1/σ."""
    family, _ = SCALED[name]
    dtype = getattr(torch, dtype)
    s = torch.tensor(scale, dtype=dtype, requires_grad=True)
    x = (2 * s).detach().requires_grad_()
    params = {k: v for k, v in {"loc": torch.zeros((), dtype=dtype), "scale": s}.items() if k in family.supports}
    found = family.log_density({**params, **{k: torch.tensor(v, dtype=dtype) for k, v in MORE.get(name, {}).items()}}, x)
    found.backward()
    unit = exact(s.detach())
    value, by_x, by_scale = at_two_scales(name)
    value = value - log(unit)
    assert units(found.detach(), value, abs(value) + abs(log(unit)) + 3, dtype) <= 8
    assert units(x.grad, by_x / unit, 3 / unit, dtype) <= 8
    assert units(s.grad, by_scale / unit, 5 / unit, dtype) <= 8
