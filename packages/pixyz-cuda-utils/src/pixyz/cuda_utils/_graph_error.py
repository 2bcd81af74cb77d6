"""What is raised for a step that no graph can carry out."""

from pixyz.core import PixyzError


class GraphError(PixyzError, RuntimeError):
    """A step cannot be captured as a CUDA graph, or a graph cannot be replayed for it."""
