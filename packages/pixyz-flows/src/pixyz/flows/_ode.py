r"""Solutions of dx/dt = f(x, t) together with an integral along them, ∫ g(x, t) dt.

A Runge-Kutta scheme is a table: stage i is evaluated at time $t + c_i h$ and at $x + h a_i k_{i-1}$, and the step is $h\sum_i b_i k_i$.
The schemes here need no more than the stage before.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from ._bijection import Mapped

Rates = Callable[[Tensor, Tensor], Mapped]
"""From t `()` and x, dx/dt of the shape of x, and what is integrated, `(batch,)`."""


@dataclass(frozen=True)
class Scheme:
    """An explicit Runge-Kutta scheme."""

    ahead: tuple[float, ...]
    """c and a, which are equal here: how far ahead each stage looks, in steps."""
    weights: tuple[float, ...]
    """b."""

    @property
    def stages(self) -> int:
        """How many evaluations a step costs."""
        return len(self.weights)


FIXED = {
    "euler": Scheme((0.0,), (1.0,)),
    "midpoint": Scheme((0.0, 0.5), (0.0, 1.0)),
    "rk4": Scheme((0.0, 0.5, 0.5, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
"""The schemes that take equal steps."""


def solve_in_steps(rates: Rates, x: Tensor, span: tuple[float, float], *, scheme: Scheme, steps: int) -> Mapped:
    """x and the integral at the end of the span, which may run backwards."""
    start, end = span
    h = (end - start) / steps
    total = x.new_zeros(x.shape[0])
    for i in range(steps):
        slope = torch.zeros_like(x)
        step, gain = slope, torch.zeros_like(total)
        for ahead, weight in zip(scheme.ahead, scheme.weights):
            slope, rate = rates(x.new_full((), start + (i + ahead) * h), torch.add(x, slope, alpha=ahead * h))
            step, gain = torch.add(step, slope, alpha=weight), torch.add(gain, rate, alpha=weight)
        x, total = torch.add(x, step, alpha=h), torch.add(total, gain, alpha=h)
    return x, total


def solve_by_torchdiffeq(
    rates: Rates, x: Tensor, span: tuple[float, float], *, solver: str, tolerance: float, adjoint_by: Sequence[Tensor] | None
) -> Mapped:
    """The same, by steps that torchdiffeq chooses.

    Args:
        rates: the equation.
        x: where it starts.
        span: from when to when.
        solver: which of torchdiffeq's.
        tolerance: relative and absolute.
        adjoint_by: if gradients are solved for backwards, by which tensors besides x.

    Raises:
        ImportError: without torchdiffeq.
    """
    if x.shape[0] == 0:  # nothing to choose steps by
        return x, x.new_zeros(0)
    module = _torchdiffeq("The solver")
    start = (x, x.new_zeros(x.shape[0]))
    times = torch.tensor(span, dtype=x.dtype, device=x.device)

    def equation(t: Tensor, state: Mapped) -> Mapped:
        return rates(t, state[0])

    options = {"method": solver, "rtol": tolerance, "atol": tolerance}
    if adjoint_by is None:
        y, total = module.odeint(equation, start, times, **options)
    else:
        y, total = module.odeint_adjoint(equation, start, times, adjoint_params=tuple(adjoint_by), **options)
    return y[-1], total[-1]


def adaptive_solvers(who: str) -> Iterable[str]:
    """The names of torchdiffeq's solvers.

    Raises:
        ImportError: without torchdiffeq.
    """
    _torchdiffeq(who)
    from torchdiffeq._impl.odeint import SOLVERS  # it lists them nowhere else

    return [name for name in SOLVERS if name not in FIXED]


def _torchdiffeq(who: str) -> ModuleType:
    try:
        import torchdiffeq
    except ImportError as error:
        raise ImportError(
            f'{who} is one of torchdiffeq, which is not here: pip install "pixyz-flows[ode]". '
            f"The solvers {', '.join(FIXED)} need nothing else."
        ) from error
    return torchdiffeq
