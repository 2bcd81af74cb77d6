# ruff: noqa: E501
"""Rows of pixyz.losses: likelihoods, bounds, divergences and distances between sets."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from pixyz.distributions import Bernoulli, Categorical, Deterministic, Distribution, MultivariateNormal, Normal, VectorQuantizer
from pixyz.losses import (
    ELBO,
    IWAE,
    MMD,
    NLL,
    ChiSquared,
    Commitment,
    CrossEntropy,
    DReG,
    EnergyDistance,
    Entropy,
    InfoNCE,
    JensenShannon,
    KullbackLeibler,
    LogProb,
    LogRatio,
    Loss,
    Parameter,
    Prob,
    Renyi,
    RenyiBound,
    ReweightedWakeSleep,
    Sinkhorn,
    SquaredHellinger,
    StickingTheLanding,
    StoppedLogProb,
    TotalCorrelation,
    TotalVariation,
    Wasserstein,
)

from .row import BATCH, Row, Stacked, differentiated, f64, free, wave

X, Z = wave(BATCH, 3), wave(BATCH, 2, shift=2.0)
SET = wave(4, 3, shift=0.5)
MASK = f64([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def q(text: str = "q(z|x)", scale: float = 0.8) -> Normal:
    return Normal(text, loc=nn.Linear(3, 2), scale=free([scale, 1.2 * scale]))


def prior(text: str = "p(z)") -> Normal:
    return Normal(text, loc=free([0.2, -0.1]), scale=free([1.1, 0.9]))


def likelihood() -> Normal:
    return Normal("p(x|z)", loc=nn.Linear(2, 3), scale=free(0.5))


def joint() -> Distribution:
    return likelihood() * prior()


def bits() -> tuple[Bernoulli, Bernoulli]:
    return Bernoulli("q(b|x)", logits=nn.Linear(3, 2)), Bernoulli("p(b)", logits=free([0.3, -0.4]))


def of_bits() -> Distribution:
    return Normal("p(x|b)", loc=nn.Linear(2, 3), scale=0.7) * bits()[1]


def pair() -> tuple[Normal, Normal]:
    return q("p(z|x)", 1.3), q()


def vectors() -> tuple[Distribution, Distribution]:
    p = MultivariateNormal("p(z)", loc=free([0.5, -0.5]), covariance_matrix=free([[2.0, 0.6], [0.6, 1.0]]))
    return p, MultivariateNormal("q(z)", loc=free([0.0, 0.3]), covariance_matrix=free([[0.9, 0.2], [0.2, 1.3]]))


def two_levels() -> tuple[Distribution, Distribution]:
    p = likelihood() * Normal("p(z|w)", loc=nn.Linear(1, 2), scale=0.9) * Normal("p(w)", loc=0.0, scale=1.0, dim=1)
    return p, q() * Normal("q(w|z)", loc=nn.Linear(2, 1), scale=0.6)


def numbers() -> tuple[Distribution, Distribution]:
    return Normal("p(z)", loc=free([0.1]), scale=free(1.2)), Normal("q(z|x)", loc=nn.Linear(3, 1), scale=0.8)


def codes() -> VectorQuantizer:
    return VectorQuantizer("q(z|x)", z=nn.Linear(3, 2), num_codes=3, dim=2)


class Kernel(nn.Module):
    """A kernel that is trained: exp(-(w·(x-y))²)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = free([0.7, -0.4])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(-((x @ self.weight)[:, None] - (y @ self.weight)[None]).square())


def bound(make: Callable[..., Loss], sides: Callable[[], tuple[Distribution, Distribution]] | None = None, **options: object) -> Row:
    p, posterior = sides() if sides else (joint(), q())
    return Row(make(p, posterior, **options), {"x": differentiated(X)})


def between(make: Callable[..., Loss], sides: Callable[[], tuple[Distribution, Distribution]], *more: object, **options: object) -> Row:
    left, right = sides()
    given = {**dict.fromkeys(left.cond_var), **dict.fromkeys(right.cond_var)}
    return Row(make(left, right, *more, **options), {v: differentiated(X) for v in given}, None if given else BATCH)


def sets(make: Callable[..., Loss], *more: object, **options: object) -> Row:
    return Row(make(q(), prior(), *more, **options), {"x": differentiated(SET)})


BOUNDS = {
    "ELBO": partial(bound, ELBO),
    "ELBO, 2 draws": partial(bound, ELBO, num_samples=2),
    "ELBO, analytic": partial(bound, ELBO, kl="analytic"),
    "ELBO, beta": partial(bound, ELBO, kl="analytic", beta=4.0),
    "ELBO, trained beta": lambda: bound(ELBO, kl="analytic", beta=free(2.0)),
    "ELBO, beta for each datum": lambda: bound(ELBO, kl="analytic", beta=f64([0.5, 1.0, 2.0])),
    "ELBO, beta of a divergence by draws": partial(bound, ELBO, beta=0.5),
    "ELBO, free bits": partial(bound, ELBO, kl="analytic", free_bits=0.4),
    "ELBO of two levels": partial(bound, ELBO, two_levels),
    "ELBO of two levels, auto": partial(bound, ELBO, two_levels, kl="auto"),
    "ELBO of bits": lambda: bound(ELBO, lambda: (of_bits(), bits()[0])),
    "ELBO of bits, analytic and scored": lambda: bound(ELBO, lambda: (of_bits(), bits()[0]), kl="analytic", estimator="score", num_samples=2),
    "IWAE": partial(bound, IWAE, num_samples=3),
    "IWAE of bits, VIMCO": lambda: bound(IWAE, lambda: (of_bits(), bits()[0]), estimator="score", num_samples=3),
    "DReG": partial(bound, DReG, num_samples=3),
    "StickingTheLanding": partial(bound, StickingTheLanding, num_samples=2),
    "StoppedLogProb": lambda: Row(StoppedLogProb(q()).expectation(q("r(z|x)")), {"x": X}),
    "ReweightedWakeSleep": partial(bound, ReweightedWakeSleep, num_samples=3),
    "RenyiBound, 0.5": lambda: Row(RenyiBound(joint(), q(), 0.5, num_samples=3), {"x": X}),
    "RenyiBound, 3": lambda: Row(RenyiBound(joint(), q(), 3.0, num_samples=3), {"x": X}),
    "RenyiBound, -1": lambda: Row(RenyiBound(joint(), q(), -1.0, num_samples=3), {"x": X}),
    "Commitment": lambda: Row(Commitment(codes(), beta=0.3), {"x": differentiated(X)}),
}  # fmt: skip
LIKELIHOODS = {
    "LogProb": lambda: Row(LogProb(joint()), {"x": X, "z": differentiated(Z)}),
    "LogProb with a mask": lambda: Row(LogProb(q(), mask="m"), {"x": X, "z": torch.where(MASK > 0, Z, torch.nan), "m": MASK}),
    "LogRatio": lambda: Row(LogRatio(*pair()), {"x": X, "z": differentiated(Z)}),
    "NLL": lambda: Row(NLL(q()), {"x": X, "z": differentiated(Z)}),
    "NLL with a mask": lambda: Row(NLL(q(), mask="m"), {"x": X, "z": Z, "m": MASK}),
    "Prob": lambda: Row(Prob(q()), {"x": X, "z": differentiated(Z)}),
    "Parameter": lambda: Row(Parameter("a") * NLL(prior()), {"z": Z, "a": differentiated(f64(0.7))}),
    "Entropy": lambda: Row(Entropy(q()), {"x": X}),
    "Entropy by draws": lambda: Row(Entropy(q(), analytic=False, num_samples=2), {"x": X}),
    "Entropy of bits": lambda: Row(Entropy(bits()[0]), {"x": X}),
    "CrossEntropy": partial(between, CrossEntropy, pair),
    "CrossEntropy of bits": partial(between, CrossEntropy, bits),
}
DIVERGENCES = {
    "KullbackLeibler": partial(between, KullbackLeibler, pair),
    "KullbackLeibler by draws": partial(between, KullbackLeibler, pair, analytic=False, num_samples=2),
    "KullbackLeibler of bits": partial(between, KullbackLeibler, bits),
    "KullbackLeibler of bits, scored": partial(between, KullbackLeibler, bits, analytic=False, estimator="score", num_samples=2),
    "KullbackLeibler of two levels": lambda: Row(
        KullbackLeibler(q() * Normal("q(w|z)", loc=nn.Linear(2, 1), scale=0.6), prior() * Normal("p(w|z)", loc=nn.Linear(2, 1), scale=0.8)), {"x": X}
    ),
    "KullbackLeibler of vectors": partial(between, KullbackLeibler, vectors),
    "ChiSquared": lambda: between(ChiSquared, lambda: pair()[::-1]),
    "ChiSquared by draws": lambda: between(ChiSquared, lambda: pair()[::-1], analytic=False, num_samples=2),
    "ChiSquared of bits": partial(between, ChiSquared, bits),
    "JensenShannon": partial(between, JensenShannon, pair, num_samples=2),
    "JensenShannon of bits": partial(between, JensenShannon, bits),
    "TotalVariation": partial(between, TotalVariation, pair, num_samples=2),
    "TotalVariation of bits": partial(between, TotalVariation, bits),
    "SquaredHellinger": partial(between, SquaredHellinger, pair),
    "SquaredHellinger by draws": partial(between, SquaredHellinger, pair, analytic=False, num_samples=2),
    "SquaredHellinger of vectors": partial(between, SquaredHellinger, vectors),
    "Renyi, 0.5": partial(between, Renyi, pair, 0.5),
    "Renyi, 0.5, by draws": partial(between, Renyi, pair, 0.5, analytic=False, num_samples=2),
    "Renyi, 2, of vectors": lambda: between(Renyi, lambda: vectors()[::-1], 2),
    "Renyi, 2, of bits": partial(between, Renyi, bits, 2),
}  # fmt: skip
SETS = {
    "MMD, gaussian": partial(sets, MMD),
    "MMD, two widths": partial(sets, MMD, sigma_sqr=[0.5, 2.0]),
    "MMD, inverse multiquadric": partial(sets, MMD, "inverse_multiquadric", sigma_sqr=2.0),
    "MMD, trained kernel": lambda: sets(MMD, Kernel()),
    "EnergyDistance": partial(sets, EnergyDistance),
    "Wasserstein": partial(between, Wasserstein, vectors),
    "Wasserstein of conditionals": partial(between, Wasserstein, pair, conditional=True),
    "Wasserstein of numbers, order 1": lambda: Row(Wasserstein(*numbers(), order=1), {"x": SET}),
    "Wasserstein of numbers by draws": lambda: Row(Wasserstein(*numbers(), analytic=False), {"x": SET}),
    "Wasserstein by plans": partial(sets, Wasserstein),
    "Sinkhorn": partial(sets, Sinkhorn, epsilon=0.5),
    "Sinkhorn, order 1": partial(sets, Sinkhorn, epsilon=1.0, order=1),
    "InfoNCE": lambda: Row(InfoNCE(q()), {"x": SET}),
    "InfoNCE with a critic": lambda: Row(InfoNCE(q(), Deterministic("f(t|x,z)", t=nn.Bilinear(3, 2, 1))), {"x": SET}),
    "InfoNCE with a function": lambda: Row(InfoNCE(q(), lambda x, z: (x[:, :2] * z).sum(-1), negatives="z"), {"x": SET}),
    "TotalCorrelation, stratified": lambda: Row(TotalCorrelation(q(), 100), {"x": SET}),
    "TotalCorrelation, weighted": lambda: Row(TotalCorrelation(q(), 100, estimator="weighted"), {"x": SET}),
}  # fmt: skip


def mmd_beside_a_reconstruction() -> Row:
    posterior, p_z = q(), prior()
    return Row(-(LogProb(likelihood()).expectation(posterior)).mean() + 10.0 * MMD(posterior, p_z), {"x": SET})


def semi_supervised() -> Row:
    label = Categorical("q(y|x)", logits=nn.Linear(3, 3))
    inference = Normal("q(z|x,y)", loc=Stacked(6, 2), scale=0.7)
    p = Normal("p(x|z,y)", loc=Stacked(5, 3), scale=0.8) * prior() * Categorical("p(y)", probs=torch.ones(3) / 3)
    return Row(-ELBO(p, inference * label, kl="auto").mean() - 0.1 * LogProb(label).constant_var({"y": torch.eye(3)}).mean(), {"x": X})


ROWS: dict[str, Callable[[], Row]] = {
    **BOUNDS,
    **LIKELIHOODS,
    **DIVERGENCES,
    **SETS,
    "MMD beside a reconstruction": mmd_beside_a_reconstruction,
    "semi-supervised bound": semi_supervised,
}
