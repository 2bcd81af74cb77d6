"""Training on a GPU."""

from ._capturable import capturable
from ._channels_last import channels_last
from ._obstacles import Obstacle, Obstacles
from ._precision import Precision, precision
from ._prefetched import Prefetched
from ._streams import Streams

__all__ = ["Obstacle", "Obstacles", "Precision", "Prefetched", "Streams", "capturable", "channels_last", "precision"]
