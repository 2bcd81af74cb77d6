"""The picture of a model, `p.graph()`: its nodes and plates, its Mermaid text and its figure."""

from ._model import graph_of
from ._parts import Node, Plate
from ._picture import Graph

__all__ = ["Graph", "Node", "Plate", "graph_of"]
