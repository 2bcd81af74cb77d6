"""The formula tree: what a distribution or a loss says of itself.

Nodes are plain data and know nothing of tensors. `pixyz.core._printers` turns a tree into text, Unicode or LaTeX.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Formula:
    """The parent of all nodes."""


@dataclass(frozen=True)
class Number(Formula):
    """A number, `0.1`."""

    value: float


@dataclass(frozen=True)
class Symbol(Formula):
    """A name that stands for itself: a variable, a parameter, a tensor."""

    name: str


@dataclass(frozen=True)
class Density(Formula):
    """`p(x|z,y=1)`: what is given by name, and what has a value, with the value's text; `p(x[m]|z)`, of what the mask m selects."""

    name: str
    var: tuple[str, ...]
    cond_var: tuple[str, ...] = ()
    given: tuple[tuple[str, str], ...] = ()
    mask: str | None = None


@dataclass(frozen=True)
class StandardNormal(Formula):
    """`N(z;0,1)`."""

    var: tuple[str, ...]


@dataclass(frozen=True)
class Juxtaposed(Formula):
    """`p(x|z)p(z)`: factors of a joint, written side by side."""

    factors: tuple[Formula, ...]


@dataclass(frozen=True)
class Integral(Formula):
    """`∫p(x|z)p(z)dz`: variables integrated out."""

    body: Formula
    var: tuple[str, ...]


@dataclass(frozen=True)
class Summation(Formula):
    """`Σ_k p(x|k)p(k)`: variables summed out."""

    body: Formula
    var: tuple[str, ...]


@dataclass(frozen=True)
class Series(Formula):
    """`Σ_{t=0}^{T-1} a`: a term for each step."""

    body: Formula
    index: str
    last: str


@dataclass(frozen=True)
class Equation(Formula):
    """`p(x,z) = p(x|z)p(z)`."""

    left: Formula
    right: Formula


@dataclass(frozen=True)
class Proportional(Formula):
    """`q(z|x,y) ∝ q(z|x)q(z|y)`: equal, once the right side is normalised."""

    left: Formula
    right: Formula


@dataclass(frozen=True)
class Log(Formula):
    """`log p(x|z)`."""

    body: Formula


@dataclass(frozen=True)
class Ratio(Formula):
    """`p(x,z)/q(z|x)`."""

    top: Formula
    bottom: Formula


@dataclass(frozen=True)
class Sum(Formula):
    """`a - b + c`: each term with its sign, +1 or -1."""

    terms: tuple[tuple[int, Formula], ...]


@dataclass(frozen=True)
class Product(Formula):
    """`0.1 * a`."""

    factors: tuple[Formula, ...]


@dataclass(frozen=True)
class Power(Formula):
    """`a^2`."""

    base: Formula
    exponent: Formula


@dataclass(frozen=True)
class Call(Formula):
    """`mean(a)`, and with further arguments `max(a, b)`."""

    name: str
    body: Formula
    others: tuple[Formula, ...] = ()


@dataclass(frozen=True)
class At(Formula):
    """`[a]_{x=2}`: where variables have a value, each with the value's text."""

    body: Formula
    given: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Functional(Formula):
    """`H[p(x)]`: a number that a distribution has."""

    name: str
    body: Formula


@dataclass(frozen=True)
class Expected(Formula):
    """`E_q(z|x)[a]`; `E_q(z|x)^8[a]` where a depends on 8 draws at once."""

    under: Formula
    body: Formula
    draws: int | None = None


@dataclass(frozen=True)
class PowerMean(Formula):
    """`log mean p(x,z)/q(z|x)`, of the exponential of the body, over draws; of order α, `log mean^(1-α) p(x,z)/q(z|x)`."""

    body: Formula
    order: float = 0.0


@dataclass(frozen=True)
class Divergence(Formula):
    """`KL[q(z|x)||p(z)]`."""

    name: str
    left: Formula
    right: Formula


@dataclass(frozen=True)
class Gradient(Formula):
    """`∇_x a`: with respect to variables."""

    body: Formula
    var: tuple[str, ...]


@dataclass(frozen=True)
class Saddle(Formula):
    """`min_p max_d a`: what players minimise and others maximise; those that minimise may have another objective, `low`."""

    body: Formula
    low: Formula | None
    least: tuple[str, ...]
    most: tuple[str, ...]


@dataclass(frozen=True)
class Optimum(Formula):
    """`min_p a`, `max_d a`: by name, and of what."""

    name: str
    players: tuple[str, ...]
    body: Formula


@dataclass(frozen=True)
class Beside(Formula):
    """`a; b`: formulas side by side."""

    parts: tuple[Formula, ...]
