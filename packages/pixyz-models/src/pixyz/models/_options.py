"""Numbers that the user gives as options, checked by name."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pixyz.core import ParameterError, is_number


def need_positive(value: object, who: str, what: str) -> None:
    """An error unless it is a positive, finite number."""
    if not is_number(value) or not 0 < value < math.inf:  # type: ignore[operator]
        raise ParameterError(f"{who}: {what} must be a positive, finite number; got {value!r}.")


def need_finite_options(options: Mapping[str, Any], who: str, what: str) -> None:
    """An error for a number among the options, also in a list or a mapping of them, that is nan or infinite."""
    for name, value in options.items():
        bad = _nonfinite(value)
        if bad is not None:
            raise ParameterError(f"{who}: {what} has the option {name}={value!r}, which must be finite.")


def _nonfinite(value: Any) -> Any:
    if is_number(value):
        return None if math.isfinite(value) else value
    if isinstance(value, Tensor):
        return None if bool(torch.isfinite(value.detach()).all()) else value
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return next((bad for bad in map(_nonfinite, parts) if bad is not None), None)
