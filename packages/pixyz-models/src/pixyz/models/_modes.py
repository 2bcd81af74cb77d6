"""Train mode, and evaluation mode for a while."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Inside, the modules are in evaluation mode and nothing has a gradient; afterwards every module's mode is as before."""
    modes = [(m, m.training) for module in modules for m in module.modules()]
    try:
        for module in modules:
            module.train(False)
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def train_mode(module: nn.Module) -> None:
    """Sets train mode, unless all modules are in it: to look is cheaper than to set."""
    if not _in_train_mode(module):
        module.train()


def _in_train_mode(module: nn.Module) -> bool:
    found: list[nn.Module | None] = [module]
    for m in found:  # which grows by the children of each
        if m is not None:
            if not m.training:
                return False
            found += m._modules.values()
    return True


@torch.no_grad()
def put_back(kept: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Gives tensors the values that were kept of them."""
    for tensor, value in kept:
        tensor.copy_(value)
