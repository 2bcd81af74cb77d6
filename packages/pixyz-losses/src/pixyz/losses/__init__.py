"""Objectives: likelihoods, bounds and divergences, to be combined by arithmetic."""

from pixyz.core import Expectation, LogProb, Loss, Parameter

from ._bounds import ELBO, IWAE, RenyiBound
from ._divergences import KullbackLeibler
from ._gradients import DReG, ReweightedWakeSleep, StickingTheLanding, StoppedLogProb
from ._f_divergences import ChiSquared, JensenShannon, SquaredHellinger, TotalVariation
from ._likelihood import NLL
from ._log_ratio import LogRatio
from ._renyi import Renyi

__all__ = [
    "ELBO",
    "IWAE",
    "NLL",
    "ChiSquared",
    "DReG",
    "Expectation",
    "JensenShannon",
    "KullbackLeibler",
    "LogProb",
    "LogRatio",
    "Loss",
    "Parameter",
    "Renyi",
    "RenyiBound",
    "ReweightedWakeSleep",
    "SquaredHellinger",
    "StickingTheLanding",
    "StoppedLogProb",
    "TotalVariation",
]
