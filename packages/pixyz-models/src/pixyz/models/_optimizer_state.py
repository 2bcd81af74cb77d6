"""The states of optimisers and schedulers, checked against those that they are to go into."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor, optim
from torch.optim.lr_scheduler import LRScheduler

from ._stepping import is_torchs_own
from ._trees import fit
from ._trial import check_entries, check_schedule

Scheduler: TypeAlias = LRScheduler | optim.lr_scheduler.ReduceLROnPlateau

# How a step is run, not what it computes: it belongs to the device, and so to the model that is loaded into.
_HOW = ("foreach", "fused", "capturable", "differentiable")
_OTHER_SHAPES = (optim.LBFGS, optim.Adafactor)


def optimizer_state(found: Any, optimizer: optim.Optimizer) -> dict[str, Any]:
    """The state dict for this optimiser that a file's state gives.

    Args:
        found: `{"state": {0: {...}}, "param_groups": [{...}]}`, from a file that may have been tampered with.
        optimizer: an optimiser of the same class for the same parameters, which is left as it is.

    Raises:
        TypeError: if it is none of such an optimiser.
    """
    own = optimizer.state_dict()["param_groups"]
    if not isinstance(found, dict) or found.keys() != {"state", "param_groups"}:
        raise TypeError("it is no state of an optimiser")
    groups, state = found["param_groups"], found["state"]
    if not isinstance(groups, list) or len(groups) != len(own) or not all([isinstance(group, dict) for group in groups]):
        raise TypeError("it has other groups of parameters")
    parameters = [w for group in optimizer.param_groups for w in group["params"]]
    if not isinstance(state, dict) or not all(
        [type(i) is int and 0 <= i < len(parameters) and isinstance(s, dict) for i, s in state.items()]
    ):
        raise TypeError("it is of other parameters")
    if _has_fixed_shapes(optimizer) and not all([_fits(s, parameters[i]) for i, s in state.items()]):
        raise TypeError("it has other shapes")
    merged = [_merged(group, mine) for group, mine in zip(groups, own)]
    if is_torchs_own(type(optimizer)) and not isinstance(optimizer, optim.LBFGS):
        for group, mine in zip(merged, optimizer.param_groups):
            check_entries(optimizer, group, mine["params"], [state.get(i, {}) for i in group["params"]])
    return {"state": state, "param_groups": merged}


def scheduler_state(found: Any, scheduler: Scheduler, groups: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """The same of a scheduler, whose optimiser will have these groups. The functions of a `LambdaLR` are in no file: they stay its own."""
    state = fit(found, scheduler.state_dict())
    check_schedule(scheduler, state, scheduler.optimizer.param_groups if groups is None else groups)
    return state


def _merged(group: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: own[k] for k in (*_HOW, "params") if k in own}
    return {**own, **{k: fit(v, own.get(k)) for k, v in group.items() if k not in kept}, **kept}


def _has_fixed_shapes(optimizer: optim.Optimizer) -> bool:
    return type(optimizer).__module__.startswith("torch.optim") and not isinstance(optimizer, _OTHER_SHAPES)


def _fits(state: Mapping[Any, Any], parameter: Tensor) -> bool:
    """Torch's own optimisers keep scalars, and tensors of the parameter's shape."""
    return all([v.ndim == 0 or v.shape == parameter.shape for v in state.values() if isinstance(v, Tensor)])


def move_states(optimizers: Iterable[optim.Optimizer]) -> None:
    """Moves what optimisers remember of their weights to where these are; a count of steps only if the step on the device reads it."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            on_device = group.get("fused") or group.get("capturable")
            for weight in group["params"]:
                state = optimizer.state.get(weight, {})
                state.update({k: v.to(weight.device) for k, v in state.items() if isinstance(v, Tensor) and (v.ndim or on_device)})
