"""At the best discriminator adversarial losses are divergences, here by quadrature: both sides are exact sums over its nodes."""

import math
import re
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import nn

from pixyz.core import Enumerate, FormulaError
from pixyz.distributions import Categorical, Deterministic, Normal
from pixyz.gan import AdversarialFDivergence, AdversarialJensenShannon, AdversarialKullbackLeibler


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


class Normals:
    """Two normal densities; what there is between them, by Gauss-Legendre on the pieces where log p_data - log p has one sign."""

    def __init__(self, data, p):
        self.data, self.p = data, p
        (m, s), (n, t) = data, p
        roots = np.roots([0.5 / t**2 - 0.5 / s**2, m / s**2 - n / t**2, n**2 / (2 * t**2) - m**2 / (2 * s**2) + math.log(t / s)])
        edges = [-15.0, *sorted(roots.real), 16.0]
        points, weights = np.polynomial.legendre.leggauss(150)
        pieces = [((b - a) / 2 * points + (a + b) / 2, (b - a) / 2 * weights) for a, b in pairwise(edges)]
        self.nodes, self.weights = (torch.from_numpy(np.concatenate(x)) for x in zip(*pieces))

    def log_density(self, which, x):
        loc, scale = getattr(self, which)
        return -((x - loc) ** 2) / (2 * scale**2) - math.log(scale * math.sqrt(2 * math.pi))

    def log_ratio(self, x):
        return self.log_density("data", x) - self.log_density("p", x)

    def side(self, text, which, *, trained):
        """The distribution on the nodes, with the density's share of each."""
        name = text[0]
        look = Looked(self.nodes).requires_grad_(trained)
        logits = self.log_density(which, self.nodes) + self.weights.log()
        return (Deterministic(f"{name}(x|k_{name})", x=look) * Categorical(f"{name}(k_{name})", logits=logits)).marginalize_var(f"k_{name}")

    def integral(self, f):
        """The integral of f(p_data(x), p(x))."""
        return (self.weights * f(*[self.log_density(w, self.nodes).exp() for w in ("data", "p")])).sum().item()


class Looked(nn.Module):
    def __init__(self, nodes):
        super().__init__()
        self.register_buffer("nodes", nodes[:, None].clone())
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, k):
        return k @ self.nodes + self.shift


class OfX(nn.Module):
    """A function of x, and a parameter, 0, that is added."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.function(x) + self.offset


def of_nodes(normals, loss, v, **options):
    """The game on the nodes, against the discriminator with the numbers v(x)."""
    d = Deterministic("d(t|x)", t=OfX(v))
    p, real = normals.side("p(x)", "p", trained=True), normals.side("r(x)", "data", trained=False)
    return loss(p, d, real, estimator=Enumerate(max_enumerate=1000), **options)


ISSUE = Normals((0.0, 1.0), (1.0, 1.5))
NEAR = Normals((0.0, 1.0), (0.5, 1.2))  # between which every divergence of the table is finite


def test_the_nodes_integrate():
    for normals in (ISSUE, NEAR):
        assert normals.integral(lambda data, p: data) == pytest.approx(1, abs=1e-13)
        assert normals.integral(lambda data, p: p) == pytest.approx(1, abs=1e-13)
    (m, s), (n, t) = NEAR.data, NEAR.p
    kl = math.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5
    assert NEAR.integral(lambda data, p: data * (data / p).log()) == pytest.approx(kl, abs=1e-12)


def test_at_the_best_discriminator_the_value_is_twice_js_minus_two_log_two():
    value = of_nodes(ISSUE, AdversarialJensenShannon, ISSUE.log_ratio).estimate({}).item()
    js = ISSUE.integral(lambda data, p: 0.5 * data * (2 * data / (data + p)).log() + 0.5 * p * (2 * p / (data + p)).log())
    assert value == pytest.approx(2 * js - 2 * math.log(2), abs=1e-12)
    assert value == pytest.approx(-1.187714, abs=5e-7)
    blind = of_nodes(ISSUE, AdversarialJensenShannon, lambda x: 0 * x).estimate({}).item()
    assert blind == pytest.approx(-1.386294, abs=5e-7)


def test_at_the_best_discriminator_kl_is_that_of_the_normals():
    value = of_nodes(ISSUE, AdversarialKullbackLeibler, ISSUE.log_ratio).estimate({}).item()
    assert value == pytest.approx(math.log(1 / 1.5) + (1.5**2 + 1) / 2 - 0.5, abs=1e-12)  # KL[N(1, 1.5^2)||N(0, 1)]


# With u = p_data/p: the integrand, and the discriminator that makes the bound tight, of r = log u.
DIVERGENCES = {
    "kl": (lambda data, p: data * (data / p).log(), lambda r: 1 + r),
    "reverse_kl": (lambda data, p: p * (p / data).log(), lambda r: r),
    "pearson": (lambda data, p: (p - data) ** 2 / p, lambda r: 2 * torch.expm1(r)),
    "neyman": (lambda data, p: (p - data) ** 2 / data, lambda r: -2 * r),
    "squared_hellinger": (lambda data, p: (p.sqrt() - data.sqrt()) ** 2, lambda r: r / 2),
    "jensen_shannon": (lambda data, p: data * (2 * data / (data + p)).log() + p * (2 * p / (data + p)).log(), lambda r: r),
    "total_variation": (lambda data, p: (p - data).abs() / 2, lambda r: 1e6 * r),
}


def bound(name, v):
    return of_nodes(NEAR, AdversarialFDivergence, v, divergence=name).estimate({}).item()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_bound_of_an_f_divergence(name):
    integrand, best = DIVERGENCES[name]
    divergence = NEAR.integral(integrand)
    assert 0 < divergence < math.inf
    assert bound(name, lambda x: best(NEAR.log_ratio(x))) == pytest.approx(divergence, rel=1e-9)
    for v in (lambda x: 0 * x, torch.sin, lambda x: 0.3 * x - 0.2, lambda x: -best(NEAR.log_ratio(x))):
        assert bound(name, v) < divergence - 1e-6
    torch.manual_seed(0)
    for scale, _ in product((0.1, 1.0), range(3)):
        net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        assert bound(name, lambda x: scale * net(x)) < divergence


def test_every_divergence_is_here():
    """The error about an unknown one lists them all."""
    p, d = Normal("p(x)", loc=nn.Parameter(torch.zeros(1)), scale=1.0), Deterministic("d(t|x)", t=nn.Linear(1, 1))
    with pytest.raises(FormulaError, match=f"there is no divergence 'none'; choose one of {re.escape(', '.join(DIVERGENCES))}\\.$"):
        AdversarialFDivergence(p, d, divergence="none")


def test_the_best_logit_of_draws_has_the_value_of_quadrature():
    """Draws from the normals themselves, to three standard errors."""
    scale = nn.Parameter(torch.tensor(1.5))
    p, real = Normal("p(x)", loc=1.0, scale=scale, dim=1), Normal("r(x)", loc=0.0, scale=1.0, dim=1)
    d = Deterministic("d(t|x)", t=OfX(ISSUE.log_ratio))
    game = AdversarialJensenShannon(p, d, real)
    with torch.no_grad():
        values = torch.stack([game.estimate({}, batch_size=1000) for _ in range(100)])
    assert abs(values.mean() + 1.187714) < 3 * values.std() / 10
