"""Training on a GPU."""

from ._capturable import capturable
from ._channels_last import channels_last
from ._graph_error import GraphError
from ._graph_report import CapturedSteps, GraphReport, graph_report
from ._graphed import graphed
from ._graphs import Graphs
from ._memory import MemoryReport, MemoryTerm
from ._memory_of_terms import Allocator
from ._memory_report import memory_report
from ._obstacles import Obstacle, Obstacles
from ._precision import Precision, precision
from ._prefetched import Prefetched
from ._streams import Streams

__all__ = [
    "Allocator",
    "CapturedSteps",
    "GraphError",
    "GraphReport",
    "Graphs",
    "MemoryReport",
    "MemoryTerm",
    "Obstacle",
    "Obstacles",
    "Precision",
    "Prefetched",
    "Streams",
    "capturable",
    "channels_last",
    "graph_report",
    "graphed",
    "memory_report",
    "precision",
]
