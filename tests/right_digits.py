"""Right values by mpmath at the exact inputs, and how far floating-point numbers may lie from them.

A result may be off by a few units of rounding of its own, and by what one rounding of each of its inputs changes: what is allowed is a
multiple of eps times the condition, |f| + Σ |θ ∂f/∂θ|.
"""

import mpmath
import torch

mp = mpmath.mp.clone()
mp.dps = 50


def exact(t):
    """The number of a tensor."""
    return mp.mpf(t.item())


def value_with_condition(f, point, floor=0):
    """f at a point, and its condition, at least `floor`."""
    slopes = [mp.diff(f, point, _orders(len(point), i)) for i in range(len(point))]
    value = f(*point)
    return value, max(abs(value) + sum(abs(t * s) for t, s in zip(point, slopes)), floor)


def slopes_with_condition(f, point, least=0):
    """The partial derivatives of f at a point, each with its condition; an input counts as if it were at least as large as `least`."""
    n = len(point)
    second = {(i, j): mp.diff(f, point, _orders(n, i, j)) for i in range(n) for j in range(i, n)}
    found = []
    for i in range(n):
        slope = mp.diff(f, point, _orders(n, i))
        changes = [max(abs(point[j]), least) * abs(second[min(i, j), max(i, j)]) for j in range(n)]
        found.append((slope, abs(slope) + sum(changes)))
    return found


def _orders(n, *places):
    return tuple(places.count(i) for i in range(n))


def units(found, right, condition, dtype):
    """How many units of rounding `found` is off."""
    found = found.item()
    return float(abs(mp.mpf(found) - right) / (torch.finfo(dtype).eps * condition)) if condition else float(found != right)
