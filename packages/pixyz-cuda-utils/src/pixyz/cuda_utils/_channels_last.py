"""Convolutions whose channels come last in memory."""

import warnings
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn, optim

from pixyz.core import KindError
from pixyz.models import Model

T = TypeVar("T", bound="Model | nn.Module")


def channels_last(model: T) -> T:
    """The model, with the weights of its 2D convolutions laid out with their channels last, as tensor cores read them.

    Parameters and buffers of 4 dims are converted, with their gradients and what optimisers keep of them; shapes and values stay. A
    convolution whose weight is laid out so computes and returns its images so, whatever the layout of its input; images that arrive in
    the default layout are converted by the first convolution. If the loader gives them with `.to(memory_format=torch.channels_last)`,
    none are. Call it before or after any step; a compiled model compiles once more.

    Args:
        model: a model, or a loss, a distribution or another module.

    Returns:
        The same model.

    Raises:
        KindError: for what is no model and no module.

    Warns:
        UserWarning: for a model without a tensor of 4 dims, in which nothing changes.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> p = channels_last(Normal("p(y|x)", loc=torch.nn.Conv2d(3, 8, 3), scale=1.0))
        >>> next(p.parameters()).is_contiguous(memory_format=torch.channels_last)
        True
    """
    if not isinstance(model, (Model, nn.Module)):
        raise KindError(f"channels_last takes a model, a loss or a module; got a {type(model).__name__}.")
    modules = [model] if isinstance(model, nn.Module) else [model.loss, model.test_loss, *model.distributions]
    if not any([t.ndim == 4 for m in modules for t in (*m.parameters(), *m.buffers())]):
        name = type(model).__name__
        warnings.warn(
            f"channels_last: the {name} has no tensor of 4 dims, such as the weight of a Conv2d; nothing is changed.", stacklevel=2
        )
    for module in modules:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if isinstance(model, Model):
        for optimizer in model.optimizers:
            _convert_state(optimizer)
    return model


def _convert_state(optimizer: optim.Optimizer) -> None:
    """A fused step takes weights and what is kept of them in one layout only."""
    for weight, name, value in [*_kept(optimizer)]:
        optimizer.state[weight][name] = value.contiguous(memory_format=torch.channels_last)


def _kept(optimizer: optim.Optimizer) -> Iterator[tuple[torch.Tensor, str, torch.Tensor]]:
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.ndim == 4 and value.shape == weight.shape:
                yield weight, name, value
