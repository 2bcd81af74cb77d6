"""Sets where parameters and values may lie, each with a quick test of a whole tensor."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import constraints

from pixyz.core import ON_HOST, Checks, SupportError

MASS, DENSITY = "a mass", "a density"
Held = bool | Tensor
"""Whether all elements lie inside: known to the host, or `()`, on the device."""


def has_numbers(t: Tensor) -> bool:
    """Whether there are numbers to check: none in an empty tensor, nor on the meta device."""
    return not t.is_meta and t.numel() > 0


class Support(ABC):
    """A set. An element has `event_rank` dims, the trailing ones of a tensor."""

    words: str
    event_rank: int = 0
    open_sides: int = 0
    """On how many sides it has no bound."""
    lower: float = -math.inf
    upper: float = math.inf
    """Bounds of every number of its elements."""
    whole: bool = False
    """Whether its elements are whole numbers, so that a tensor of integers will do."""
    is_index: bool = False
    """Whether its elements are numbers of categories, which half precision leaves integers."""
    measure: str | None = DENSITY
    """What a distribution gives to one of its elements; None where that is not known."""

    @property
    def middle(self) -> float:
        """A number between its bounds."""
        least = max(self.lower, -1.0)
        return 0.5 * (least + min(self.upper, 1.0 + least))

    def check(self, t: Tensor, who: str) -> None:
        """A `SupportError` if an element lies outside."""
        if t.ndim >= self.event_rank and not self.holds(t.detach()):
            raise outside(t, self, who)

    @abstractmethod
    def holds(self, t: Tensor, checks: Checks = ON_HOST) -> Held:
        """Whether all elements lie inside, read as `checks` reads; in as few passes over the memory as will do, for it runs at every
        evaluation."""

    @abstractmethod
    def contains(self, t: Tensor) -> Tensor:
        """For each element, whether it lies inside; for error messages."""

    @abstractmethod
    def member(self, like: Tensor) -> Tensor:
        """Elements of it, of the shape and kind of `like`, where densities are finite; in place of what is missing."""


@dataclass(frozen=True)
class Interval(Support):
    """The numbers from `lower` to `upper`, which belong to it unless the side is open; only whole ones if `whole`. Never nan.

    If `stepped`, the parameters say which of them are values, so that each has a mass; None where that is not known.
    """

    words: str
    lower: float = -math.inf
    upper: float = math.inf
    open_below: bool = False
    open_above: bool = False
    whole: bool = False
    is_index: bool = False
    stepped: bool | None = False

    @property
    def measure(self) -> str | None:  # type: ignore[override]
        return MASS if self.whole or self.stepped else DENSITY if self.stepped is not None else None

    @property
    def open_sides(self) -> int:  # type: ignore[override]
        return math.isinf(self.lower) + math.isinf(self.upper)

    def holds(self, t: Tensor, checks: Checks = ON_HOST) -> Held:
        if not has_numbers(t):
            return True
        low, high = (t.amin(), None) if self.upper == math.inf and not self.whole else torch.aminmax(t)  # both hand on a nan
        low = checks.read(low)
        held = low > self.lower if self.open_below else low >= self.lower
        if high is not None:
            high = checks.read(high)
            is_open = self.open_above or (self.whole and self.upper == math.inf)
            held = held & (high < self.upper if is_open else high <= self.upper)
        return held & checks.equal(t, t.floor()) if self.whole else held

    def contains(self, t: Tensor) -> Tensor:
        above = t > self.lower if self.open_below else t >= self.lower
        below = t < self.upper if self.open_above else t <= self.upper
        return above & below & t.isfinite() & (t == t.floor()) if self.whole else above & below

    def member(self, like: Tensor) -> Tensor:
        if math.isinf(self.lower):
            inside = 0.0 if math.isinf(self.upper) else self.upper - 1.0
        elif self.whole:
            inside = self.lower
        else:
            inside = self.lower + 1.0 if math.isinf(self.upper) else 0.5 * (self.lower + self.upper)
        return torch.full_like(like, inside)


@dataclass(frozen=True)
class Binary(Support):
    """0 and 1."""

    words: str = "0 or 1"
    measure = MASS

    def holds(self, t: Tensor, checks: Checks = ON_HOST) -> Held:
        return not has_numbers(t) or checks.equal(t.bool().to(t.dtype), t)

    def contains(self, t: Tensor) -> Tensor:
        return (t == 0) | (t == 1)

    def member(self, like: Tensor) -> Tensor:
        return torch.zeros_like(like)


@dataclass(frozen=True)
class Vectors(Support):
    """Vectors whose elements all lie in `element`; those whose sum is `total`, if that is said. Of higher rank, matrices of them."""

    words: str
    element: Support
    total: float | None = None
    event_rank: int = 1

    @property
    def measure(self) -> str | None:  # type: ignore[override]
        return f"{DENSITY} on the simplex" if self.total is not None and self.element.measure == DENSITY else self.element.measure

    @property
    def open_sides(self) -> int:  # type: ignore[override]
        return self.element.open_sides

    @property
    def lower(self) -> float:  # type: ignore[override]
        return self.element.lower

    @property
    def whole(self) -> bool:  # type: ignore[override]
        return self.element.whole

    def holds(self, t: Tensor, checks: Checks = ON_HOST) -> Held:
        held = self.element.holds(t, checks)
        if self.total is None or not has_numbers(t):
            return held
        return held & (checks.read((t.sum(-1) - self.total).abs().amax()) < _slack(t))

    def contains(self, t: Tensor) -> Tensor:
        inside = self.element.contains(t).flatten(-self.event_rank).all(-1)
        if self.total is None:
            return inside
        return inside & ((t.sum(-1) - self.total).abs() < _slack(t))

    def member(self, like: Tensor) -> Tensor:
        if self.total is None:
            return self.element.member(like)
        if isinstance(self.element, Binary):
            return _first_axis(like)
        return torch.full_like(like, self.total / like.shape[-1])


@dataclass(frozen=True)
class Sphere(Support):
    """Vectors of length 1."""

    words: str = "of length 1 over the last dim"
    event_rank: int = 1
    measure = f"{DENSITY} on the sphere"

    def holds(self, t: Tensor, checks: Checks = ON_HOST) -> Held:
        return not has_numbers(t) or checks.read((t.square().sum(-1) - 1).abs().amax()) < 8 * _slack(t)

    def contains(self, t: Tensor) -> Tensor:
        return (t.square().sum(-1) - 1).abs() < 8 * _slack(t)

    def member(self, like: Tensor) -> Tensor:
        return _first_axis(like)


@dataclass(frozen=True)
class Constrained(Support):
    """What a constraint of `torch.distributions` holds."""

    constraint: constraints.Constraint
    open_sides: int = 2

    @property
    def measure(self) -> str | None:  # type: ignore[override]
        if self.constraint.is_discrete:
            return MASS
        return f"{DENSITY} on the simplex" if self.constraint is constraints.simplex else DENSITY

    @property
    def words(self) -> str:  # type: ignore[override]
        return f"in {self.constraint!r}".replace("in in", "in").removesuffix("()")

    @property
    def event_rank(self) -> int:  # type: ignore[override]
        return self.constraint.event_dim

    def holds(self, t: Tensor, checks: Checks = ON_HOST) -> Held:
        return not has_numbers(t) or checks.every(self.contains(t))

    def contains(self, t: Tensor) -> Tensor:
        return self.constraint.check(t)

    def member(self, like: Tensor) -> Tensor:
        try:
            return torch.distributions.transform_to(self.constraint)(torch.zeros_like(like))
        except NotImplementedError:  # whole numbers
            return torch.full_like(like, getattr(self.constraint, "lower_bound", 0))


class PositiveDefinite(Constrained):
    """Symmetric matrices with positive eigenvalues. The constraint of `torch.distributions` reads a number to decide how to go on."""

    def contains(self, t: Tensor) -> Tensor:
        is_symmetric = torch.isclose(t, t.mT, atol=1e-6).flatten(-2).all(-1)
        return is_symmetric & (torch.linalg.cholesky_ex(t).info == 0)


def _first_axis(like: Tensor) -> Tensor:
    """(1, 0, ..., 0)."""
    return (torch.arange(like.shape[-1], device=like.device) == 0).to(like.dtype).expand_as(like)


def _slack(t: Tensor) -> float:
    """How far a sum over the last dim may be off by rounding."""
    return 8 * torch.finfo(t.dtype if t.is_floating_point() else torch.float32).eps * max(8, t.shape[-1])


def in_support(t: Tensor, support: Support) -> Tensor:
    """A tensor with elements of the support where it is outside: given others, a sampler of whole numbers ends the process on CUDA."""
    inside = support.contains(t)
    shape = (*inside.shape, *[1] * (t.ndim - inside.ndim))
    return torch.where(inside.reshape(shape), t, support.member(t))


def outside(t: Tensor, support: Support, who: str, hint: str = "") -> SupportError:
    """The error that counts the entries outside of the support and gives the range of all."""
    inside = support.contains(t)
    bad = inside.numel() - int(inside.sum())
    nans = int(t.isnan().sum())
    rest = t[~t.isnan()]
    seen = f"from {rest.min().item():.4g} to {rest.max().item():.4g}" if rest.numel() else "none is a number"
    error = SupportError(
        f"{who} must be {support.words}, but {bad} of {inside.numel()} are not ({seen}{f', {nans} nan' if nans else ''}).{hint}"
    )
    error.nans = nans
    return error


real = Interval("a number")
positive = Interval("positive", lower=0.0, open_below=True)
non_negative = Interval("at least 0", lower=0.0)
unit_interval = Interval("in [0, 1]", lower=0.0, upper=1.0)
open_interval = Interval("in (0, 1)", lower=0.0, upper=1.0, open_below=True, open_above=True)
unit_levels = Interval("in [0, 1]", lower=0.0, upper=1.0, stepped=True)
half_open_interval = Interval("in [0, 1)", lower=0.0, upper=1.0, open_above=True)
probability = Interval("in (0, 1]", lower=0.0, upper=1.0, open_below=True)
counts = Interval("a whole number, at least 0", lower=0.0, whole=True)
indices = Interval("a whole number, at least 0", lower=0.0, whole=True, is_index=True)
levels = Interval("a whole number, at least 2", lower=2.0, whole=True)
binary = Binary()
one_hot = Vectors("one-hot over the last dim", binary, total=1.0)
simplex = Vectors("non-negative with sum 1 over the last dim", non_negative, total=1.0)
positive_simplex = Vectors("positive with sum 1 over the last dim", positive, total=1.0)
real_vectors = Vectors("a number", real)
real_matrices = Vectors("a number", real, event_rank=2)
positive_vectors = Vectors("positive", positive)
count_vectors = Vectors("whole numbers, at least 0", counts)
sphere = Sphere()
positive_definite = PositiveDefinite(constraints.positive_definite)
lower_cholesky = Constrained(constraints.lower_cholesky)
