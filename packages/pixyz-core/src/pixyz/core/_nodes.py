"""Points and weights by which integrals over the values of a distribution become sums."""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor


class Nodes(NamedTuple):
    """Points `(n, *features)` and weights `(n,)`, in float64."""

    points: Tensor
    weights: Tensor


def line(lower: float = -math.inf, upper: float = math.inf, *, center: float = 0.0, width: float = 1.0, n: int = 4001) -> Nodes:
    """Nodes on an interval, by double-exponential quadrature; singularities at its ends do no harm.

    Args:
        lower: where it begins.
        upper: where it ends.
        center: where most of the mass is, on an unbounded interval.
        width: how wide that region is.
        n: how many points.
    """
    reach = 3.15 if math.isfinite(upper) else 4.0
    t = torch.linspace(-reach, reach, n, dtype=torch.float64)
    h = (t[1] - t[0]).item()
    s, ds = 0.5 * math.pi * torch.sinh(t), 0.5 * math.pi * torch.cosh(t)
    if math.isfinite(lower) and math.isfinite(upper):
        half = 0.5 * (upper - lower)
        near = 2 * half * torch.exp(-s.abs()) / (2 * torch.cosh(s))  # the distance from the nearer end, without cancellation
        x = torch.where(t < 0, lower + near, upper - near)
        dx = half * ds / torch.cosh(s).square()
    elif math.isfinite(lower):
        x, dx = lower + width * torch.exp(s), width * torch.exp(s) * ds
    else:
        x, dx = center + width * torch.sinh(s), width * torch.cosh(s) * ds
    inside = (x > lower) & (x < upper) & dx.isfinite()
    return Nodes(x[inside], (h * dx)[inside])


def counts(n: int, *, features: int | None = None, total: int | None = None) -> Nodes:
    """The whole numbers from 0 to n; with `features`, the vectors of them, of sum `total` if that is said."""
    if features is None:
        points = torch.arange(n + 1, dtype=torch.float64)
    else:
        every = itertools.product(range(n + 1), repeat=features)
        points = torch.tensor([v for v in every if total is None or sum(v) == total], dtype=torch.float64)
    return Nodes(points, torch.ones(len(points), dtype=torch.float64))


def product(*sides: Nodes) -> Nodes:
    """Nodes of vectors whose elements have the nodes of `sides`."""
    grids = torch.meshgrid(*[s.points for s in sides], indexing="ij")
    weights = torch.meshgrid(*[s.weights for s in sides], indexing="ij")
    return Nodes(torch.stack([g.flatten() for g in grids], -1), torch.stack([w.flatten() for w in weights], -1).prod(-1))


def simplex(k: int, *, n: int = 301) -> Nodes:
    """Nodes of probability vectors of length k, 2 or 3, by the measure of their first k-1 elements."""
    side = line(0.0, 1.0, n=n)
    if k == 2:
        return Nodes(torch.stack([side.points, 1 - side.points], -1), side.weights)
    u, v = torch.meshgrid(side.points, side.points, indexing="ij")
    w = side.weights[:, None] * side.weights * (1 - u)
    return Nodes(torch.stack([u, (1 - u) * v, (1 - u) * (1 - v)], -1).flatten(0, 1), w.flatten())


def sphere(d: int, *, n: int = 400) -> Nodes:
    """Nodes of vectors of length 1 in d dimensions, 2 or 3, by the surface measure."""
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    if d == 2:
        return Nodes(torch.stack([angle.cos(), angle.sin()], -1), torch.full((n,), 2 * math.pi / n, dtype=torch.float64))
    side = line(-1.0, 1.0, n=n)
    z, a = torch.meshgrid(side.points, angle, indexing="ij")
    r = (1 - z.square()).sqrt()
    w = (side.weights * (2 * math.pi / n))[:, None].expand_as(z)
    return Nodes(torch.stack([r * a.cos(), r * a.sin(), z], -1).flatten(0, 1), w.flatten())
