"""Half precision: densities and draws are computed in float32 and converted, and whole numbers that would be rounded are refused."""

import math

import torch
from torch import Tensor

from pixyz.core import Checks, KindError

from ._supports import Support, has_numbers

HALF = (torch.float16, torch.bfloat16)


def computing_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a family computes: half precision has neither the digits of a log-density nor torch's functions and generators."""
    return torch.float32 if dtype in HALF else dtype


def narrowed(x: Tensor, support: Support, dtype: torch.dtype) -> Tensor:
    """A draw in half precision. An index is an integer; a number that would round to an end of its support, or overflow, stays inside."""
    if support.is_index:
        return x.long()
    if support.whole or not x.is_floating_point():
        return x.to(dtype)
    limits = torch.finfo(dtype)
    lower, upper = support.lower, support.upper
    least = limits.min if math.isinf(lower) else max(lower + limits.eps / 2 * abs(lower), limits.min if lower < 0 else limits.tiny)
    most = limits.max if math.isinf(upper) else min(upper - limits.eps / 2 * abs(upper), limits.max if upper > 0 else -limits.tiny)
    at_an_end = (x == lower) | (x == upper)
    return torch.where(at_an_end, x, x.clamp(least, most)).to(dtype)


def check_counts(x: Tensor, dtype: torch.dtype, who: object, name: str, checks: Checks) -> None:
    """Raises an error for whole numbers that half precision does not tell apart.

    Raises:
        KindError: for a count above 2/eps, naming the dtype.
    """
    if dtype not in HALF or not checks or not has_numbers(x):
        return
    limit = int(2 / torch.finfo(dtype).eps)
    most = checks.read(x.amax())
    if not checks.passed(most <= limit, who):
        raise KindError(
            f"{who}: {name} is as large as {most:.6g}, but {dtype} holds every whole number only up to {limit}. "
            "Convert the distribution and its values with .float()."
        )
