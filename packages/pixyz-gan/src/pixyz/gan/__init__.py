"""Adversarial losses: distributions that can only be sampled, trained against a discriminator."""

from ._f_divergence import AdversarialFDivergence
from ._gradient_penalty import GradientPenalty
from ._losses import (
    AdversarialHinge,
    AdversarialJensenShannon,
    AdversarialKullbackLeibler,
    AdversarialLeastSquares,
    AdversarialNonSaturating,
    AdversarialWassersteinDistance,
)
from ._penalties import R1, R2
from ._relativistic import RelativisticAverage, RelativisticPairing

__all__ = [
    "R1",
    "R2",
    "AdversarialFDivergence",
    "AdversarialHinge",
    "AdversarialJensenShannon",
    "AdversarialKullbackLeibler",
    "AdversarialLeastSquares",
    "AdversarialNonSaturating",
    "AdversarialWassersteinDistance",
    "GradientPenalty",
    "RelativisticAverage",
    "RelativisticPairing",
]
