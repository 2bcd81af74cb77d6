"""Copies on another device, with the noise of the CPU. The original stays on the CPU, where the independent truth is computed."""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

Module = TypeVar("Module", bound=nn.Module)


def there(module: Module, device: torch.device) -> Module:
    """A copy of a distribution, a loss or a model on the device."""
    return copy.deepcopy(module).to(device)


def on(device: torch.device, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {v: t.to(device) for v, t in values.items()}


class NoiseOfTheCPU(TorchDispatchMode):
    """Draws every random number on the CPU, from its generator, so that two devices draw the same."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        first = args[0] if args and isinstance(args[0], Tensor) else None
        device = first.device if first is not None else torch.device(kwargs.get("device") or "cpu")
        on_cpu = {**tree_map_only(Tensor, Tensor.cpu, kwargs), **({"device": torch.device("cpu")} if kwargs.get("device") else {})}
        drawn = func(*tree_map_only(Tensor, Tensor.cpu, args), **on_cpu)
        if func._schema.name.endswith("_"):
            return first.copy_(drawn)
        return tree_map_only(Tensor, lambda t: t.to(device), drawn)
