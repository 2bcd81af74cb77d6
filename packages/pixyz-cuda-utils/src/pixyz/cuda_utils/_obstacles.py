"""What stands in the way of a CUDA graph, as it is shown."""

import os
from dataclasses import dataclass

HOST_READ = "host read"
DATA_DEPENDENT_SHAPE = "data-dependent shape"
COPY_TO_HOST = "copy to the host"
COPY_FROM_HOST = "copy from the host"
HOST_TENSOR = "tensor on the host"
HOST_NUMBER = "number on the host"
NEW_NUMBER = "new number"
NEW_TENSOR = "new tensor"
OTHER_OPERATIONS = "other operations"
RANDOM_STATE = "random state"
SYNCHRONISATION = "synchronisation"
FROZEN = frozenset((HOST_NUMBER, NEW_NUMBER, NEW_TENSOR, OTHER_OPERATIONS))


@dataclass(frozen=True)
class Obstacle:
    """An operation of a step that a CUDA graph cannot have, or would repeat wrongly.

    Attributes:
        kind: what it is: a host read, a data-dependent shape, a copy to the host, a copy from the host, a tensor on the host, a number on
            the host, a new number, a new tensor, other operations, a random state or a synchronisation.
        what: a sentence that says what it does, and why that is in the way.
        term: the innermost term of the formula in which it stands, or the distribution whose network runs, as printed; empty outside of
            the formula.
        file: of the innermost line outside of torch and, if there is one, outside of pixyz.
        line: the number of that line.
        phase: `"forward"`, `"backward"` or `"optimiser step"`.
    """

    kind: str
    what: str
    term: str
    file: str
    line: int
    phase: str

    @property
    def stops_capture(self) -> bool:
        """Whether the capture fails; else there is a graph, which would repeat what it has seen once."""
        return self.kind not in FROZEN

    def is_beside(self, other: "Obstacle") -> bool:
        """Whether both are of one kind, in one place."""
        return (self.kind, self.term, self.file, self.line, self.phase) == (other.kind, other.term, other.file, other.line, other.phase)

    @property
    def where(self) -> str:
        """The file, as seen from the working directory, and the line."""
        shown = os.path.relpath(self.file) if self.file and os.path.isabs(self.file) else self.file
        return f"{self.file if shown.startswith('..') else shown}:{self.line}"

    def __str__(self) -> str:
        term = f" in {self.term}" if self.term else ""
        return f"{self.kind}{term} ({self.phase}), {self.where}: {self.what}"


class Obstacles(list[Obstacle]):
    """A list of obstacles, which prints as a table."""

    def __str__(self) -> str:
        if not self:
            return "nothing in this step would break a CUDA graph"
        head = ("obstacle", "term", "phase", "where")
        rows = [head, *[(o.kind, o.term, o.phase, o.where) for o in self]]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows]
        for i, obstacle in enumerate(self):
            lines[i + 1] += f"\n    {obstacle.what}"
        return "\n".join(lines)

    __repr__ = __str__
