"""Models: a loss, what it trains, and an optimiser."""

from ._checkpoint import Checkpoint
from ._model import Model
from ._ready_made import ML, VAE, VI

__all__ = ["ML", "VAE", "VI", "Checkpoint", "Model"]
