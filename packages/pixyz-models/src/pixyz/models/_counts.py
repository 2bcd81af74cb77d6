"""What Python counts along with the steps, to go back to."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from ._ema import AveragedWeights


class Counts(NamedTuple):
    """How far a training had come before a step."""

    steps: int
    averaged: int
    schedulers: Sequence[tuple[LRScheduler, Mapping[str, Any], list[dict[str, Any]]]]
    """Each scheduler with its state, and the options of the groups of its optimiser."""

    @staticmethod
    def of(steps: int, ema: AveragedWeights | None, schedulers: Iterable[LRScheduler]) -> "Counts":
        """The counts of now."""
        kept = [(s, s.state_dict(), [_options(group) for group in s.optimizer.param_groups]) for s in schedulers]
        return Counts(steps, 0 if ema is None else ema.updates, kept)

    @torch.no_grad()
    def put_back(self, ema: AveragedWeights | None) -> None:
        """Sets the average of the weights, the schedulers and their optimisers to these counts."""
        if ema is not None:
            ema.updates = self.averaged
        for scheduler, state, groups in self.schedulers:
            scheduler.load_state_dict(dict(state))
            for group, options in zip(scheduler.optimizer.param_groups, groups, strict=True):
                for name, value in options.items():
                    if isinstance(group.get(name), Tensor) and isinstance(value, Tensor):
                        group[name].copy_(value)
                    else:
                        group[name] = value


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in group.items() if name != "params"}
