"""Training on a GPU."""

from ._prefetched import Prefetched
from ._streams import Streams

__all__ = ["Prefetched", "Streams"]
