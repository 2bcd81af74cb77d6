"""Models: a loss, what it trains, and an optimiser."""

from importlib.metadata import entry_points as _entry_points
from typing import Any as _Any

from ._checkpoint import Checkpoint
from ._evaluation import Evaluation
from ._figures import plot_history
from ._history import History
from ._image_plots import plot_reconstructions, plot_samples
from ._latent_plot import plot_latent
from ._likelihood import LogLikelihood
from ._model import Model
from ._optimisation import Optimizer
from ._ready_made import ML, VAE, VI
from ._scaling import scaled_losses
from ._schedules import CyclicalSchedule, LinearSchedule

__all__ = [
    "ML",
    "VAE",
    "VI",
    "Checkpoint",
    "CyclicalSchedule",
    "Evaluation",
    "History",
    "LinearSchedule",
    "LogLikelihood",
    "Model",
    "Optimizer",
    "plot_history",
    "plot_latent",
    "plot_reconstructions",
    "plot_samples",
    "scaled_losses",
]

_IN_OTHER_PACKAGES = {"GAN": "pixyz-gan"}


def __getattr__(name: str) -> _Any:
    """Models of other packages, which those declare as entry points of the group `pixyz.models`."""
    found = () if name.startswith("_") else _entry_points(group="pixyz.models", name=name)
    for entry in found:
        return entry.load()
    if name in _IN_OTHER_PACKAGES:
        package = _IN_OTHER_PACKAGES[name]
        raise ImportError(f"{name} is in {package}, which is not installed: pip install {package}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
