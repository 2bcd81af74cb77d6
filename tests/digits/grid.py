"""Points of the grid, what the library, torch and scipy make of them, and how many units of rounding each is off."""

import random
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from . import corners
from .rows import LARGEST, Point, Quantity, Right, Row, Subject, slopes_found, units


def points_of(subject: Subject, quantity: Quantity, combinations: int) -> list[Point]:
    """Corners of the parameters, combined at random from a seed, each with values in the bulk, in the tails and on the rim."""
    chance = random.Random(f"{subject.name} {quantity.name}")
    taken = quantity.takes(subject)
    inputs = {name: s for name, s in quantity.supports(subject).items() if name != "x"}
    choices = {name: corners.corners(s, plain(name), subject.shapes.get(plain(name), ())) for name, s in inputs.items()}
    found: dict[Any, Point] = {}
    for _ in range(20 * combinations):
        point = {name: chance.choice(options) for name, options in choices.items()}
        if len(found) % 2:
            point = nearly_equal(point, inputs, chance)
        if holds(subject, point):
            found.setdefault(repr(point), point)
        if len(found) == combinations:
            break
    if "x" not in taken:
        return list(found.values())
    rows: dict[Any, Point] = {}
    for point in found.values():
        for x in values_of(subject, point, taken["x"], chance):
            rows.setdefault(repr((point, x)), {**point, "x": x})
    return list(rows.values())


def plain(name: str) -> str:
    """The name of a parameter of the distribution itself, of "q.scale" that of another of the same family."""
    return name.rpartition(".")[2]


def nearly_equal(point: Point, supports: Mapping[str, Any], chance: random.Random) -> Point:
    """The point with what it has of another distribution of the family near to the first, if it has any."""
    changes = {name: chance.choice([0.0, 2.0**-22, 1e-3, 0.1]) for name in point if name != plain(name) and is_number(point[name])}
    near = {name: corners.single(point[plain(name)] * (1 + c)) for name, c in changes.items()}
    inside = {name: v for name, v in near.items() if supports[name].contains(torch.tensor([v])).all()}
    vectors = {name: point[plain(name)] for name in point if name != plain(name) and not is_number(point[name]) and chance.random() < 0.5}
    return {**point, **inside, **vectors}


def is_number(v: Any) -> bool:
    return not isinstance(v, tuple)


def holds(subject: Subject, params: Point) -> bool:
    """Whether the relations between the parameters hold."""
    tensors = tensors_of([params], torch.float64)
    return all(bool(check(tensors).all()) for _, check in getattr(subject.family, "relations", ()))


def values_of(subject: Subject, params: Point, support: Any, chance: random.Random) -> list[Any]:
    """Two draws, what is far from them, and corners of the support."""
    torch.manual_seed(chance.randrange(2**31))
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(chance.randrange(2**31))
        drawn = draws(subject, params, support)
    tail = corners.around(drawn[0], drawn[-1], support, chance) if drawn else []
    rim = corners.corners(support, "x", subject.shapes.get("x", ()))
    found = [*drawn, *tail, *chance.sample(rim, min(2, len(rim)))]
    return list(dict.fromkeys(found))


def draws(subject: Subject, params: Point, support: Any) -> list[Any]:
    """Two draws, in float64 where the parameters lie in their supports there, as float32 holds them; none where it holds no such value."""
    exact = tensors_of([params], torch.float64)
    precise = all(subject.supports[name].contains(t).all() for name, t in exact.items())
    tensors = tensors_of([params], torch.float64 if precise else torch.float32, subject)
    given = {name: t.repeat(2, *[1] * (t.ndim - 1)) for name, t in tensors.items()}
    x = subject.build().sample(given)["x"].double().float()
    least = torch.finfo(torch.float32).tiny
    inside = [v for v in x if v.isfinite().all() and support.contains(v[None]).all() and ((v == 0) | (v.abs() >= least)).all()]
    return [as_point(v if subject.shapes.get("x") else v.reshape(())) for v in inside]


def as_point(t: Tensor) -> Any:
    return float(t) if t.ndim == 0 else tuple(as_point(part) for part in t)


def tensors_of(points: Iterable[Point], dtype: torch.dtype, subject: Subject | None = None) -> dict[str, Tensor]:
    """By name, `(N, *event)`; numbers as `(N, 1)` features for a subject whose values are numbers."""
    points = list(points)
    found = {name: torch.tensor([p[name] for p in points], dtype=torch.float64).to(dtype) for name in points[0]}
    if subject is None or subject.value is None or subject.value.event_rank:
        return found
    return {name: t.unsqueeze(1) for name, t in found.items()}


def fits(subject: Subject, quantity: Quantity, point: Point, dtype: torch.dtype) -> bool:
    """Whether the inputs lie in their supports in this dtype: a sum of 1, or a level, in float32 is none in float64."""
    tensors = tensors_of([point], dtype)
    if dtype == torch.float64 and getattr(subject.value, "stepped", False) and point.get("x", 0.0) not in (0.0, 0.5, 1.0):
        return False
    return all(bool(support.contains(tensors[name]).all()) for name, support in quantity.supports(subject).items())


def computed(subject: Subject, quantity: Quantity, points: list[Point], dtype: torch.dtype, by: str = "ours") -> list[dict[str, float]]:
    """The value and the derivatives at each point, by the library, torch or scipy; nan where torch fails.

    Raises:
        NotImplementedError: where torch or scipy does not have it.
    """
    if by == "scipy":
        inputs = {name: t.numpy() for name, t in tensors_of(points, torch.float64).items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [{"value": float(v)} for v in (quantity.scipy or _lacking)(subject, inputs)]
    if by == "torch":
        try:
            return _computed(subject, quantity, points, dtype, by)
        except NotImplementedError:
            raise
        except (ValueError, RuntimeError):  # its batch, or one of its rows, fails
            return [_alone(subject, quantity, point, dtype) for point in points]
    if not subject.at_once:
        return [_computed(subject, quantity, [point], dtype, by)[0] for point in points]
    return _computed(subject, quantity, points, dtype, by)


def _alone(subject: Subject, quantity: Quantity, point: Point, dtype: torch.dtype) -> dict[str, float]:
    try:
        return _computed(subject, quantity, [point], dtype, "torch")[0]
    except (ValueError, RuntimeError):
        return {"value": float("nan")}


def _lacking(subject: Subject, inputs: Any) -> Any:
    raise NotImplementedError


def _computed(subject: Subject, quantity: Quantity, points: list[Point], dtype: torch.dtype, by: str) -> list[dict[str, float]]:
    inputs = tensors_of(points, dtype, subject if by == "ours" else None)
    free = quantity.continuous(subject)
    for name in free:
        inputs[name].requires_grad_()
    value = (quantity.ours if by == "ours" else quantity.torch or _lacking)(subject, inputs)
    found = [{"value": v} for v in value.detach().double().reshape(-1).tolist()]
    if not (free and value.requires_grad):
        return found
    gradients = torch.autograd.grad(value.sum(), [inputs[name] for name in free], allow_unused=True)
    supports = quantity.supports(subject)
    for name, gradient in zip(free, gradients):
        for i, point in enumerate(points):
            row = gradient[i] if gradient is not None else torch.zeros_like(inputs[name][i])
            found[i].update(slopes_found(supports[name], name, point[name], row.detach()))
    return found


def off(found: Mapping[str, float], rights: Mapping[str, Right], dtype: torch.dtype) -> dict[str, float]:
    """How many units of rounding, times the condition, each number is off; derivatives only where the value is within the dtype's range."""
    if abs(rights["value"].value) > LARGEST[dtype]:
        rights = {"value": rights["value"]}
    return {name: units(found[name], truth, dtype) for name, truth in rights.items() if name in found}


def rows_of(subject: Subject, quantity: Quantity, combinations: int) -> list[Row]:
    return [Row(subject.name, quantity.name, point) for point in points_of(subject, quantity, combinations)]
