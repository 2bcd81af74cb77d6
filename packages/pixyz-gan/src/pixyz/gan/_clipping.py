"""Weights that are kept small, by which a discriminator is Lipschitz."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import optim

from pixyz.core import ParameterError


def clip_weights(optimizer: Callable[..., optim.Optimizer], limit: float) -> Callable[..., optim.Optimizer]:
    """An optimiser after whose steps every weight is clipped to [-limit, limit]: `d_optimizer=clip_weights(torch.optim.RMSprop, 0.01)`.

    Args:
        optimizer: a class from `torch.optim`.
        limit: the largest absolute value of a weight.

    Raises:
        ParameterError: for a limit that is not positive.

    Source:
        Arjovsky et al. (2017), algorithm 1, https://arxiv.org/abs/1701.07875
    """
    if not limit > 0:
        raise ParameterError(f"clip_weights: limit must be positive; got {limit}.")

    @torch.no_grad()
    def clip(made: optim.Optimizer, *_: Any) -> None:
        weights = [w for group in made.param_groups for w in group["params"]]
        torch._foreach_clamp_min_(weights, -limit)  # type: ignore[attr-defined]
        torch._foreach_clamp_max_(weights, limit)  # type: ignore[attr-defined]

    @wraps(optimizer, updated=())
    def make(*arguments: Any, **options: Any) -> optim.Optimizer:
        made = optimizer(*arguments, **options)
        made.register_step_post_hook(clip)
        return made

    return make
