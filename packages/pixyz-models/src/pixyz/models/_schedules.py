"""Numbers of a formula that change while it is trained."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pixyz.core import KindError, ParameterError, is_whole, suggest

Schedule: TypeAlias = Callable[[int], float]


@dataclass(frozen=True)
class LinearSchedule:
    r"""From `start` to `end` in a straight line, and `end` afterwards: the warming up of a KL divergence.

    $$\beta_t = s + (e - s) \min(t / n, 1)$$

    Args:
        start: $s$, at the first step.
        end: $e$.
        steps: $n$, how many steps of the optimiser it takes.

    Examples:
        >>> [LinearSchedule(0.0, 1.0, steps=4)(t) for t in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]

    Source:
        Bowman et al. (2016), section 3.1, https://arxiv.org/abs/1511.06349; Sønderby et al. (2016), https://arxiv.org/abs/1602.02282
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_ends(self)
        _check_steps(self, "steps", self.steps)

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)

    def __str__(self) -> str:
        return f"{self.start:g} to {self.end:g} in {self.steps:,} steps"


@dataclass(frozen=True)
class CyclicalSchedule:
    r"""From `start` to `end` and flat, again and again: for text models, where warming up once is not enough.

    With $r$ the share of the period $n$ in which it rises, $\beta_t = s + (e - s) \min((t \bmod n) / (r n), 1)$.

    Args:
        start: $s$.
        end: $e$.
        period: $n$, in steps of the optimiser.
        ramp: $r$, above 0 and at most 1.

    Examples:
        >>> [CyclicalSchedule(0.0, 1.0, period=4)(t) for t in range(6)]
        [0.0, 0.5, 1.0, 1.0, 0.0, 0.5]

    Source:
        Fu et al. (2019), eq. 6, https://arxiv.org/abs/1903.10145
    """

    start: float
    end: float
    period: int
    ramp: float = 0.5

    def __post_init__(self) -> None:
        _check_ends(self)
        _check_steps(self, "period", self.period)
        if not 0 < self.ramp <= 1:
            raise ParameterError(f"CyclicalSchedule: ramp is the share of the period that rises, above 0 and at most 1; got {self.ramp}.")

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * min((step % self.period) / (self.ramp * self.period), 1.0)

    def __str__(self) -> str:
        return f"{self.start:g} to {self.end:g}, every {self.period:,} steps"


def check_schedules(schedules: Mapping[str, Schedule], variables: Iterable[str], who: str) -> dict[str, Schedule]:
    """The schedules, if each is a function and belongs to a variable of the loss.

    Raises:
        KindError: for one that is no function.
        ParameterError: for a name that the loss does not have.
    """
    known = [*variables]
    for name, schedule in schedules.items():
        if name not in known:
            raise ParameterError(
                f'{who}: there is a schedule for {name}, which the loss has not.{suggest(name, known)} Write Parameter("{name}").'
            )
        if not callable(schedule):
            raise KindError(
                f"{who}: the schedule of {name} is a function of the number of steps, like LinearSchedule(0.0, 1.0, steps=1000); "
                f"got a {type(schedule).__name__}."
            )
    return dict(schedules)


def scheduled(values: Mapping[str, Any], schedules: Mapping[str, Schedule], step: int) -> Mapping[str, Any]:
    """The values, and what the schedules say at this step of what has none."""
    if not schedules:
        return values
    more = {name: float(schedule(step)) for name, schedule in schedules.items() if name not in values}
    return {**{v: values[v] for v in values.keys()}, **more}  # noqa: SIM118 - a TensorDict iterates over its rows


def _check_ends(schedule: "LinearSchedule | CyclicalSchedule") -> None:
    for word, value in (("start", schedule.start), ("end", schedule.end)):
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ParameterError(f"{type(schedule).__name__}: {word} must be a finite number; got {value!r}.")


def _check_steps(who: object, word: str, count: int) -> None:
    if not is_whole(count) or count < 1:
        raise ParameterError(f"{type(who).__name__}: {word} must be a whole number of steps, at least 1; got {count!r}.")


def said(schedule: Schedule) -> str:
    """A schedule in a line: ours in words, a function by its name."""
    return (
        str(schedule)
        if isinstance(schedule, (LinearSchedule, CyclicalSchedule))
        else getattr(schedule, "__name__", type(schedule).__name__)
    )
