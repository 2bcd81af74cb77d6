"""States from a file on trial: an optimiser, or a scheduler, of the same class takes a step with them before the model's own gets them."""

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

Entries = Mapping[str, Any]

_FUNCTIONS = ("lr_lambdas", "_scale_fn_custom")


def check_entries(optimizer: optim.Optimizer, group: Mapping[str, Any], weights: Sequence[Tensor], entries: Sequence[Entries]) -> None:
    """An error for options that the optimiser's class refuses, or for entries that lack what a step of it makes.

    Args:
        optimizer: one of torch's own.
        group: the options of the file.
        weights: the parameters of this group.
        entries: for each what the file keeps of it; nothing if no step has moved it.

    Raises:
        TypeError: if the state could not be gone on with.
    """
    known = inspect.signature(type(optimizer)).parameters
    options = {k: v for k, v in group.items() if k in known and k != "params"}
    for name, value in options.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if not all([math.isfinite(v) for v in numbers if isinstance(v, (int, float, Tensor))]):
            raise TypeError(f"{name} is not finite")
    made: dict[tuple[int, torch.dtype], Entries] = {}
    for weight, entry in zip(weights, entries):
        kind = (weight.ndim, weight.dtype)
        if kind not in made:
            made[kind] = _made_by_a_step(type(optimizer), options, weight)
        if entry:
            _check_entry(entry, made[kind])


def _made_by_a_step(make: type[optim.Optimizer], options: Mapping[str, Any], like: Tensor) -> Entries:
    """What the optimiser keeps of a parameter of this rank and dtype, of one number."""
    weight = nn.Parameter(torch.ones([1] * like.ndim, dtype=like.dtype, device=like.device))
    weight.grad = torch.zeros_like(weight)
    try:
        twin = make([weight], **deepcopy(dict(options)))
    except Exception as error:
        raise TypeError(str(error)) from error
    try:
        twin.step()
    except RuntimeError:  # of sparse gradients, or a differentiable step: nothing is known of it
        return {}
    return dict(twin.state[weight])


def _check_entry(entry: Entries, made: Entries) -> None:
    for name, ours in made.items():
        if name not in entry:
            raise TypeError(f"{name} is missing in the state of a parameter")
        theirs = entry[name]
        number = theirs.item() if isinstance(theirs, Tensor) and theirs.ndim == 0 else theirs
        if isinstance(ours, Tensor) and ours.ndim:
            if not isinstance(theirs, Tensor) or theirs.ndim != ours.ndim or theirs.is_complex() != ours.is_complex():
                raise TypeError(f"{name} is no tensor of {ours.ndim} dims in the state of a parameter")
        elif isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < math.inf:
            raise TypeError(f"{name} is no finite number from 0 on in the state of a parameter")


class _Groups:
    """What a scheduler sees of an optimiser: its groups, without parameters."""

    def __init__(self, optimizer: optim.Optimizer, groups: Sequence[Mapping[str, Any]]) -> None:
        self.defaults = dict(optimizer.defaults)
        self.param_groups = [deepcopy({k: v for k, v in group.items() if k != "params"}) for group in groups]
        self._opt_called = True
        self.step = self._step

    def _step(self) -> None:
        """Nothing."""


def _put(scheduler: Any, state: Mapping[str, Any]) -> None:
    """Gives a scheduler its numbers, and those that it is made of theirs; functions stay its own."""
    for name, value in state.items():
        if name == "_schedulers":
            for part, its in zip(scheduler._schedulers, value, strict=True):
                _put(part, its)
        elif name not in _FUNCTIONS:
            setattr(scheduler, name, deepcopy(value))


def check_schedule(scheduler: LRScheduler | ReduceLROnPlateau, state: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> None:
    """An error for a state with which the scheduler could not take its next steps.

    Args:
        scheduler: a scheduler, which is left as it is.
        state: its state dict.
        groups: those of its optimiser that it will find.

    Raises:
        TypeError: if it could not.
    """
    seen = _Groups(scheduler.optimizer, groups)
    try:
        # A copy, also of the schedulers that it is made of, that sees these groups in place of the optimiser.
        twin = deepcopy(scheduler, {id(scheduler.optimizer): seen})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _put(twin, state)
            for _ in range(2):
                twin.step(0.0) if isinstance(twin, ReduceLROnPlateau) else twin.step()  # type: ignore[arg-type, call-arg]
        rates = [float(group["lr"]) for group in seen.param_groups]
    except Exception as error:
        raise TypeError(f"its next step fails, {type(error).__name__}: {error}") from error
    if not all([math.isfinite(rate) for rate in rates]):
        raise TypeError("its next learning rate is not finite")
