"""Adversarial losses and penalties against tables computed by hand."""

import inspect
import math
import re

import pytest
import torch
from torch import nn

import pixyz.gan
from pixyz.core import FormulaError, Game, KindError
from pixyz.distributions import Bernoulli, Deterministic
from pixyz.gan import (
    R1,
    R2,
    AdversarialNonSaturating,
    AdversarialWassersteinDistance,
    GradientPenalty,
    RelativisticPairing,
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


def test_every_divergence_is_in_the_table():
    """The error about an unknown one lists them all."""
    with pytest.raises(FormulaError, match=f"there is no divergence 'none'; choose one of {re.escape(', '.join(F_TABLE))}\\.$"):
        pixyz.gan.AdversarialFDivergence(generator(), discriminator(), divergence="none")


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


class Vectors(Scaled):
    """w x of numbers, (N,) or (N, 1), as (N, 1)."""

    def forward(self, x):
        return (self.w * x).reshape(len(x), 1)


@pytest.mark.parametrize("shape", [(), (3,), (3, 1)], ids=str)
@pytest.mark.parametrize("net", [Scaled, Vectors])
def test_a_discriminator_of_numbers(net, shape):
    """Each datum is paired with its own fake; one number has no batch, and its judgement is the same for all fakes."""
    real, fake = torch.tensor([2.0, -1.0, 0.5] if shape else 2.0), torch.tensor([0.5, -3.0, 1.0])
    game = RelativisticPairing(generator(), discriminator(net=net))
    found = game.estimate({"x": real.reshape(shape), "z": fake.reshape(shape or (3,))})
    torch.testing.assert_close(found, nn.functional.softplus(real - fake).mean())


def test_whole_numbers_have_no_slope():
    d = discriminator(net=Square)
    with pytest.raises(KindError, match=r"norm\(∇_x d\(x\)\)\^2: x is torch.int64, along which nothing has a slope"):
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


@pytest.mark.parametrize("v", [-40.0, -20.5, 0.0, 20.5, 36.0])
def test_logarithms_of_a_confident_discriminator_have_all_digits(v):
    """Where torch's softplus is linear already, above 20, float64 still tells the difference."""
    above, below = (math.log1p(math.exp(-abs(v))) + max(u, 0.0) for u in (v, -v))
    slope, falling = 1 / (1 + math.exp(-v)), 1 / (1 + math.exp(v))
    p, d, real = generator(), discriminator(), generator("r(x|u)")
    game, bound = (made(name, p, d, real) for name in ("AdversarialJensenShannon", "AdversarialFDivergence jensen_shannon"))
    cases = [
        (game.for_player(real), "u", -below, falling),  # log d(x)
        (game.for_player(p), "z", -above, -slope),  # log(1 - d(x))
        (bound.for_player(real), "u", math.log(2) - below, falling),  # g(d(x))
        (bound.for_player(p), "z", math.log(2) - above, -slope),  # -f*(g(d(x)))
    ]
    for loss, variable, *expected in cases:
        t = torch.tensor([[v]], requires_grad=True)
        value = loss.estimate({variable: t})
        found = [value.item(), torch.autograd.grad(value, t)[0].item()]
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-16)
