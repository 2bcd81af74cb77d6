"""Objectives: likelihoods, bounds and divergences, to be combined by arithmetic."""

from pixyz.core import Expectation, LogProb, Loss, Parameter

from ._bounds import ELBO
from ._divergences import KullbackLeibler
from ._likelihood import NLL
from ._log_ratio import LogRatio

__all__ = ["ELBO", "NLL", "Expectation", "KullbackLeibler", "LogProb", "LogRatio", "Loss", "Parameter"]
