"""Models: a loss, what it trains, and an optimiser."""

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
]
