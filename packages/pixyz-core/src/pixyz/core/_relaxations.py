"""The gradient estimators of discrete variables that are made from relaxed draws or borrowed gradients."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from torch import Tensor

from ._checks import ON_HOST, Checks
from ._conditionals import RelaxableConditional, ScoredConditional
from ._dims import Dims, Term
from ._errors import KindError, SupportError
from ._methods import Estimator
from ._scope import Scope
from ._variables import check_names, is_number

Temperature: TypeAlias = Tensor | float | str


@dataclass(frozen=True)
class Relaxed(Estimator):
    r"""The concrete, or Gumbel-softmax, draw in place of a discrete one: little noise, but biased, value and gradient.

    $$\tilde z = \sigma\left(\tfrac{1}{\tau}\left(\log\tfrac{\pi}{1-\pi} + \log\tfrac{u}{1-u}\right)\right), \qquad u \sim U(0,1)$$

    and the softmax of (log π + Gumbel noise)/τ for a categorical distribution. f sees these values, also as inputs of networks. A discrete
    log-density there is its multilinear extension, x log π + (1-x) log(1-π), not the density of the relaxed draw: for that, use
    `RelaxedBernoulli` or `RelaxedCategorical` and `"pathwise"`.

    Args:
        temperature: τ > 0, a number, or a tensor `()`, which may be changed in place; or the name of a `Parameter`, given with the data.

    Source:
        Maddison, Mnih and Teh (2017), https://arxiv.org/abs/1611.00712; Jang, Gu and Poole (2017), https://arxiv.org/abs/1611.01144
    """

    name = "relaxed"
    lacks = "cannot be relaxed"
    relaxed = True
    biased = True
    temperature: Temperature = 0.5

    def __post_init__(self) -> None:
        _check_temperature(self.temperature, "Relaxed")

    @staticmethod
    def serves(dist: Any) -> bool:
        return dist.has_relaxed

    def draw(self, conditional: ScoredConditional, dims: Dims, sizes: list[int], scope: Scope) -> list[Term]:
        _, relaxed, _ = relax(conditional, dims, sizes, self.temperature, scope)
        return [relaxed]

    def words(self, num_samples: int) -> str:
        return f"{super().words(num_samples)} at temperature {_said(self.temperature)} (biased)"


@dataclass(frozen=True)
class StraightThrough(Estimator):
    r"""A draw with the gradient of something smooth: the value is unbiased, its gradient is not.

    Args:
        temperature: None for the gradient of the mean; or τ, for that of the relaxed draw of the same noise (straight-through
            Gumbel-softmax): as in `Relaxed`.

    Source:
        Bengio, Léonard and Courville (2013), https://arxiv.org/abs/1308.3432; with τ, Jang, Gu and Poole (2017),
        https://arxiv.org/abs/1611.01144
    """

    name = "straight_through"
    lacks = "has no mean in closed form that could lend its gradient"
    biased = True
    temperature: Temperature | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None:
            _check_temperature(self.temperature, "StraightThrough")

    @staticmethod
    def serves(dist: Any) -> bool:
        return dist.has_straight_through

    def draw(self, conditional: ScoredConditional, dims: Dims, sizes: list[int], scope: Scope) -> list[Term]:
        if self.temperature is None:
            ((hard, _),) = conditional.draw(dims, sizes, pathwise=False)
            smooth = conditional.statistic("mean")
        else:
            (hard, _), smooth, _ = relax(conditional, dims, sizes, self.temperature, scope)
        lent = smooth.tensor - smooth.tensor.detach()
        for axis, d in enumerate(dims):
            if d not in smooth.dims:
                lent = lent.unsqueeze(axis)
        return [Term(hard + lent, dims)]

    def words(self, num_samples: int) -> str:
        at = "" if self.temperature is None else f" at temperature {_said(self.temperature)}"
        return f"{super().words(num_samples)}{at} (biased gradient)"


@dataclass(frozen=True)
class Rebar(Estimator):
    r"""The score function with the relaxed draw as control variate: unbiased, for three evaluations of f instead of one.

    $$\left(f(b) - \eta f(\tilde z_b)\right)\nabla\log q(b) + \eta\nabla f(\tilde z) - \eta\nabla f(\tilde z_b)$$

    where $\tilde z$ is the relaxed draw of which b is the hard one, and $\tilde z_b$ the relaxed draw given b, with the same noise.
    With K ≥ 2, the mean of the other draws' differences is the baseline of what the score multiplies. One variable of an
    expectation may have it, and what stands below that variable is drawn for each of the three.

    Args:
        temperature: τ > 0, as in `Relaxed`.
        scale: η.

    Source:
        Tucker et al. (2017), eq. 7, https://arxiv.org/abs/1703.07370
    """

    name = "rebar"
    lacks = "cannot be relaxed"
    scored = True
    temperature: Temperature = 0.5
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_temperature(self.temperature, "Rebar")
        if not is_number(self.scale) or not math.isfinite(self.scale):
            raise KindError(f"Rebar: scale must be a number; got {self.scale!r}.")

    @staticmethod
    def serves(dist: Any) -> bool:
        return dist.has_relaxed

    def words(self, num_samples: int) -> str:
        return f"{super().words(num_samples)} at temperature {_said(self.temperature)}"


def relax(conditional: ScoredConditional, dims: Dims, sizes: list[int], temperature: Temperature, scope: Scope) -> tuple[Term, Term, Term]:
    """A hard draw, the relaxed draw of the same noise, and the relaxed draw given the hard one."""
    tau = scope.bindings[temperature].tensor if isinstance(temperature, str) else temperature
    if isinstance(temperature, (str, Tensor)) and scope.shared.checks:
        _check_temperature(tau, temperature if isinstance(temperature, str) else "temperature", scope.shared.checks)
    return cast(RelaxableConditional, conditional).relax(dims, sizes, tau)


def _check_temperature(value: object, who: str, checks: Checks = ON_HOST) -> None:
    if isinstance(value, str):
        check_names((value,), who)
        return
    if isinstance(value, Tensor) and (value.ndim or not value.is_floating_point()):
        raise KindError(f"{who}: a temperature is one number, (); got {tuple(value.shape)} of {value.dtype}.")
    if not isinstance(value, Tensor) and not is_number(value):
        raise KindError(f"{who}: temperature must be a positive number, a tensor or the name of a Parameter; got {value!r}.")
    number = checks.read(value.detach()) if isinstance(value, Tensor) else float(cast(Any, value))
    if not checks.passed((number > 0) & (number < math.inf), who):
        raise SupportError(f"{who}: a temperature must be a positive number; got {number:.6g}.")


def _said(temperature: Temperature) -> str:
    return temperature if isinstance(temperature, str) else f"{float(temperature):.6g}"
