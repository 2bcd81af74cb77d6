"""Where digits are lost: numbers of a support from one edge to the other, in its bulk and on its rim.

They are derived from the support of a parameter or value, so that a new family has its corners without being listed.
"""

import math
import random
from typing import Any

import torch

SHAPES = ("concentration", "df", "alpha", "temperature", "total_count")
"""Parameters without a unit, named so or beginning so; every other positive one may be a scale."""

REALS = [0.0, 1e-30, -1e-3, 0.7, -1.3, 12.0, -88.0, 1e4, -1e20]
LOGITS = [0.0, 1e-30, -1e-3, 0.7, -1.3, 12.0, -17.0, 30.0, -88.0, 104.0, 1e4, -1e4]
SCALES = [1e-20, 1e-6, 0.03, 0.3, 1.0, 2.5, 77.0, 1e6, 1e20]
SIZES = [1e-8, 1e-3, 0.3, 1.0, 1.7, 14.0, 300.0, 1e4, 1e6, 1e8]
UNITS = [0.0, 1e-37, 1e-20, 1e-6, 1e-3, 0.2, 0.5, 0.7, 0.99, 1 - 1e-5, 1 - 2**-24, 1.0]
COUNTS = [0.0, 1.0, 2.0, 7.0, 40.0, 1e3, 1e5, 1e7]
LEVELS = [2.0, 3.0, 17.0, 256.0]


def corners(support: Any, name: str, shape: tuple[int, ...] = ()) -> list[Any]:
    """Elements of a support as float32 holds them: floats, or nested tuples of this shape."""
    kind = type(support).__name__
    chance = random.Random(f"{name}{shape}")
    if kind == "Sphere":
        raw = [[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [1e-4, 1.0, -1e-4], [-0.3, 0.5, 0.8], [-1.0, 1e-3, 0.0]]
        return [vector(torch.nn.functional.normalize(torch.tensor(v, dtype=torch.float64), dim=0)) for v in raw]
    if kind in ("Constrained", "PositiveDefinite"):
        return _matrices(kind == "PositiveDefinite", shape[0], chance)
    if getattr(support, "total", None) is not None:
        return _simplices(support, shape[0])
    if shape:
        element = corners(getattr(support, "element", support), name)
        moderate = [v for v in element if 1e-3 <= abs(v) <= 1e3] or element
        found = [_filled(shape, lambda: chance.choice(moderate)) for _ in range(4)]
        return found + [_filled(shape, lambda: chance.choice(element)) for _ in range(6)]
    return [v for v in map(single, _numbers(support, name)) if _inside(support, v)]


def _numbers(support: Any, name: str) -> list[float]:
    if kind_is(support, "Binary"):
        return [0.0, 1.0]
    if getattr(support, "stepped", False):
        return [0.0, 1.0]
    if support.whole:
        return LEVELS if support.lower == 2 else [v for v in COUNTS if v >= support.lower]
    if support.upper == 1.0 and support.lower == 0.0:
        return UNITS
    if math.isinf(support.lower):
        return LOGITS if "logit" in name else REALS
    if any(name.startswith(s) for s in SHAPES):
        return SIZES if support.lower >= 0 else REALS
    return ([] if support.lower > 0 or getattr(support, "open_below", False) else [0.0]) + SCALES


def _simplices(support: Any, k: int) -> list[Any]:
    if kind_is(support.element, "Binary"):
        return [tuple(float(i == j) for j in range(k)) for i in range(k)]
    small = [[1.0] * k, [0.2, 0.7, 0.1], [1e-6, 0.3, 0.7], [1e-20, 1e-3, 1.0], [1e-30, 1.0, 1e-30]]
    if not getattr(support.element, "open_below", False):
        small += [[0.0, 0.25, 0.75], [0.0, 0.0, 1.0]]
    raw = [torch.tensor((v * k)[:k], dtype=torch.float64) for v in small]
    return [vector(v / v.sum()) for v in raw]


def _matrices(definite: bool, k: int, chance: random.Random) -> list[Any]:
    found = []
    for spread in ([1.0] * k, [0.3, 2.0, 1.0], [1e-3, 1.0, 10.0], [1e-6] * k, [1e6, 2e6, 1e6], [1e-3, 1e3, 1.0]):
        scale = torch.tensor((spread * k)[:k], dtype=torch.float64)
        tril = torch.eye(k, dtype=torch.float64)
        for i in range(k):
            for j in range(i):
                tril[i, j] = chance.choice([0.0, 0.5, -0.9, 0.25])
        tril = tril * scale.unsqueeze(-1)
        matrix = (tril @ tril.mT).float() if definite else tril.float()
        found.append(tuple(vector(row) for row in (0.5 * (matrix + matrix.mT) if definite else matrix)))
    return found


def around(value: Any, other: Any, support: Any, chance: random.Random) -> list[Any]:
    """Values of one event far from a draw, and near the ends of the support: of two draws."""
    if isinstance(value, tuple) or support.event_rank:
        return []
    if support.whole or getattr(support, "stepped", False) or kind_is(support, "Binary"):
        tail = [value + 1, 3 * value + 2, 100 * value]
        return [v for v in tail if v <= 1e7 and _inside(support, v)] if support.whole else []
    if support.lower == 0.0 and support.upper == 1.0:
        tail = [value * 1e-3, value**20, 1 - (1 - value) * 1e-3, 0.0, 1.0, 1 - 2**-24, 1e-37]
    elif support.lower == 0.0:
        tail = [value * 1e-3, value * 1e-10, value * 30, value * 1e3, value * 1e10, 0.0]
    else:
        tail = [value + (value - other) * 10.0 ** chance.choice([1, 2, 4, 8]), value + (value - other) * 1e-4, -value]
    tail = [v for v in map(single, tail) if math.isfinite(v) and (v == 0 or 1e-37 < abs(v) < 1e37) and _inside(support, v)]
    return chance.sample(tail, min(3, len(tail)))


def single(v: float) -> float:
    """The nearest number of float32."""
    return float(torch.tensor(v, dtype=torch.float64).float())


def vector(t: torch.Tensor) -> tuple[float, ...]:
    return tuple(t.float().double().tolist())


def kind_is(support: Any, kind: str) -> bool:
    return type(support).__name__ == kind


def _inside(support: Any, v: float) -> bool:
    return bool(support.contains(torch.tensor([v], dtype=torch.float32)).all())


def _filled(shape: tuple[int, ...], number: Any) -> Any:
    return tuple(_filled(shape[1:], number) for _ in range(shape[0])) if shape else single(number())
