"""What became of the graphs of a model."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pixyz.core import KindError
from pixyz.models import Model


@dataclass
class CapturedSteps:
    """The graphs for one kind of step: one for each phase of a step, which are more than one with `accumulate` or `n_critic`.

    Attributes:
        values: the shapes, dtypes and devices of the values.
        graphs: how many graphs there are.
        seconds: how long the warm-up and the captures took.
        replays: how often one of them was replayed.
    """

    values: str
    graphs: int
    seconds: float
    replays: int = 0

    def __str__(self) -> str:
        graphs = "1 graph" if self.graphs == 1 else f"{self.graphs} graphs"
        return f"{graphs} for {self.values}: captured in {self.seconds:.2f} s, replayed {self.replays:,} times"


@dataclass
class GraphReport:
    """What became of the graphs of a model; it prints as a list.

    Attributes:
        unavailable: why there are no graphs here; None where there are.
        obstacles: what would break a graph, where none can be captured.
        captured: what was captured.
        eager: how many calls of `train` were carried out operation by operation, by the reason.
        changes: how often a step came for which there was no graph, by what was different.
        would_capture: what would be captured on a CUDA device, where there is none.
    """

    unavailable: str | None = None
    obstacles: list[str] = field(default_factory=list)
    captured: list[CapturedSteps] = field(default_factory=list)
    eager: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    would_capture: str | None = None

    @property
    def replays(self) -> int:
        """How many calls of `train` were replays of a graph."""
        return sum(steps.replays for steps in self.captured)

    def __str__(self) -> str:
        lines = []
        if self.unavailable is not None:
            lines.append(f"no graphs: {self.unavailable}")
        if self.would_capture is not None:
            lines.append(f"on a CUDA device: {self.would_capture}")
        lines += [f"in the way: {obstacle}" for obstacle in self.obstacles]
        lines += [str(steps) for steps in self.captured]
        for title, counts in (("eager", self.eager), ("changed", self.changes)):
            lines += [f"{title}, {_times(count)}: {reason}" for reason, count in counts.items()]
        return "\n".join(lines) or "no step yet"


def graph_report(model: Model) -> GraphReport:
    """What became of the graphs of a model: those captured, how often each was replayed, and which steps had none, and why.

    Args:
        model: a model that `graphed` has returned.

    Returns:
        The counts so far, which go on with the steps.

    Raises:
        KindError: for a model that `graphed` was not given.

    Examples:
        >>> import torch
        >>> from pixyz.cuda_utils import graphed
        >>> from pixyz.distributions import Normal
        >>> p = Normal(var=["x"], loc=torch.nn.Parameter(torch.zeros(2)), scale=1.0)
        >>> model = graphed(Model(-p.log_prob().mean()), {"x": torch.ones(4, 2)})
        >>> _ = model.train({"x": torch.ones(4, 2)})
        >>> print(graph_report(model))
        no graphs: the model is on cpu, and CUDA graphs are for CUDA devices
        on a CUDA device: 1 graph for x (4, 2) float32
        eager, once: there are no graphs
    """
    report: Any = getattr(getattr(model, "executor", None), "report", None)
    if not isinstance(report, GraphReport):
        raise KindError(f"graph_report is for a model that was graphed: model = graphed(model, example); got a {type(model).__name__}.")
    return report


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
