"""Expressions of terms: what the library's operators make of losses, and torch's of numbers.

    expression = Apply("subtract", (Term(0), Apply("times", (Term(1),), 0.5)))
    expression.loss([p.log_prob(), KullbackLeibler(q, p)], extras)     # the library's
    expression.value([log_p, kl], extras)                              # the truth's

Whatever the terms are, the value is finite and of a modest size: logarithms, quotients and roots are of numbers above 1/2, and the
exponent of `exp` is at most 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from pixyz.core import Loss, Parameter, as_loss
from pixyz.losses import log_mean_exp, logsumexp, maximum, minimum


@dataclass(frozen=True)
class Extras:
    """What an expression has beside its terms, with one entry for the library and one for the truth.

    Attributes:
        trained: a parameter, `()`.
        each: a weight for each datum, `(B,)`.
        beta: `Parameter("beta")`, or its value, `()`.
    """

    trained: Any
    each: Any
    beta: Any


@dataclass(frozen=True)
class Term:
    """The term of this number."""

    number: int

    @property
    def beta(self) -> bool:
        return False

    def loss(self, terms: Sequence[Loss], extras: Extras) -> Loss:
        return terms[self.number]

    def value(self, terms: Sequence[Tensor], extras: Extras, sizes: list[float]) -> Tensor:
        sizes.append(terms[self.number].detach().abs().max().item())
        return terms[self.number]


@dataclass(frozen=True)
class Apply:
    """A function of expressions, and of one number."""

    function: str
    of: tuple[Any, ...]
    number: float = field(default=1.0)

    @property
    def beta(self) -> bool:
        """Whether `Parameter("beta")` stands in it."""
        return self.function == "beta" or any(x.beta for x in self.of)

    def loss(self, terms: Sequence[Loss], extras: Extras) -> Loss:
        """The expression in the library."""
        return LIBRARY[self.function](*[x.loss(terms, extras) for x in self.of], c=self.number, e=extras)

    def value(self, terms: Sequence[Tensor], extras: Extras, sizes: list[float]) -> Tensor:
        """The expression in torch; the size of every intermediate number is appended to `sizes`."""
        found = TORCH[self.function](*[x.value(terms, extras, sizes) for x in self.of], c=self.number, e=extras)
        sizes.append(found.detach().abs().max().item())
        return found


Expression = Term | Apply

LIBRARY: dict[str, Callable[..., Loss]] = {
    "negative": lambda a, c, e: -a,
    "times": lambda a, c, e: c * a,
    "over": lambda a, c, e: a / c,
    "plus": lambda a, c, e: a + c,
    "minus from": lambda a, c, e: c - a,
    "trained": lambda a, c, e: a * e.trained,
    "each": lambda a, c, e: a * e.each,
    "shifted": lambda a, c, e: e.each - a,
    "beta": lambda a, c, e: e.beta * a,
    "exp": lambda a, c, e: (0.1 * a).clamp(max=2.0).exp(),
    "log": lambda a, c, e: (abs(a) + 0.5).log(),
    "square": lambda a, c, e: a**2,
    "root": lambda a, c, e: (a.abs() + 1) ** 0.5,
    "base": lambda a, c, e: 2.0 ** (0.1 * a).clamp(-9.0, 2.0),
    "abs": lambda a, c, e: abs(a),
    "clamp": lambda a, c, e: a.clamp(c - 2.0, c),
    "above": lambda a, c, e: a.clamp(min=c),
    "detach": lambda a, c, e: a.detach(),
    "mean": lambda a, c, e: a.mean(),
    "sum": lambda a, c, e: a.sum(),
    "reciprocal": lambda a, c, e: c / (abs(a) + 0.5),
    "add": lambda a, b, c, e: a + b,
    "subtract": lambda a, b, c, e: a - b,
    "multiply": lambda a, b, c, e: a * b,
    "divide": lambda a, b, c, e: a / (abs(b) + 1),
    "maximum": lambda a, b, c, e: maximum(a, c * b),
    "minimum": lambda a, b, c, e: minimum(a, b),
    "logsumexp": lambda a, b, c, e: logsumexp(a, b),
    "log_mean_exp": lambda a, b, c, e: log_mean_exp(a, b, as_loss(c)),
    "clamped by": lambda a, b, c, e: a.clamp(max=b),
    "power": lambda a, b, c, e: (abs(a) + 0.5) ** (0.1 * b).clamp(-2.0, 2.0),
}
"""The functions with the library's operators, of losses, the number c and the extras e."""

TORCH: dict[str, Callable[..., Tensor]] = {
    "negative": lambda a, c, e: torch.neg(a),
    "times": lambda a, c, e: torch.mul(a, c),
    "over": lambda a, c, e: torch.div(a, c),
    "plus": lambda a, c, e: torch.add(a, c),
    "minus from": lambda a, c, e: torch.rsub(a, c),
    "trained": lambda a, c, e: torch.mul(a, e.trained),
    "each": lambda a, c, e: torch.mul(a, e.each),
    "shifted": lambda a, c, e: torch.sub(e.each, a),
    "beta": lambda a, c, e: torch.mul(a, e.beta),
    "exp": lambda a, c, e: torch.exp(torch.clamp(a / 10, max=2.0)),
    "log": lambda a, c, e: torch.log(torch.abs(a) + 0.5),
    "square": lambda a, c, e: torch.mul(a, a),
    "root": lambda a, c, e: torch.sqrt(torch.abs(a) + 1),
    "base": lambda a, c, e: torch.exp2(torch.clamp(a / 10, -9.0, 2.0)),
    "abs": lambda a, c, e: torch.abs(a),
    "clamp": lambda a, c, e: torch.clamp(a, c - 2.0, c),
    "above": lambda a, c, e: torch.clamp(a, min=c),
    "detach": lambda a, c, e: a.detach(),
    "mean": lambda a, c, e: torch.mean(a),
    "sum": lambda a, c, e: torch.sum(a),
    "reciprocal": lambda a, c, e: torch.reciprocal(torch.abs(a) + 0.5) * c,
    "add": lambda a, b, c, e: torch.add(a, b),
    "subtract": lambda a, b, c, e: torch.sub(a, b),
    "multiply": lambda a, b, c, e: torch.mul(a, b),
    "divide": lambda a, b, c, e: torch.div(a, torch.abs(b) + 1),
    "maximum": lambda a, b, c, e: torch.maximum(a, c * b),
    "minimum": lambda a, b, c, e: torch.minimum(a, b),
    "logsumexp": lambda a, b, c, e: torch.logaddexp(a, b),
    "log_mean_exp": lambda a, b, c, e: (
        torch.log(torch.exp(a - _top(a, b)) + torch.exp(b - _top(a, b)) + torch.exp(c - _top(a, b)))
        + _top(a, b)
        - torch.log(torch.tensor(3.0, dtype=torch.float64))
    ),
    "clamped by": lambda a, b, c, e: torch.where(a <= b, a, b),
    "power": lambda a, b, c, e: torch.exp(torch.clamp(b / 10, -2.0, 2.0) * torch.log(torch.abs(a) + 0.5)),
}
"""The same functions of tensors."""

OF_TWO = tuple(name for name, f in LIBRARY.items() if f.__code__.co_argcount == 4)
OF_ONE = tuple(name for name in LIBRARY if name not in OF_TWO)


def _top(a: Tensor, b: Tensor) -> Tensor:
    """The greatest of both and of 1, without gradient."""
    return torch.maximum(a, b).detach().clamp(min=1.0)


@st.composite
def expressions(draw: Any, terms: int, steps: int = 5, last: bool = True) -> Expression:
    """An expression in which each of so many terms stands at least once.

    Args:
        draw: hypothesis's.
        terms: how many there are.
        steps: how many functions of one expression there are at most.
        last: whether the mean or the sum over the batch may be taken.
    """
    one = OF_ONE if last else tuple(name for name in OF_ONE if name not in ("mean", "sum"))
    made: list[Expression] = [Term(i) for i in range(terms)]
    for _ in range(draw(st.integers(0, steps))):
        i = draw(st.integers(0, len(made) - 1))
        made[i] = Apply(draw(st.sampled_from(one)), (made[i],), draw(st.sampled_from((0.5, 2.0, -1.5))))
    found = made[0]
    for other in made[1:]:
        found = Apply(draw(st.sampled_from(OF_TWO)), (found, other), draw(st.sampled_from((0.5, 2.0))))
    if draw(st.booleans()):
        found = Apply(draw(st.sampled_from(one)), (found,), draw(st.sampled_from((0.5, 2.0, -1.5))))
    return found


def extras_of(name: str, copied: Any) -> Extras:
    """The extras of a formula in the library; `copied` gives its parameters and constants."""
    return Extras(copied(name), copied.constant(f"{name} each", copied.batch), Parameter("beta"))


def true_extras(name: str, weights: Any, beta: Tensor | None) -> Extras:
    """The same of the truth."""
    return Extras(weights(name), weights(f"{name} each", weights.batch, trained=False), beta)
