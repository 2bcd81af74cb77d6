"""Adversarial losses against tables computed by hand, and against divergences by quadrature."""

import inspect
import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import nn

import pixyz.gan
from pixyz.core import Enumerate, Game, KindError
from pixyz.distributions import Bernoulli, Categorical, Deterministic, Normal
from pixyz.gan import (
    R1,
    R2,
    AdversarialFDivergence,
    AdversarialJensenShannon,
    AdversarialKullbackLeibler,
    AdversarialNonSaturating,
    AdversarialWassersteinDistance,
    GradientPenalty,
)


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


class Scaled(nn.Module):
    """w times its only input, or the sum of its inputs; w is 1."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(()))

    def forward(self, *inputs):
        return self.w * sum(inputs)


class Square(Scaled):
    """w x^2/2, whose slope is w x."""

    def forward(self, x):
        return self.w * x**2 / 2


REAL, FAKE = (2.0, -1.0), (0.5, -3.0)  # what d says of two data and of two fakes


def column(numbers):
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


VALUES = {"x": column(REAL), "z": column(FAKE)}


def generator(text="p(x|z)"):
    """What returns the z that is given: the fakes are fixed."""
    return Deterministic(text, x=Scaled())


def discriminator(kind=Deterministic, net=Scaled):
    return Deterministic("d(t|x)", t=net()) if kind is Deterministic else Bernoulli("d(t|x)", logits=net())


def sigma(t):
    return 1 / (1 + math.exp(-t))


def log(*numbers):
    """Mean of logarithms."""
    return sum(math.log(x) for x in numbers) / len(numbers)


def mean(*numbers):
    return sum(numbers) / len(numbers)


JS = log(sigma(2), sigma(-1)) + log(1 - sigma(0.5), 1 - sigma(-3))
PAIRED = log(sigma(1.5), sigma(2))
AVERAGED = log(sigma(3.25), sigma(0.25)) + log(sigma(0), sigma(3.5))

# What d maximises; what p minimises of it.
TABLE = {
    "AdversarialJensenShannon": (JS, log(1 - sigma(0.5), 1 - sigma(-3))),
    "AdversarialNonSaturating": (JS, -log(sigma(0.5), sigma(-3))),
    "AdversarialKullbackLeibler": (JS, 1.25),  # -(0.5 - 3)/2
    "AdversarialWassersteinDistance": (0.5 + 1.25, 1.25),
    "AdversarialHinge": (-mean(0, 2) - mean(1.5, 0), 1.25),
    "AdversarialLeastSquares": (-mean(1, 4) / 2 - mean(0.25, 9) / 2, mean(0.25, 16) / 2),
    "RelativisticPairing": (PAIRED, -log(sigma(-1.5), sigma(-2))),
    "RelativisticAverage": (AVERAGED, -log(sigma(-3.25), sigma(-0.25)) - log(sigma(0), sigma(-3.5))),
}
F_TABLE = {
    "kl": (0.5, mean(math.exp(-0.5), math.exp(-4))),
    "reverse_kl": (mean(-math.exp(-2), -math.exp(1)), mean(-0.5, -4)),
    "pearson": (0.5, mean(0.25 / 4 + 0.5, 9 / 4 - 3)),
    "neyman": (mean(1 - math.exp(2), 1 - math.exp(-1)), mean(2 - 2 * math.exp(0.25), 2 - 2 * math.exp(-1.5))),
    "squared_hellinger": (mean(1 - math.exp(-2), 1 - math.exp(1)), mean(math.exp(0.5) - 1, math.exp(-3) - 1)),
    "jensen_shannon": (log(2 * sigma(2), 2 * sigma(-1)), -log(2 - 2 * sigma(0.5), 2 - 2 * sigma(-3))),
    "total_variation": (mean(math.tanh(2), math.tanh(-1)) / 2, mean(math.tanh(0.5), math.tanh(-3)) / 2),
}
TABLE |= {f"AdversarialFDivergence {name}": (g - conjugate, -conjugate) for name, (g, conjugate) in F_TABLE.items()}

PENALTIES = {
    "R1": mean(4, 1),  # the slope of x^2/2 is x
    "R2": mean(0.25, 9),
    "GradientPenalty": None,  # at random places: a test of its own
}
# What the other side minimises where the data are the draws of a distribution with parameters: of r, its part alone.
BOTH = {
    "AdversarialJensenShannon": log(sigma(2), sigma(-1)),
    "AdversarialNonSaturating": -log(1 - sigma(2), 1 - sigma(-1)),
    "AdversarialWassersteinDistance": 0.5,
    "AdversarialHinge": 0.5,
    "AdversarialLeastSquares": mean(4, 1) / 2,
}


def made(name, p, d, real=None, **options):
    loss, _, divergence = name.partition(" ")
    if divergence:
        options["divergence"] = divergence
    return getattr(pixyz.gan, loss)(p, d, *([] if real is None else [real]), **options)


def test_every_game_of_the_package_is_in_a_table():
    games = {name for name in pixyz.gan.__all__ if inspect.isclass(x := getattr(pixyz.gan, name)) and issubclass(x, Game)}
    assert {name.partition(" ")[0] for name in [*TABLE, *PENALTIES]} == games
    assert set(F_TABLE) == set(pixyz.gan._f_divergence.DIVERGENCES)


@pytest.mark.parametrize("kind", [Deterministic, Bernoulli])
@pytest.mark.parametrize("name", TABLE)
def test_each_side_plays_for_what_the_table_says(name, kind):
    p, d = generator(), discriminator(kind)
    game = made(name, p, d)
    most, least = TABLE[name]
    assert game.for_player(d).estimate(VALUES).item() == pytest.approx(-most, abs=1e-12)
    assert game.for_player(p).estimate(VALUES).item() == pytest.approx(least, abs=1e-12)


@pytest.mark.parametrize("name", TABLE)
def test_p_can_imitate_a_distribution_without_parameters(name):
    p, d, real = generator(), discriminator(), Deterministic("r(x|u)", x=Scaled().requires_grad_(False))
    game = made(name, p, d, real)
    most, least = TABLE[name]
    values = {"u": VALUES["x"], "z": VALUES["z"]}
    assert game.for_player(d).estimate(values).item() == pytest.approx(-most, abs=1e-12)
    assert game.for_player(p).estimate(values).item() == pytest.approx(least, abs=1e-12)


@pytest.mark.parametrize("name", BOTH)
def test_both_sides_are_trained_if_both_have_parameters(name):
    p, d, real = generator(), discriminator(), generator("r(x|u)")
    game = made(name, p, d, real)
    values = {"u": VALUES["x"], "z": VALUES["z"]}
    assert game.for_player(d).estimate(values).item() == pytest.approx(-TABLE[name][0], abs=1e-12)
    assert game.for_player(p).estimate(values).item() == pytest.approx(TABLE[name][1], abs=1e-12)
    assert game.for_player(real).estimate(values).item() == pytest.approx(BOTH[name], abs=1e-12)
    assert game.estimate(values).item() == pytest.approx(TABLE[name][1] + BOTH[name], abs=1e-12)


def test_what_is_given_reaches_both_players():
    p, d = Deterministic("p(x|z,y)", x=Scaled()), Deterministic("d(t|x,y)", t=Scaled())
    game = AdversarialWassersteinDistance(p, d)
    values = {**VALUES, "y": column([1.0, 10.0])}
    fake = mean(0.5 + 1 + 1, -3 + 10 + 10)
    assert game.for_player(d).estimate(values).item() == pytest.approx(fake - mean(2 + 1, -1 + 10), abs=1e-12)
    assert game.for_player(p).estimate(values).item() == pytest.approx(-fake, abs=1e-12)


def test_a_discriminator_of_a_pair():
    """ALI: (x, z) of the generator against (x, z) of the encoder."""
    p = generator("p(x|z)") * Deterministic("p(z|e)", z=Scaled())
    q, d = Deterministic("q(z|x)", z=Scaled()), Deterministic("d(t|x,z)", t=Scaled())
    game = AdversarialNonSaturating(p, d, q)
    values = {"x": column(REAL), "e": column(FAKE)}
    assert str(game) == (
        "min_p,q -E_p_data(e)p(x,z|e)[log d(x,z)] - E_p_data(x)q(z|x)[log (1 - d(x,z))]; "
        "max_d E_p_data(x)q(z|x)[log d(x,z)] + E_p_data(e)p(x,z|e)[log (1 - d(x,z))]"
    )
    assert game.for_player(d).estimate(values).item() == pytest.approx(-log(sigma(4), sigma(-2)) - log(sigma(-1), sigma(6)), abs=1e-12)
    assert game.for_player(p).estimate(values).item() == pytest.approx(-log(sigma(1), sigma(-6)), abs=1e-12)
    assert game.for_player(q).estimate(values).item() == pytest.approx(-log(sigma(-4), sigma(2)), abs=1e-12)


@pytest.mark.parametrize("penalty", [R1, R2])
@pytest.mark.parametrize("kind", [Deterministic, Bernoulli])
def test_the_squared_slopes(penalty, kind):
    d = discriminator(kind, Square)
    p, want = generator(), PENALTIES[penalty.__name__]
    game = AdversarialWassersteinDistance(p, d) - penalty(p, d)
    distance = mean(4, 1) / 2 - mean(0.25, 9) / 2
    value = game.for_player(d).estimate(VALUES)
    (weight,) = d.parameters()
    value.backward()
    assert value.item() == pytest.approx(want - distance, abs=1e-12)
    assert weight.grad.item() == pytest.approx(2 * want - distance, abs=1e-12)


def test_whole_numbers_have_no_slope():
    d = discriminator(net=Square)
    with pytest.raises(KindError, match=r"norm\(∇_x d\(x\)\): x is torch.int64, along which nothing has a slope"):
        R1(generator(), d).objective.estimate({"x": torch.ones(2, 1, dtype=torch.int64)})


@pytest.mark.parametrize("one_sided", [False, True])
def test_the_gradient_penalty_is_between_a_datum_and_its_fake(one_sided):
    d = discriminator(net=Square)
    n = 1000
    values = {"x": torch.randn(n, 1) + 3, "z": torch.randn(n, 1)}
    torch.manual_seed(1)
    found = GradientPenalty(generator(), d, one_sided=one_sided).objective.estimate(values).item()
    torch.manual_seed(1)
    share = torch.rand(n, 1)
    excess = (share * values["x"] + (1 - share) * values["z"]).abs() - 1
    assert found == pytest.approx((excess.clamp(min=0) if one_sided else excess).square().mean().item(), abs=1e-12)


# Quadrature: both sides are exact sums over its nodes.


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


def test_divergences_are_all_there():
    assert set(DIVERGENCES) == set(F_TABLE)


def test_the_best_logit_of_draws_has_the_value_of_quadrature():
    """Draws from the normals themselves, to three standard errors."""
    scale = nn.Parameter(torch.tensor(1.5))
    p, real = Normal("p(x)", loc=1.0, scale=scale, dim=1), Normal("r(x)", loc=0.0, scale=1.0, dim=1)
    d = Deterministic("d(t|x)", t=OfX(ISSUE.log_ratio))
    game = AdversarialJensenShannon(p, d, real)
    with torch.no_grad():
        values = torch.stack([game.estimate({}, batch_size=1000) for _ in range(100)])
    assert abs(values.mean() + 1.187714) < 3 * values.std() / 10
