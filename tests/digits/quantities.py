"""The quantities of the grid: the log-density, and those of `moments.py`."""

from typing import Any

from .moments import MOMENTS
from .rows import Quantity, Subject


def _ours(subject: Subject, inputs: Any) -> Any:
    return subject.build().log_likelihood(inputs)


def _torch(subject: Subject, inputs: Any) -> Any:
    if subject.peer is None:
        raise NotImplementedError
    return subject.peer({k: v for k, v in inputs.items() if k != "x"}).log_prob(inputs["x"])


def _scipy(subject: Subject, inputs: Any) -> Any:
    if subject.scipy is None:
        raise NotImplementedError
    return subject.scipy(inputs)


LOG_DENSITY = Quantity(
    name="log-density",
    right=lambda subject, point: subject.density(**point),
    ours=_ours,
    torch=_torch,
    scipy=_scipy,
    takes=lambda subject: {"x": subject.value},
    floor=lambda subject: float(subject.value.measure != "a mass"),
)
QUANTITIES = {q.name: q for q in (LOG_DENSITY, *MOMENTS[:4])}
"""By name."""
