"""Copies on another device. The original stays on the CPU, where the independent truth is computed."""

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def there(module: Module, device: torch.device) -> Module:
    """A copy of a distribution, a loss or a model on the device."""
    return copy.deepcopy(module).to(device)


def on(device: torch.device, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {v: t.to(device) for v, t in values.items()}
