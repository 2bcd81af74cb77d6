"""What the picture of a model is made of: nodes, edges and plates, as plain data."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["latent", "observed", "given", "hidden"]
Edge = tuple[str, str]


@dataclass(frozen=True)
class Node:
    """A variable in the picture.

    Attributes:
        name: the variable; in a plate, the one that stands for all copies, like `z_t`.
        kind: `latent`, `observed`, `given` (a conditioning variable) or `hidden` (marginalised out).
        is_deterministic: whether it is a function of its parents.
        copies: the variables that it stands for, in their order; those of one plate's nodes belong together.
        is_reference: whether it points at one copy of a node of a plate, as `z_{t-1}` does.
        series: what its copies have in common, if it has any: copies of which one depends on the last stand in one row.
    """

    name: str
    kind: Kind
    is_deterministic: bool = False
    copies: tuple[str, ...] = ()
    is_reference: bool = False
    series: str = ""


@dataclass(frozen=True)
class Plate:
    """A frame around what is repeated.

    Attributes:
        label: how often, `t = 2…10` where the copies are numbered, else `× 9`.
        nodes: the names of the nodes inside.
    """

    label: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Structure:
    """A picture without its drawing.

    Attributes:
        nodes: parents mostly first.
        edges: from parent to child, by name.
        plates: what is repeated.
        links: from the first copy's predecessor to the reference that means it, `z_1` to `z_{t-1}`; or from a node of a plate to the
            one copy that something outside depends on.
        steps: the edges that lead from one copy to the next.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    plates: tuple[Plate, ...] = ()
    links: tuple[Edge, ...] = ()
    steps: frozenset[Edge] = frozenset()
