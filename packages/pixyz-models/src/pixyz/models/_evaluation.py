"""The test loss of all data, and of every term of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._after_training import device_of
from ._data import Data, batch_of, batches
from ._modes import evaluating
from ._schedules import scheduled

if TYPE_CHECKING:
    from ._asked import Asked


@dataclass(frozen=True)
class Evaluation:
    """What `Model.evaluate` found; it prints as a table.

    Attributes:
        loss: the test loss, the mean over the data.
        terms: every term of its formula, by its text, the loss itself first; of terms with the same text, the first.
        count: how many data there were.
    """

    loss: float
    terms: Mapping[str, float]
    count: int

    def __str__(self) -> str:
        width = max(map(len, self.terms))
        return "\n".join(f"{text:<{width}}  {value:.6g}" for text, value in self.terms.items())


def evaluate(model: "Asked", data: Data, *, batch_size: int | None, names: Sequence[str] | None) -> Evaluation:
    """The mean over batches, each counted by its size."""
    loss = model.test_loss
    who = f"{type(model).__name__}.evaluate"
    variables = [*loss.input_var, *sorted(loss.optional_var)]
    sums: dict[str, float] = {}
    count = 0
    with evaluating(loss), model.with_averages():
        for values in batches(data, variables, who, batch_size=batch_size, names=names, device=device_of(model)):
            size = batch_of(values, variables)
            values = scheduled(values, model.schedules, model.step_count)
            for text, value in loss.explain(values).as_dict().items():
                sums[text] = sums.get(text, 0.0) + size * value
            count += size
    terms = {text: total / count for text, total in sums.items()}
    return Evaluation(terms[str(loss)], terms, count)
