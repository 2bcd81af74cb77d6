# ruff: noqa: E501
"""Rows of pixyz.gan: every game and penalty for both players, discriminators of several kinds, and the measures of samples."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from pixyz.core import Constant, Distribution, Loss
from pixyz.distributions import Bernoulli, Categorical, Deterministic, Normal
from pixyz.gan import (
    GAN,
    R1,
    R2,
    AdversarialFDivergence,
    AdversarialHinge,
    AdversarialJensenShannon,
    AdversarialKullbackLeibler,
    AdversarialLeastSquares,
    AdversarialNonSaturating,
    AdversarialWassersteinDistance,
    DiffAugment,
    GradientPenalty,
    Packed,
    ProductOfMarginals,
    RelativisticAverage,
    RelativisticPairing,
    SampleQuality,
    TwoSampleTest,
    classifier_two_sample_test,
    clip_weights,
    sample_quality,
)

from .row import Row, f64, free, wave

X = wave(4, 3)
DIVERGENCES = ("kl", "reverse_kl", "pearson", "neyman", "squared_hellinger", "jensen_shannon", "total_variation")
GAMES: dict[str, Callable[..., Loss]] = {
    "AdversarialJensenShannon": AdversarialJensenShannon,
    "AdversarialNonSaturating": AdversarialNonSaturating,
    "AdversarialKullbackLeibler": AdversarialKullbackLeibler,
    "AdversarialWassersteinDistance": AdversarialWassersteinDistance,
    "AdversarialHinge": AdversarialHinge,
    "AdversarialLeastSquares": AdversarialLeastSquares,
    "RelativisticPairing": RelativisticPairing,
    "RelativisticAverage": RelativisticAverage,
    **{f"AdversarialFDivergence, {name}": partial(AdversarialFDivergence, divergence=name) for name in DIVERGENCES},
}
PENALTIES: dict[str, Callable[..., Loss]] = {
    "R1": R1,
    "R2": R2,
    "GradientPenalty": GradientPenalty,
    "GradientPenalty, one-sided": partial(GradientPenalty, one_sided=True),
}
# Those that train the distribution whose draws are real.
TWO_SIDED = (
    "AdversarialJensenShannon",
    "AdversarialNonSaturating",
    "AdversarialWassersteinDistance",
    "AdversarialHinge",
    "AdversarialLeastSquares",
)


def generator(name: str = "p") -> Distribution:
    made = Deterministic(f"{name}(x|z)", x=nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)))
    return (made * Normal(f"{name}(z)", loc=0.0, scale=1.0, dim=2)).marginalize_var("z")


def critic(inputs: int = 3) -> nn.Module:
    """Steeper than it is initialised, so that hinges and one-sided penalties are felt."""
    network = nn.Sequential(nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, 1))
    with torch.no_grad():
        for t in network.parameters():
            t.mul_(3)
    return network


def discriminator() -> Deterministic:
    return Deterministic("d(t|x)", t=critic())


def played(make: Callable[..., Loss], role: str, d: Distribution | None = None, p: Distribution | None = None, x: Tensor = X) -> Row:
    """What one player minimises, differentiated for that player."""
    p, d = generator() if p is None else p, discriminator() if d is None else d
    game = make(p, d)
    player = {"p": p, "d": d}[role]
    return Row(game.for_player(player), {"x": x} if game.input_var else {}, None if game.input_var else len(x), player)


def penalised(make: Callable[..., Loss], role: str) -> Row:
    """A penalty beside the game that it belongs to."""
    return played(lambda p, d: AdversarialWassersteinDistance(p, d) - 10 * make(p, d), role)


def alone(make: Callable[..., Loss]) -> Row:
    return played(lambda p, d: -make(p, d), "d")


def whole(make: Callable[..., Loss]) -> Row:
    """The value of the game itself, for all parameters."""
    return Row(make(generator(), discriminator()), {"x": X})


def against_draws(make: Callable[..., Loss], role: str) -> Row:
    """The real data are draws of a distribution that is trained as well."""
    p, d, real = generator(), discriminator(), generator("r")
    return Row(make(p, d, real).for_player({"p": p, "d": d, "r": real}[role]), batch_size=4, trained={"p": p, "d": d, "r": real}[role])


def of_labels(role: str) -> Row:
    """A generator of categories, by the score function."""
    p = Categorical("p(x)", logits=free([0.1, 0.4, -0.2]))
    return played(AdversarialNonSaturating, role, p=p, x=torch.eye(3)[[0, 1, 1, 2]])


def of_pairs(role: str) -> Row:
    """Bidirectional: a decoder with its prior against an encoder with the data."""
    p = Deterministic("p(x|z)", x=nn.Linear(2, 3)) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    q = Normal("q(z|x)", loc=nn.Linear(3, 2), scale=free(0.5))

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = critic(5)

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return self.net(torch.cat([x, z], -1))

    d = Deterministic("d(t|x,z)", t=Pair())
    player = {"p": p, "q": q, "d": d}[role]
    return Row(AdversarialNonSaturating(p, d, q).for_player(player), {"x": X}, trained=player)


def total_correlation(role: str) -> Row:
    q = Normal("q(z|x)", loc=nn.Linear(3, 2), scale=free([0.6, 0.8]))
    d = Deterministic("d(t|z)", t=critic(2))
    game = AdversarialKullbackLeibler(q, d, real=ProductOfMarginals(q))
    player = {"q": q, "d": d}[role]
    return Row(game.for_player(player), {"x": X}, trained=player)


def augmented(role: str) -> Row:
    images = wave(4, 1, 4, 4)
    p = Deterministic("p(x|z)", x=nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (1, 4, 4)))) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    d = Deterministic("d(t|x)", t=nn.Sequential(DiffAugment(), nn.Flatten(), nn.Linear(16, 1)))
    return played(AdversarialNonSaturating, role, d=d, p=p.marginalize_var("z"), x=images)


def model(role: str) -> Row:
    """The loss of the ready-made model after one step, whose critic is clipped."""
    p, d = generator(), discriminator()
    made = GAN(
        p,
        d,
        loss=AdversarialWassersteinDistance,
        optimizer=torch.optim.SGD,
        optimizer_params={"lr": 0.1},
        d_optimizer=clip_weights(torch.optim.SGD, 0.3),
    )
    made.train({"x": X})
    player = {"p": p, "d": d}[role]
    return Row(made.loss.for_player(player), {"x": X}, trained=player)


def quality() -> Row:
    found = sample_quality(wave(12, 2), 1.2 * wave(10, 2, shift=1.0), k=2)
    assert isinstance(found, SampleQuality)
    return Row(Constant(f64([found.precision, found.recall, found.density, found.coverage])))


def two_samples() -> Row:
    found = classifier_two_sample_test(wave(8, 2), wave(8, 2, shift=0.5) + 0.4, permutations=19)
    assert isinstance(found, TwoSampleTest)
    return Row(Constant(f64([found.accuracy, found.p_value])))


ROWS: dict[str, Callable[[], Row]] = {
    **{f"{name}, {role}": partial(played, make, role) for name, make in GAMES.items() for role in "pd"},
    **{f"{name}, whole": partial(whole, make) for name, make in GAMES.items()},
    **{f"{name}, {role}, of two that are drawn": partial(against_draws, GAMES[name], role) for name in TWO_SIDED for role in "pdr"},
    **{f"{name}, alone": partial(alone, make) for name, make in PENALTIES.items()},
    **{f"{name}, beside its game, {role}": partial(penalised, make, role) for name, make in PENALTIES.items() for role in "pd"},
    **{f"Bernoulli discriminator, {role}": (lambda role=role: played(AdversarialNonSaturating, role, d=Bernoulli("d(t|x)", logits=critic()))) for role in "pd"},
    **{f"Packed, {role}": (lambda role=role: played(AdversarialNonSaturating, role, d=Deterministic("d(t|x)", t=Packed(critic(6), 2)))) for role in "pd"},
    **{f"DiffAugment, {role}": partial(augmented, role) for role in "pd"},
    **{f"a generator of categories, {role}": partial(of_labels, role) for role in "pd"},
    **{f"bidirectional, {role}": partial(of_pairs, role) for role in "pqd"},
    **{f"ProductOfMarginals, {role}": partial(total_correlation, role) for role in "qd"},
    **{f"GAN with clipped weights, {role}": partial(model, role) for role in "pd"},
    "sample_quality": quality,
    "classifier_two_sample_test": two_samples,
}  # fmt: skip
