"""Arrows: curves from the rim of one node to the rim of another that touch no third."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

from ._layout import RADIUS, Point

_CLEAR = 0.14  # between an edge and the nodes that it passes
_BENDS = (0.5, 0.9, 1.4, 2.0, 2.8, 3.8)

Curve = list[tuple[Point, Point, Point]]
"""Quadratic pieces, each with its control point, one after the other."""


class Shape(NamedTuple):
    """A node on the page: a circle, or an ellipse around a long name; a box for what is given."""

    centre: Point
    width: float
    height: float
    is_box: bool

    def distance(self, point: Point) -> float:
        """How far a point is from the centre, where the rim is at 1."""
        dx, dy = abs(point[0] - self.centre[0]) / self.width, abs(point[1] - self.centre[1]) / self.height
        return max(dx, dy) if self.is_box else math.hypot(dx, dy)


def route(a: str, b: str, shapes: Mapping[str, Shape], passing: list[Point]) -> Curve:
    """From rim to rim: straight, else a bow, else through the room that was kept, else a wider bow; as none touches another node."""
    start, end = shapes[a].centre, shapes[b].centre
    others = [shape for name, shape in shapes.items() if name not in (a, b)]
    bows = [_bow(start, end, sign * size) for size in _BENDS for sign in (1.0, -1.0)]
    kept = [_through([start, *passing, end])] if len(passing) > 0 else []
    best: Curve = []
    widest = -math.inf
    for pieces in [_bow(start, end, 0.0), *bows[:4], *kept, *bows[4:]]:
        curve = _trimmed(pieces, shapes[a], shapes[b])
        clear = min((shape.distance(point) for shape in others for point in sampled(curve)), default=math.inf)
        if clear >= 1 + _CLEAR / RADIUS:
            return curve
        if clear > widest:
            best, widest = curve, clear
    return best


def _bow(start: Point, end: Point, bend: float) -> Curve:
    length = math.dist(start, end)
    along = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    return [(start, (_middle(start, end)[0] - bend * along[1], _middle(start, end)[1] + bend * along[0]), end)]


def _through(points: list[Point]) -> Curve:
    """A smooth curve along these points, touching the lines between them in their middles."""
    ends = [points[0], *[_middle(p, q) for p, q in pairwise(points[1:-1])], points[-1]]
    return list(zip(ends, points[1:-1], ends[1:]))


def _middle(p: Point, q: Point) -> Point:
    return (p[0] + q[0]) / 2, (p[1] + q[1]) / 2


def _trimmed(curve: Curve, first: Shape, last: Shape) -> Curve:
    """The part of a curve between the rims of the shapes in whose centres it starts and ends."""
    t0 = _leaves(lambda t: first.distance(_at(curve[0], t, t)) < 1)
    t1 = 1 - _leaves(lambda t: last.distance(_at(curve[-1], 1 - t, 1 - t)) < 1)
    if len(curve) == 1:
        return [_part(curve[0], t0, t1)]
    return [_part(curve[0], t0, 1.0), *curve[1:-1], _part(curve[-1], 0.0, t1)]


def _leaves(is_inside: Callable[[float], bool]) -> float:
    """The t at which a curve leaves the shape that it starts in, by bisection; the far half of it is outside."""
    low, high = 0.0, 0.5
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if is_inside(middle) else (low, middle)
    return high


def _part(piece: tuple[Point, Point, Point], s: float, t: float) -> tuple[Point, Point, Point]:
    return _at(piece, s, s), _at(piece, s, t), _at(piece, t, t)


def _at(piece: tuple[Point, Point, Point], s: float, t: float) -> Point:
    """The polar form of a quadratic curve: a point of it where s = t, else the control point of the part from s to t."""
    weights = (1 - s) * (1 - t), (1 - s) * t + s * (1 - t), s * t
    return sum(w * p[0] for w, p in zip(weights, piece)), sum(w * p[1] for w, p in zip(weights, piece))


def sampled(curve: Curve) -> list[Point]:
    return [_at(piece, i / 30, i / 30) for piece in curve for i in range(31)]
