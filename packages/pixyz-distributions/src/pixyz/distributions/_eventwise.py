"""Densities that are sums over independent features: of all of them, or of those that were seen."""

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pixyz.core import BATCH, Binding, Checks, Dims, Factor, ShapeError, SupportError, Term, align, union

if TYPE_CHECKING:
    from ._given import Given


class Eventwise:
    """What scores each event by itself, in one evaluation."""

    @abstractmethod
    def scores(self, values: tuple[Binding, ...], factor: Factor, checks: Checks) -> tuple[Tensor, Dims]:
        """log p of every event, `(*dims, *features)` without those of the event, in the dtype in which it is computed, and the dims."""

    @property
    @abstractmethod
    def plain(self) -> "Given":
        """The family that knows the shape of an event, and where it may lie."""

    def log_prob(self, values: tuple[Binding, ...], factor: Factor, checks: Checks) -> Term:
        """log p(value), in nats, summed over the features."""
        scores, target = self.scores(values, factor, checks)
        return Term(self.plain.narrow(sum_features(scores, len(target))), target)

    def masked_log_prob(self, value: Binding, mask: Binding, name: str, factor: Factor, checks: Checks) -> Term:
        """log p of the events where the mask is 1, `(*dims, *features)` or `(*dims)`.

        What was not seen is replaced before it is scored, and its score after: so neither its value nor its gradient comes through.
        """
        given = self.plain
        x, dims = given.fitted(value, factor, checks)
        over = given.over
        if mask.features not in (over, ()):
            raise ShapeError(
                f"log {factor} at {name}: the mask {name} has features {mask.features}, but {factor.var[0]} has events of shape {over}; "
                "a mask has the same, or none."
            )
        if BATCH in dims and BATCH in mask.dims and x.shape[len(dims) - 1] != mask.tensor.shape[len(mask.dims) - 1]:
            raise ShapeError(
                f"log {factor} at {name}: {factor.var[0]} has batch {x.shape[len(dims) - 1]}, but the mask {name} has batch "
                f"{mask.tensor.shape[len(mask.dims) - 1]}."
            )
        if checks and not checks.passed(checks.every((mask.tensor == 0) | (mask.tensor == 1)), factor):
            raise SupportError(f"log {factor} at {name}: the mask {name} must be 1 for what was seen and 0 for what was not.")
        seen = mask.tensor != 0
        if mask.features == ():
            seen = seen.reshape(*seen.shape, *[1] * len(over))
        target = union(dims, mask.dims)
        at_events = align(seen, mask.dims, target)
        at_values = at_events.reshape(*at_events.shape, *[1] * given.family.value_support.event_rank)
        x = align(x, dims, target)
        x = torch.where(at_values, x, given.family.value_support.member(x))
        scores, score_dims = self.scores((Binding(x, target, value.number),), factor, checks)
        scores = torch.where(align(seen, mask.dims, score_dims), scores, 0.0)
        return Term(given.narrow(sum_features(scores, len(score_dims))), score_dims)


def sum_features(t: Tensor, rank: int) -> Tensor:
    """The sum over all but the first `rank` axes."""
    if t.ndim == rank:
        return t
    return t.sum(-1) if t.ndim == rank + 1 else t.flatten(rank).sum(-1)
