"""Adversarial losses: distributions that can only be sampled, trained against a discriminator."""

from ._augmentation import DiffAugment
from ._clipping import clip_weights
from ._f_divergence import AdversarialFDivergence
from ._gan import GAN
from ._gradient_penalty import GradientPenalty
from ._losses import (
    AdversarialHinge,
    AdversarialJensenShannon,
    AdversarialKullbackLeibler,
    AdversarialLeastSquares,
    AdversarialNonSaturating,
    AdversarialWassersteinDistance,
)
from ._neighbours import SampleQuality, sample_quality
from ._packing import Packed
from ._penalties import R1, R2
from ._product_of_marginals import ProductOfMarginals
from ._relativistic import RelativisticAverage, RelativisticPairing
from ._two_sample import TwoSampleTest, classifier_two_sample_test

__all__ = [
    "GAN",
    "R1",
    "R2",
    "AdversarialFDivergence",
    "AdversarialHinge",
    "AdversarialJensenShannon",
    "AdversarialKullbackLeibler",
    "AdversarialLeastSquares",
    "AdversarialNonSaturating",
    "AdversarialWassersteinDistance",
    "DiffAugment",
    "GradientPenalty",
    "Packed",
    "ProductOfMarginals",
    "RelativisticAverage",
    "RelativisticPairing",
    "SampleQuality",
    "TwoSampleTest",
    "classifier_two_sample_test",
    "clip_weights",
    "sample_quality",
]
