"""Objectives: likelihoods, bounds and divergences, to be combined by arithmetic."""

from pixyz.core import (
    Enumerate,
    Estimator,
    Expectation,
    LogProb,
    Loss,
    MovingAverage,
    Parameter,
    Pathwise,
    Rebar,
    Relaxed,
    Sample,
    Score,
    StraightThrough,
    log_mean_exp,
    logsumexp,
    maximum,
    minimum,
)

from ._bounds import ELBO, IWAE, RenyiBound
from ._divergences import KullbackLeibler
from ._f_divergences import ChiSquared, JensenShannon, SquaredHellinger, TotalVariation
from ._gradients import DReG, ReweightedWakeSleep, StickingTheLanding, StoppedLogProb
from ._info_nce import InfoNCE
from ._iterative import IterativeLoss
from ._likelihood import NLL, CrossEntropy, Entropy, Prob
from ._log_ratio import LogRatio
from ._mmd import MMD, EnergyDistance
from ._quantization import Commitment
from ._renyi import Renyi
from ._total_correlation import TotalCorrelation
from ._transport import Sinkhorn, Wasserstein

__all__ = [
    "ELBO",
    "IWAE",
    "MMD",
    "NLL",
    "ChiSquared",
    "Commitment",
    "CrossEntropy",
    "DReG",
    "EnergyDistance",
    "Entropy",
    "Enumerate",
    "Estimator",
    "Expectation",
    "InfoNCE",
    "IterativeLoss",
    "JensenShannon",
    "KullbackLeibler",
    "LogProb",
    "LogRatio",
    "Loss",
    "MovingAverage",
    "Parameter",
    "Pathwise",
    "Prob",
    "Rebar",
    "Relaxed",
    "Renyi",
    "RenyiBound",
    "ReweightedWakeSleep",
    "Sample",
    "Score",
    "Sinkhorn",
    "SquaredHellinger",
    "StickingTheLanding",
    "StoppedLogProb",
    "StraightThrough",
    "TotalCorrelation",
    "TotalVariation",
    "Wasserstein",
    "log_mean_exp",
    "logsumexp",
    "maximum",
    "minimum",
]
