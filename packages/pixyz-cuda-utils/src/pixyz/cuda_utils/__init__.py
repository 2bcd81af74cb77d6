"""Training on a GPU."""

from ._channels_last import channels_last
from ._precision import Precision, precision
from ._prefetched import Prefetched
from ._streams import Streams

__all__ = ["Precision", "Prefetched", "Streams", "channels_last", "precision"]
