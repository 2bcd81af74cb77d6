"""The gradient estimators of an expectation, one variable at a time, as data: those of what is drawn or summed as it is."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ._conditionals import ScoredConditional
from ._dims import Dims, Term
from ._errors import KindError
from ._scope import Scope
from ._variables import is_number, is_whole, need_finite


@dataclass(frozen=True)
class Estimator:
    """How the variables of one factor are drawn or summed, and where their gradient comes from.

    Attributes:
        name: what stands for it in `estimator=`.
        lacks: what a distribution that it cannot serve is told.
        scored: whether its gradient needs log q.
        relaxed: whether values between the discrete ones are drawn.
        biased: whether its value or its gradient is another on average than the expectation's.
    """

    name: ClassVar[str] = ""
    lacks: ClassVar[str] = ""
    scored: ClassVar[bool] = False
    relaxed: ClassVar[bool] = False
    biased: ClassVar[bool] = False

    @staticmethod
    def serves(dist: Any) -> bool:
        """Whether a leaf has what this needs."""
        return True

    def draw(self, conditional: ScoredConditional, dims: Dims, sizes: list[int], scope: Scope) -> list[Term]:
        """One draw for each variable."""
        return conditional.draw(dims, sizes, pathwise=False)

    def words(self, num_samples: int) -> str:
        """For `loss.explain`."""
        return f"drawn {num_samples} time{'s' * (num_samples > 1)}, {self.name.replace('_', '-')}"


@dataclass(frozen=True)
class Enumerate(Estimator):
    """Sums over all values of a variable that takes finitely many: exact, without noise.

    Args:
        max_enumerate: with how many points at most, together with the other enumerated variables; None for that of the expectation.
    """

    name = "enumerate"
    lacks = "takes infinitely many values, or does not list them; it cannot be enumerated"
    max_enumerate: int | None = None

    def __post_init__(self) -> None:
        if self.max_enumerate is not None:
            check_limit(self.max_enumerate, "Enumerate")

    @staticmethod
    def serves(dist: Any) -> bool:
        return dist.has_enumerate

    def words(self, num_samples: int) -> str:
        return "summed exactly"


@dataclass(frozen=True)
class Pathwise(Estimator):
    """Differentiates through the draw, z = g(ε, φ): unbiased, for families whose draws have a gradient."""

    name = "pathwise"
    lacks = "has no pathwise gradient"

    @staticmethod
    def serves(dist: Any) -> bool:
        return dist.has_rsample

    def draw(self, conditional: ScoredConditional, dims: Dims, sizes: list[int], scope: Scope) -> list[Term]:
        return conditional.draw(dims, sizes, pathwise=True)


@dataclass(frozen=True)
class Sample(Estimator):
    """Draws, and gives no gradient to what is drawn from: for variables with nothing to be trained in or above them, as a time t ~ p(t).

    `"auto"` chooses it there, for a draw is unbiased then, and a sum would cost one evaluation of f for each value. Asked for elsewhere, as
    in the sleep phase of wake–sleep, it leaves the gradient of the drawn distribution out. `is_biased` is False only if no parameters and
    no given variables stand in or above the factor.
    """

    name = "sample"

    def words(self, num_samples: int) -> str:
        return f"drawn {num_samples} time{'s' * (num_samples > 1)}"


@dataclass(frozen=True)
class Score(Estimator):
    r"""The score function, or REINFORCE: unbiased, for every density whose support stays where it is, and noisy without a good baseline b.

    $$\nabla_\phi \mathbb{E}_{q_\phi}[f] = \mathbb{E}_{q_\phi}\left[(f(z) - b)\nabla_\phi\log q_\phi(z)\right]$$

    The ends of a `Uniform`, and the least value of a `Pareto`, may be constants; where they are trained or given, this estimator is
    rejected.

    Args:
        baseline: b. None for the mean of the other draws' costs (leave-one-out), which needs `num_samples` of 2 or more. A number, which
            may be 0. Or a module, which the formula registers: [`MovingAverage`][pixyz.core.MovingAverage], or a network, which is called
            with the conditioning variables of the factor, or of q if the factor has none (by keyword where its signature has their
            names, else by position; without them, if it takes nothing), and returns one value for each datum, `(N,)` or `(N, 1)`. The
            same `backward()` gives its parameters the gradient of its squared error, whether the loss is minimised or maximised.

    Raises:
        KindError: for a baseline that is neither.

    Source:
        Williams (1992); Mnih and Gregor (2014), https://arxiv.org/abs/1402.0030; leave-one-out: Kool et al. (2019),
        https://openreview.net/forum?id=r1lgTGL5DE
    """

    name = "score"
    lacks = "has a support that moves with its parameters, and the score has no gradient for its ends"
    scored = True
    baseline: nn.Module | float | None = None

    def __post_init__(self) -> None:
        if not (self.baseline is None or isinstance(self.baseline, nn.Module) or is_number(self.baseline)):
            raise KindError(f"Score: baseline must be a module, a number or None; got a {type(self.baseline).__name__}.")
        if is_number(self.baseline):
            need_finite(self.baseline, "baseline", "Score")

    @staticmethod
    def serves(dist: Any) -> bool:
        return dist.has_fixed_support

    def words(self, num_samples: int) -> str:
        if self.baseline is None:
            said = "leave-one-out baseline" if num_samples > 1 else "no baseline"
        else:
            said = f"baseline {type(self.baseline).__name__ if isinstance(self.baseline, nn.Module) else self.baseline}"
        return f"{super().words(num_samples)}, {said}"


def check_limit(limit: object, who: str) -> None:
    """An error unless it is a number of points."""
    if not is_whole(limit) or limit < 1:  # type: ignore[operator]
        raise KindError(f"{who}: max_enumerate must be a whole number of at least 1; got {limit!r}.")
