"""Evaluations under `torch.autocast`: networks in half precision, everything else in the dtype of its tensors.

Autocast chooses a dtype by the operation: it would also round the matrix products of a covariance, a kernel, an elimination or an
invertible linear map. So an evaluation switches it off, and switches it on for each call of a network.
"""

from collections.abc import Callable
from functools import wraps
from threading import local
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
Kinds = tuple[tuple[str, torch.dtype], ...]

KINDS = tuple([kind for kind in ("cpu", "cuda", "xpu", "mps", "hpu", "mtia") if torch.amp.is_autocast_available(kind)])
"""The kinds of devices that have autocast, each switched on by itself."""
HALF = (torch.bfloat16, torch.float16)


class _Paused(local):
    """The autocast of each kind of device that the evaluation of this thread has switched off, with its dtype."""

    kinds: Kinds = ()


_PAUSED = _Paused()


def in_full_precision(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What the function returns, called without autocast; `call_network` switches it on again for a network.

    Examples:
        >>> import torch
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     x = in_full_precision(torch.matmul, torch.ones(2, 2), torch.ones(2, 2))
        >>> x.dtype
        torch.float32
    """
    if not torch._C._is_any_autocast_enabled():
        return function(*args, **kwargs)
    before = _PAUSED.kinds
    _PAUSED.kinds = kinds = tuple([(k, torch.get_autocast_dtype(k)) for k in KINDS if torch.is_autocast_enabled(k)])
    try:
        return _switched_off(kinds, function, *args, **kwargs)
    finally:
        _PAUSED.kinds = before


def is_under_autocast() -> bool:
    """Whether there is an autocast around this evaluation."""
    return bool(_PAUSED.kinds)


def full_precision(method: Callable[P, R]) -> Callable[P, R]:
    """The method, called by `in_full_precision`."""

    @wraps(method)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        return in_full_precision(method, *args, **kwargs)

    return called


def call_network(network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a network returns: under the autocast around the evaluation, if there is one, with its outputs in float32.

    The outputs may be a tensor, or lists, tuples and dicts of them.

    Examples:
        >>> import torch
        >>> call_network(torch.nn.Linear(2, 3), torch.zeros(4, 2)).shape
        torch.Size([4, 3])
    """
    kinds = _PAUSED.kinds
    if not kinds:
        return network(*args, **kwargs)
    _PAUSED.kinds = ()
    try:
        return _widened(_switched_on(kinds, network, *args, **kwargs))
    finally:
        _PAUSED.kinds = kinds


def call_in_float32(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What a function returns, with the networks that it calls in float32 too: for a solver whose tolerance half precision cannot meet."""
    kinds = _PAUSED.kinds
    _PAUSED.kinds = ()
    try:
        return function(*args, **kwargs)
    finally:
        _PAUSED.kinds = kinds


def _switched_off(kinds: Kinds, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    if not kinds:
        return function(*args, **kwargs)
    with torch.autocast(kinds[0][0], enabled=False):
        return _switched_off(kinds[1:], function, *args, **kwargs)


def _switched_on(kinds: Kinds, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    if not kinds:
        return function(*args, **kwargs)
    kind, dtype = kinds[0]
    # Without torch's cache of converted weights, which an autocast around a whole training would keep after the step has changed them.
    with torch.autocast(kind, dtype, cache_enabled=False):
        return _switched_on(kinds[1:], function, *args, **kwargs)


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in HALF else value
    if type(value) in (list, tuple):
        return type(value)([_widened(v) for v in value])
    return {k: _widened(v) for k, v in value.items()} if isinstance(value, dict) else value
