"""What a formula under test is: a description, the loss it describes, and the truth about it.

A *world* is a module in `formulas/worlds`; the runner finds it by its being there. It has:

- `cases()`, a hypothesis strategy of cases. Draw the structure by hypothesis, so that it can be shrunk, and all numbers from one
  integer, `seed=st.integers(0, 2**32 - 1)`, for each draw costs time; an example may cost 25 ms of CPU in the mean.
- optionally `REJECTIONS`, a tuple of `Rejection`: the errors of the library that its cases may run into, each with the reason why it is
  right. Every other error is a disagreement.
- optionally `WARNINGS`, a tuple of regular expressions: the warnings that its cases may run into. Every other warning is a disagreement.
- optionally `FAULTS`, a tuple of `Fault`: what the library gets wrong today. `cases()` leaves these out (`hypothesis.assume`, or a
  narrower strategy), and a test fails as soon as one of them is mended.

- optionally `ALIKE`, a tuple of pairs: a regular expression for what differs between two descriptions ("Leaf.letter"), and a sentence
  that says why they print alike. Formulas that print alike for other reasons are listed as a new kind.

A case is a frozen dataclass whose fields are numbers, texts, tuples and other frozen dataclasses, so that its repr rebuilds it: that is
what is printed when it disagrees, and what becomes a test. Numbers of the model should follow from (seed, name of what they belong to),
by `generator`, and not from the order in which it is built: then two descriptions with one seed speak of one model, and formulas that
print alike can be told from formulas that are equal. A whole world, smaller than any:

    @dataclass(frozen=True)
    class Square(Case):
        seed: int
        power: int

        def numbers(self):
            return {"mu": torch.randn(2, generator=generator(self.seed, "mu")), "z": torch.randn(3, 2, generator=generator(self.seed, "z"))}

        def build(self, copies=1):
            n = self.numbers()
            mu, z = nn.Parameter(n["mu"]), n["z"].requires_grad_()
            loss = Normal("p(z)", loc=mu, scale=1.0).log_prob() ** self.power
            return Built(loss, {"z": z}, {"mu": mu, "z": z})

        def truth(self):
            log_p = lambda mu, z: (-0.5 * (z - mu).square() - 0.5 * math.log(2 * math.pi)).sum(-1)
            return by_autograd(lambda mu, z: log_p(mu, z) ** self.power, self.numbers())

    def cases():
        return st.builds(Square, seed=st.integers(0, 2**32 - 1), power=st.integers(1, 3))

Everything runs with float64 as the default dtype.
"""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pixyz.core import Loss, PixyzError


class Built(NamedTuple):
    """A formula in the library.

    Attributes:
        loss: the formula.
        values: what `loss.estimate` is given.
        leaves: by name, the tensors by which the gradient is compared: every `nn.Parameter`, and the given values that are real. They
            require gradients, and the values are these tensors or are made from them (`x.repeat(copies, 1)`).
        options: what else `loss.estimate` is given, such as `batch_size`.
    """

    loss: Loss
    values: Mapping[str, Tensor | float]
    leaves: Mapping[str, Tensor]
    options: Mapping[str, object] = {}


class Truth(NamedTuple):
    """What is true of a formula.

    Attributes:
        value: `(batch,)`, or `()` of a formula that is one number.
        gradients: of `(weights(value) * value).sum()`, by each leaf, under the leaves' names.
        scale: the size of the largest term that the value is a sum of, if it is more than the value's own. An exact formula may
            differ by 1e-9 of the largest of 1, the scale and the value; a gradient by 1e-9 of the largest of 1, the scale and its
            own largest component.
    """

    value: Tensor
    gradients: Mapping[str, Tensor]
    scale: float = 1.0


class OutsideError(Exception):
    """Raised by `truth` where a formula has no value, or lies near a place where it has no derivative; such a case is passed over."""


@dataclass(frozen=True)
class Case(ABC):
    """A formula under test.

    A subclass is a frozen dataclass too; its first field should be `seed: int`.

    Attributes:
        exact: whether the library's value and gradients are those of the formula up to rounding. If not, they are random, their means
            are the truth, and every component of the mean of many estimates must be within 4.5 standard errors of it.
        copies: of a stochastic case, how many independent estimates of each datum one evaluation gives; `build` is called with this
            number. 1 where the estimates of one evaluation depend on each other (`.mean()`, a loss of the whole batch); the loss is
            then evaluated `repeats` times.
        repeats: how often it is evaluated where `copies` is 1.
    """

    exact = True
    copies = 256
    repeats = 32

    @abstractmethod
    def build(self, copies: int = 1) -> Built:
        """The formula in the library, with values in which each datum stands `copies` times.

        The copies are blocks: with a batch of B, row r * B + b is copy r of datum b, as `x.repeat(copies, 1)` has it. Of an exact case
        `copies` is always 1. It must not change or read the state of torch's generators.
        """

    @abstractmethod
    def truth(self) -> Truth:
        """The value and the gradients by plain torch in float64, without pixyz and without the objects of `build`."""

    def at(self, seed: int) -> "Case | None":
        """The same structure with other numbers, and one choice of all that a text never shows, such as the batch.

        None if the case has no field `seed`; then its text is not compared with others'.
        """
        return replace(self, seed=seed) if any(field.name == "seed" for field in fields(self)) else None


@dataclass(frozen=True)
class Rejection:
    """An error of the library that is right: its class, a regular expression that its text has, and why it is right."""

    kind: type[PixyzError]
    text: str
    reason: str


@dataclass(frozen=True)
class Fault:
    """What the library gets wrong: a case that disagrees with its truth, and the fault in a sentence with the right number."""

    case: Case
    reason: str


def weights(value: Tensor) -> Tensor:
    """The weight of each datum in the number that is differentiated: different ones, so that no two data can be mistaken."""
    return 1.0 + torch.arange(value.numel(), dtype=torch.float64).reshape(value.shape) / 4


def by_autograd(function: Callable[..., Tensor], leaves: Mapping[str, Tensor], scale: float = 1.0) -> Truth:
    """The truth about `function(**leaves)`, written in plain torch; its gradients are autograd's. `leaves` are not changed."""
    free = {name: leaf.detach().to(torch.float64).requires_grad_() for name, leaf in leaves.items()}
    value = function(**free)
    return Truth(value.detach(), gradients_of(value, free), scale)


def gradients_of(value: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradients of `(weights(value) * value).sum()` by the leaves; zeros for those that it does not depend on."""
    if not value.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(value, tuple(leaves.values()), weights(value), allow_unused=True)
    return {name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in zip(leaves.items(), found)}


def generator(seed: int, name: str) -> torch.Generator:
    """A generator for the numbers of what has this name."""
    return torch.Generator().manual_seed(seed ^ zlib.crc32(name.encode()))
