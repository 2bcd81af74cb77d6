"""Sets where parameters and values may lie, each with a quick test of a whole tensor."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Support(ABC):
    """A set. An element has `event_rank` dims, the trailing ones of a tensor."""

    words: str
    event_rank: int = 0

    @abstractmethod
    def holds(self, t: Tensor) -> bool:
        """Whether all elements lie inside; in as few passes over the memory as will do, for it runs at every evaluation."""

    @abstractmethod
    def contains(self, t: Tensor) -> Tensor:
        """For each element, whether it lies inside; for error messages."""


@dataclass(frozen=True)
class Interval(Support):
    """The numbers from `lower` to `upper`, which belong to it unless `open_below`; never nan."""

    words: str
    lower: float = -math.inf
    upper: float = math.inf
    open_below: bool = False

    def holds(self, t: Tensor) -> bool:
        if t.numel() == 0:
            return True
        low, high = (t.amin(), None) if self.upper == math.inf else torch.aminmax(t)  # both hand on a nan
        above = low.item() > self.lower if self.open_below else low.item() >= self.lower
        return above and (high is None or high.item() <= self.upper)

    def contains(self, t: Tensor) -> Tensor:
        return (t > self.lower if self.open_below else t >= self.lower) & (t <= self.upper)


@dataclass(frozen=True)
class Binary(Support):
    """0 and 1."""

    words: str = "0 or 1"

    def holds(self, t: Tensor) -> bool:
        return torch.equal(t * t, t)

    def contains(self, t: Tensor) -> Tensor:
        return (t == 0) | (t == 1)


@dataclass(frozen=True)
class Simplex(Support):
    """Vectors of non-negative numbers with sum 1; only unit vectors if `one_hot`."""

    words: str
    one_hot: bool = False
    event_rank: int = 1

    def holds(self, t: Tensor) -> bool:
        return bool(self.contains(t).all())

    def contains(self, t: Tensor) -> Tensor:
        inside = ((t == 0) | (t == 1)).all(-1) if self.one_hot else (t >= 0).all(-1)
        slack = 8 * torch.finfo(t.dtype if t.is_floating_point() else torch.float32).eps * max(8, t.shape[-1])
        return inside & ((t.sum(-1) - 1).abs() < slack)


@dataclass(frozen=True)
class RealVectors(Support):
    """Vectors of numbers."""

    words: str = "a number"
    event_rank: int = 1

    def holds(self, t: Tensor) -> bool:
        return real.holds(t)

    def contains(self, t: Tensor) -> Tensor:
        return real.contains(t).all(-1)


real = Interval("a number")
positive = Interval("positive", lower=0.0, open_below=True)
unit_interval = Interval("in [0, 1]", lower=0.0, upper=1.0)
binary = Binary()
one_hot = Simplex("one-hot over the last dim", one_hot=True)
simplex = Simplex("non-negative with sum 1 over the last dim")
real_vectors = RealVectors()
