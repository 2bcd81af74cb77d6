"""Training on a GPU."""

from ._capturable import capturable
from ._channels_last import channels_last
from ._memory import MemoryReport, MemoryTerm
from ._memory_of_terms import Allocator
from ._memory_report import memory_report
from ._obstacles import Obstacle, Obstacles
from ._precision import Precision, precision
from ._prefetched import Prefetched
from ._streams import Streams

__all__ = [
    "Allocator",
    "MemoryReport",
    "MemoryTerm",
    "Obstacle",
    "Obstacles",
    "Precision",
    "Prefetched",
    "Streams",
    "capturable",
    "channels_last",
    "memory_report",
    "precision",
]
