"""Rows of the grid of digits: a quantity of a family at a point, its right value by mpmath, and how many digits a computation keeps.

A *subject* is a family with one of its parametrisations. A *quantity* is a function of its parameters, and of a value or of what else it
takes: it says how the library, torch and scipy compute it, and what it is in mpmath. A *row* is a quantity of a subject at numbers that
float32 holds exactly. `right(row)` has the value and the derivatives by all continuous inputs, each with its condition: how much the
result changes, in relative units, when each input changes by one; the bar for an error is a multiple of eps times the condition.

To add a quantity, write `Quantity(...)` and put it into a table of quantities; its corners come from the supports of its inputs
(`corners.py`), its rows from `grid.rows_of`, and its page from `nox -s digits`.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mpmath
import torch
from torch import Tensor

mp = mpmath.mp.clone()
mp.dps = 250  # half of them for differences of second order, the rest for what cancels between 1e-20 and 1e20
STEP = mp.mpf(10) ** -60
LARGEST = {torch.float32: 3.4028e38, torch.float64: 1.7976e308, torch.bfloat16: 3.3895e38, torch.float16: 65504.0}

Point = Mapping[str, Any]
"""By name, a float, or nested tuples of them."""


@dataclass(frozen=True)
class Subject:
    """A family with one of its parametrisations, or a composed distribution.

    Attributes:
        name: as the page calls it, `Gamma(concentration, rate)`.
        supports: of each parameter.
        value: the support of its values.
        build: makes the distribution p(x|...), whose conditioning variables are its parameters.
        family: the class, where it is one.
        density: log p(x) in mpmath, of `x` and the parameters by name; vectors and matrices are nested lists.
        peer: the distribution of `torch.distributions`, of tensors by name; None where there is none.
        scipy: log p(x) by scipy, of arrays by name; None where there is none.
        shapes: of one event of each input that is no number.
        at_once: whether rows may be one batch.
        kinked: whether the log-density has kinks, at which its derivative may be any between those of both sides.
    """

    name: str
    supports: Mapping[str, Any]
    value: Any
    build: Callable[..., Any]
    density: Callable[..., Any]
    family: Any = None
    peer: Callable[[Mapping[str, Tensor]], Any] | None = None
    scipy: Callable[[Mapping[str, Any]], Any] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    at_once: bool = True
    kinked: bool = False


@dataclass(frozen=True)
class Quantity:
    """A function of a subject's parameters and what else it takes.

    Attributes:
        name: as the page calls it.
        right: (subject, inputs by name) to a number of mpmath.
        ours: (subject, tensors `(N, *event)` by name) to `(N,)`, by the library.
        torch: likewise, by `torch.distributions`; None, or a `NotImplementedError`, where it has none.
        scipy: likewise of arrays of float64, by scipy.
        takes: (subject) to the supports of what it takes besides the parameters, such as {"x": the support of the values}; a second
            distribution of the family takes {"q.scale": ...}.
        known: whether the subject has it.
        has_slopes: whether it has derivatives.
        floor: the least condition of a value of this subject; 1 for the logarithm of a density, which has a unit.
    """

    name: str
    right: Callable[[Subject, Mapping[str, Any]], Any]
    ours: Callable[[Subject, Mapping[str, Tensor]], Tensor]
    torch: Callable[[Subject, Mapping[str, Tensor]], Tensor] | None = None
    scipy: Callable[[Subject, Mapping[str, Any]], Any] | None = None
    takes: Callable[[Subject], Mapping[str, Any]] = lambda subject: {}
    known: Callable[[Subject], bool] = lambda subject: True
    has_slopes: bool = True
    floor: Callable[[Subject], float] = lambda subject: 0.0

    def supports(self, subject: Subject) -> dict[str, Any]:
        """Of all inputs."""
        return {**subject.supports, **self.takes(subject)}

    def continuous(self, subject: Subject) -> list[str]:
        """The inputs by which it has derivatives."""
        return [name for name, s in self.supports(subject).items() if not is_whole(s)] if self.has_slopes else []


@dataclass(frozen=True)
class Row:
    """A quantity of a subject at a point."""

    subject: str
    quantity: str
    point: Point

    def __str__(self) -> str:
        return f"{self.quantity} of {self.subject} at " + ", ".join(f"{k}={_short(v)}" for k, v in self.point.items())


@dataclass(frozen=True)
class Right:
    """A right number; its condition; the other end, where all between both are right."""

    value: Any
    condition: Any
    other: Any = None


def right(subject: Subject, quantity: Quantity, point: Point) -> dict[str, Right]:
    """The right value, as "value", and the right derivatives, as "d/dscale" or "d/dloc[1]", with their conditions."""
    flat = {(name, place): mp.mpf(number) for name, v in point.items() for place, number in _flat(v)}

    def at(changes: Mapping[Any, Any]) -> Any:
        nested = {name: _nested(v, lambda place, name=name: flat[name, place] + changes.get((name, place), 0)) for name, v in point.items()}
        return quantity.right(subject, nested)

    supports = quantity.supports(subject)
    value = at({})
    if not mp.isfinite(value):
        return {"value": Right(value, mp.inf)}
    free = [key for key in flat if not is_whole(supports[key[0]])]
    steps = {key: _step(flat[key], supports[key[0]]) for key in free}
    ahead = {key: at({key: steps[key]}) for key in free}
    slopes = {key: (ahead[key] - value) / steps[key] for key in free}
    for key in free:
        if not flat[key]:  # no difference of first order has all digits where the slope itself is 0
            twice = at({key: 2 * steps[key]})
            slopes[key] = (4 * ahead[key] - twice - 3 * value) / (2 * steps[key])
            if abs(slopes[key]) <= abs((twice - 2 * ahead[key] + value) / steps[key]):
                slopes[key] = mp.mpf(0)
    condition = max(abs(value) + sum(abs(flat[key] * slopes[key]) for key in free), quantity.floor(subject))
    found = {"value": Right(value, condition)}
    if not quantity.has_slopes:
        return found
    conditions = {key: abs(slopes[key]) for key in free}
    others = {key: (at({key: -steps[key]}) - value) / -steps[key] for key in free} if subject.kinked else {}
    for a, b in itertools.combinations_with_replacement(free, 2):
        if flat[a] or flat[b]:
            twice = at({a: 2 * steps[a]} if a == b else {a: steps[a], b: steps[b]})
            bend = abs((twice - ahead[a] - ahead[b] + value) / (steps[a] * steps[b]))
            conditions[a] += bend * abs(flat[b])
            if a != b:
                conditions[b] += bend * abs(flat[a])
    for name in quantity.continuous(subject):
        keys = [key for key in free if key[0] == name]
        for weights, key in tangents(supports[name], [flat[key] for key in keys], keys):
            pairs = list(zip(weights, keys))
            slope, condition = sum(w * slopes[k] for w, k in pairs), sum(abs(w) * conditions[k] for w, k in pairs)
            if mp.isfinite(slope) and mp.isfinite(condition):  # on a rim it may be infinite
                found[label(key)] = Right(slope, condition, sum(w * others[k] for w, k in pairs) if others else None)
    return found


def label(key: tuple[str, tuple[int, ...]]) -> str:
    name, place = key
    return f"d/d{name}" + (f"[{','.join(map(str, place))}]" if place else "")


def tangents(support: Any, numbers: list[Any], keys: list[Any]) -> list[tuple[list[Any], Any]]:
    """The directions in which an input may move, as weights of the derivatives by its elements, each with the element that names it."""
    n, one = len(numbers), mp.mpf(1)
    unit = [[one if i == j else 0 for j in range(n)] for i in range(n)]
    if getattr(support, "total", None) is not None:  # its sum stays
        top = max(range(n), key=lambda i: numbers[i])
        return [([w - u for w, u in zip(unit[i], unit[top])], keys[i]) for i in range(n) if i != top]
    kind = type(support).__name__
    if kind == "Sphere":  # its length stays
        square = sum(v * v for v in numbers)
        return [([w - numbers[i] * u / square for w, u in zip(unit[i], numbers)], keys[i]) for i in range(n)]
    if kind == "PositiveDefinite":  # it stays symmetric
        places = {key[1]: i for i, key in enumerate(keys)}
        upper = [(i, places[place[::-1]]) for place, i in places.items() if place[0] <= place[1]]
        return [([unit[i][k] + (unit[j][k] if i != j else 0) for k in range(n)], keys[i]) for i, j in upper]
    if "lower_cholesky" in repr(support).lower() or "LowerCholesky" in repr(support):
        return [(unit[i], keys[i]) for i in range(n) if keys[i][1][0] >= keys[i][1][1]]
    return [(unit[i], keys[i]) for i in range(n)]


def slopes_found(support: Any, name: str, value: Any, gradient: Tensor) -> dict[str, float]:
    """The derivatives of one row in the directions of `tangents`, of what autograd has found."""
    numbers = [mp.mpf(v) for _, v in _flat(value)]
    keys = [(name, place) for place, _ in _flat(value)]
    parts = [mp.mpf(v) if v == v and abs(v) != float("inf") else v for v in gradient.double().flatten().tolist()]
    found = {}
    for weights, key in tangents(support, numbers, keys):
        used = [(w, p) for w, p in zip(weights, parts) if w]
        broken = [p for _, p in used if isinstance(p, float)]
        found[label(key)] = float("nan") if len(used) > 1 and broken else sum((w if w != 1 else 1) * p for w, p in used)
    return found


def units(found: Any, truth: Right, dtype: torch.dtype) -> float:
    """How many units of rounding, times the condition, a number is off; inf for nan, or an overflow where the right number is finite."""
    largest, eps, least = LARGEST[dtype], torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    number = float(found)
    if number != number:
        return float("inf")
    ends = [truth.value] if truth.other is None else sorted([truth.value, truth.other])
    beyond = next((end for end in ends if abs(end) > largest), None)
    if beyond is not None and number * (1 if beyond > 0 else -1) > largest / 1e8:
        return 0.0
    if abs(number) == float("inf"):  # half of a square overflows where the square does
        return 0.0 if truth.condition * 100 * eps + 4 * max(map(abs, ends)) > largest else float("inf")
    found = mp.mpf(found)
    if len(ends) == 2 and ends[0] <= found <= ends[1]:
        return 0.0
    error = min(abs(found - end) for end in ends)
    if error <= least:  # what underflows may be 0
        return 0.0
    return float(min(error / (eps * truth.condition), mp.mpf(10) ** 300)) if truth.condition else float("inf")


def is_whole(support: Any) -> bool:
    """Whether its elements are whole numbers, or steps of a grid, so that there is no derivative by them."""
    return bool(support.whole or getattr(support, "stepped", False) or type(support).__name__ == "Binary" or _of_binary(support))


def _of_binary(support: Any) -> bool:
    return type(getattr(support, "element", None)).__name__ == "Binary"


def _step(number: Any, support: Any) -> Any:
    """A change that stays in the support: upwards, but for what lies at the upper end."""
    size = abs(number) * STEP if number else STEP * STEP
    return -size if number == support.upper else size


def _flat(v: Any, place: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], float]]:
    if not isinstance(v, (tuple, list)):
        return [(place, v)]
    return [pair for i, part in enumerate(v) for pair in _flat(part, (*place, i))]


def _nested(v: Any, number: Callable[[tuple[int, ...]], Any], place: tuple[int, ...] = ()) -> Any:
    if not isinstance(v, (tuple, list)):
        return number(place)
    return [_nested(part, number, (*place, i)) for i, part in enumerate(v)]


def _short(v: Any) -> str:
    return f"{v:.9g}" if not isinstance(v, (tuple, list)) else "[" + ", ".join(map(_short, v)) + "]"
