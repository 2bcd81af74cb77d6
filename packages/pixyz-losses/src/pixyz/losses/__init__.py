"""Objectives: likelihoods, bounds and divergences, to be combined by arithmetic."""

from pixyz.core import Expectation, LogProb, Loss, Parameter

from ._bounds import ELBO, IWAE, RenyiBound
from ._divergences import KullbackLeibler
from ._gradients import DReG, ReweightedWakeSleep, StickingTheLanding, StoppedLogProb
from ._likelihood import NLL
from ._log_ratio import LogRatio

__all__ = [
    "ELBO",
    "IWAE",
    "NLL",
    "DReG",
    "Expectation",
    "KullbackLeibler",
    "LogProb",
    "LogRatio",
    "Loss",
    "Parameter",
    "RenyiBound",
    "ReweightedWakeSleep",
    "StickingTheLanding",
    "StoppedLogProb",
]
