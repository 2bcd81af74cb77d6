"""The picture of a model: its variables, what depends on what, what is observed and what is repeated."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from .._variables import unicode_name
from ._parts import Node, Structure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CLASSES = """\
  classDef latent fill:#fff,stroke:#000,color:#000
  classDef observed fill:#ccc,stroke:#000,color:#000
  classDef given fill:#eee,stroke:#000,color:#000
  classDef hidden fill:#fff,stroke:#000,color:#000,stroke-dasharray:4 3
  classDef reference fill:#fff,stroke:#999,color:#666"""


class Graph(Structure):
    """A distribution as a directed graph, made by `p.graph(observed=[...])`.

    Circles are variables: white ones latent, shaded ones observed, dashed ones marginalised out, doubled ones deterministic. Squares are
    conditioning variables. What is repeated stands in a plate; in it, a grey circle is a copy before or after, as z_{t-1} is.
    It prints as the text that [Mermaid](https://mermaid.js.org) draws, and a notebook shows the figure.

    Attributes:
        nodes: the variables, parents first.
        edges: from parent to child, by name.
        plates: what is repeated: the variables of factors that share one module.
        links: what a grey circle stands for, `("z_1", "z_{t-1}")`.
        steps: the edges from one copy to the next.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> p = Normal("p(x|z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
        >>> print(p.graph(observed=["x"]).mermaid().split("  classDef")[0])
        flowchart TD
          n0(("z")):::latent
          n1(("x")):::observed
          n0 --> n1
        <BLANKLINE>
    """

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart, top down."""
        ids = {node.name: f"n{i}" for i, node in enumerate(self.nodes)}
        plated = {name for plate in self.plates for name in plate.nodes}
        by_name = {node.name: node for node in self.nodes}
        lines = ["flowchart TD"]
        lines += ["  " + _written(node, ids[node.name]) for node in self.nodes if node.name not in plated]
        for i, plate in enumerate(self.plates):
            lines.append(f'  subgraph plate{i}["{_safe(plate.label)}"]')
            lines += ["    " + _written(by_name[name], ids[name]) for name in plate.nodes]
            lines.append("  end")
        lines += [f"  {ids[a]} --> {ids[b]}" for a, b in self.edges]
        lines += [f"  {ids[a]} -.- {ids[b]}" for a, b in self.links]
        return "\n".join([*lines, _CLASSES])

    def figure(self) -> "Figure":
        """The graph as a matplotlib figure, names as in LaTeX.

        Raises:
            ImportError: without matplotlib; `pip install pixyz-core[plot]` brings it.
        """
        try:
            import matplotlib.figure  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "A figure of a graph is drawn with matplotlib, which is not here: pip install pixyz-core[plot]. "
                "Without it, .mermaid() gives the graph as text."
            ) from error
        from ._figure import draw

        return draw(self)

    def save(self, path: str | Path) -> None:
        """Writes the figure to a file.

        Args:
            path: its suffix says as what: `.svg`, `.pdf`, `.png`.

        Raises:
            ImportError: without matplotlib.
        """
        self.figure().savefig(path, bbox_inches="tight", dpi=200)

    def _repr_svg_(self) -> str | None:
        try:
            figure = self.figure()
        except ImportError:
            return None
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight")
        return buffer.getvalue()

    def __repr__(self) -> str:
        return self.mermaid()


def _written(node: Node, identifier: str) -> str:
    """Square brackets make a box, round ones a circle, three of them a double circle."""
    left, right = ("[", "]") if node.kind == "given" else ("(((", ")))") if node.is_deterministic else ("((", "))")
    look = "reference" if node.is_reference else node.kind
    return f'{identifier}{left}"{_safe(unicode_name(node.name))}"{right}:::{look}'


def _safe(text: str) -> str:
    """Characters that mean something to Mermaid or to HTML, as Mermaid's entities."""
    return text.replace("<", "#lt;").replace(">", "#gt;")
