"""Continuous flows: the solution of a differential equation."""

import math
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from pixyz.core import KindError, ParameterError, ShapeError, call_in_float32, is_whole, need_finite

from ._bijection import Bijection, Mapped
from ._networks import Conditioner, MakesNetwork
from ._ode import FIXED, adaptive_solvers, solve_by_torchdiffeq, solve_in_steps

EXACT_UP_TO = 8
"""Up to how many features the trace is exact where nothing is said: as many derivatives of the field as there are features."""


class ContinuousFlow(Bijection):
    r"""The map from x(0) to x(T), where x follows a vector field; both directions are a solution of the same equation.

    $$\frac{dx}{dt} = f(x, t; c), \qquad
    \log\left|\det\frac{\partial x(T)}{\partial x(0)}\right| = \int_0^T \operatorname{tr}\frac{\partial f}{\partial x}\,dt$$

    The trace is exact, which costs D derivatives of the field, or Hutchinson's unbiased estimate $\varepsilon^\top \frac{\partial f}
    {\partial x} \varepsilon$, which costs one, with noise ε of mean 0 and covariance 1 that is drawn anew for each evaluation and stays the
    same over one solution. With the estimate, the log-determinant is a random number; its mean is right.

    `"rk4"`, `"midpoint"` and `"euler"` take `steps` equal steps; they run as one graph and need nothing else. Every other solver is one of
    torchdiffeq's, such as `"dopri5"`, which chooses its steps by the tolerances. The inverse is exact but for the error of the solver.

    Args:
        shape: the features: D, or `(C, H, W)`.
        field: a module of x `(batch, *features)`, t `()` and the context, or None, that gives dx/dt, `(batch, *features)`; if none is
            given, a network of x, t and c together, that starts near 0.
        context: how many features the context c has.
        hidden: the sizes of the network's hidden layers, with tanh behind each.
        network: makes another network, from the numbers of its inputs and outputs; smooth, for the likelihood needs its derivatives.
        time: T.
        solver: how it is solved.
        steps: how many equal steps, of the solvers that take such.
        tolerance: relative and absolute, of the others.
        adjoint: of the others, whether gradients are a solution backwards, in constant memory, rather than those of every step.
        trace: `"exact"` or `"hutchinson"`; exact up to 8 features, if not given.
        noise: `"rademacher"`, which is ±1 and has the smallest variance, or `"gaussian"`.

    Raises:
        KindError: for numbers that are none, or a field and a network at once.
        ParameterError: for another solver, trace or noise.
        ShapeError: for a field whose values have another shape than x.
        ImportError: for a solver of torchdiffeq without it; `pip install "pixyz-flows[ode]"` brings it.

    Source:
        Chen et al. (2018), eq. 8, https://arxiv.org/abs/1806.07366; Grathwohl et al. (2019), eq. 7, https://arxiv.org/abs/1810.01367

    Examples:
        >>> class Grow(nn.Module):
        ...     def forward(self, x, t, context):
        ...         return x
        >>> y, log_det = ContinuousFlow(2, field=Grow()).forward_and_log_det(torch.ones(1, 2))
        >>> y, log_det  # e and e, and 2
        (tensor([[2.7183, 2.7183]]), tensor([2.0000]))
    """

    def __init__(
        self,
        shape: int | Sequence[int],
        *,
        field: nn.Module | None = None,
        context: int = 0,
        hidden: Iterable[int] = (64, 64),
        network: MakesNetwork | None = None,
        time: float = 1.0,
        solver: str = "rk4",
        steps: int = 20,
        tolerance: float = 1e-5,
        adjoint: bool = False,
        trace: str | None = None,
        noise: str = "rademacher",
    ) -> None:
        super().__init__(shape, context=context)
        features = self.in_shape or (1,)
        self.count = math.prod(features)
        if not is_whole(steps) or steps < 1:
            raise KindError(f"ContinuousFlow: steps must be a positive whole number; got {steps!r}.")
        need_finite(time, "time", "ContinuousFlow")
        need_finite(tolerance, "tolerance", "ContinuousFlow")
        if time <= 0 or tolerance <= 0:
            raise KindError(f"ContinuousFlow: time and tolerance must be positive; got {time!r} and {tolerance!r}.")
        if trace not in (None, "exact", "hutchinson"):
            raise ParameterError(f'ContinuousFlow: trace must be "exact" or "hutchinson"; got {trace!r}.')
        if noise not in ("rademacher", "gaussian"):
            raise ParameterError(f'ContinuousFlow: noise must be "rademacher" or "gaussian"; got {noise!r}.')
        self.is_exact = trace == "exact" or (trace is None and self.count <= EXACT_UP_TO)
        self.noise, self.time, self.solver, self.steps = noise, float(time), solver, steps
        self.tolerance, self.adjoint = tolerance, adjoint
        if solver in FIXED:
            self.push_passes = self.pull_passes = FIXED[solver].stages * steps
        elif solver not in (known := adaptive_solvers("ContinuousFlow")):
            raise ParameterError(f"ContinuousFlow: solver must be one of {', '.join([*FIXED, *known])}; got {solver!r}.")
        if field is not None and network is not None:
            raise KindError("ContinuousFlow takes a field or what makes its network, not both.")
        if field is None:
            net = Conditioner(features, features[0], 1, context=1 + context, hidden=hidden, network=network, activation=nn.Tanh)
            field = TimeField(net)
        self.field = field

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        return self._solve(x, context, 0.0, self.time)

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        return self._solve(y, context, self.time, 0.0)

    def _solve(self, x: Tensor, context: Tensor | None, start: float, end: float) -> Mapped:
        # A field in half precision is rounded more coarsely than the steps of a solver are to be exact.
        return call_in_float32(self._solved, x, context, start, end)

    def _solved(self, x: Tensor, context: Tensor | None, start: float, end: float) -> Mapped:
        if self.is_exact:
            rates = partial(self._exact_rates, context)
        else:
            rates = partial(self._estimated_rates, context, self._noise_like(x))
        if self.solver in FIXED:
            return solve_in_steps(rates, x, (start, end), scheme=FIXED[self.solver], steps=self.steps)
        watched = [*self.field.parameters(), *([] if context is None else [context])]
        return solve_by_torchdiffeq(
            rates, x, (start, end), solver=self.solver, tolerance=self.tolerance, adjoint_by=watched if self.adjoint else None
        )

    def _exact_rates(self, context: Tensor | None, t: Tensor, x: Tensor) -> Mapped:
        basis = torch.eye(self.count, dtype=x.dtype, device=x.device).unflatten(1, x.shape[1:])

        def along(direction: Tensor) -> tuple[Tensor, Tensor]:
            value, slope = torch.func.jvp(partial(self._velocity, context, t), (x,), (direction.expand_as(x),))  # type: ignore[misc, arg-type]
            return value, (slope * direction).flatten(1).sum(1)

        value, diagonal = torch.func.vmap(along, out_dims=(None, 0))(basis)  # type: ignore[misc, arg-type]
        return value, diagonal.sum(0)

    def _estimated_rates(self, context: Tensor | None, noise: Tensor, t: Tensor, x: Tensor) -> Mapped:
        value, slope = torch.func.jvp(partial(self._velocity, context, t), (x,), (noise,))  # type: ignore[misc, arg-type]
        return value, (slope * noise).flatten(1).sum(1)

    def _velocity(self, context: Tensor | None, t: Tensor, x: Tensor) -> Tensor:
        velocity = self.field(x, t, context)
        if velocity.shape != x.shape:
            raise ShapeError(
                f"ContinuousFlow: the field must give dx/dt of the shape of x, {tuple(x.shape)}; it gave {tuple(velocity.shape)}."
            )
        return velocity

    def _noise_like(self, x: Tensor) -> Tensor:
        return torch.randn_like(x) if self.noise == "gaussian" else torch.rand_like(x).sub(0.5).sign()

    def extra_repr(self) -> str:
        """How it is solved, for `print`."""
        how = f"steps={self.steps}" if self.solver in FIXED else f"tolerance={self.tolerance:g}, adjoint={self.adjoint}"
        return f"{self.in_shape}, time={self.time:g}, solver={self.solver!r}, {how}, trace={'exact' if self.is_exact else 'hutchinson'!r}"


class TimeField(nn.Module):
    """The field that a network of x, t and the context gives.

    Args:
        network: of the features, and of t before the context's.
    """

    def __init__(self, network: Conditioner) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None) -> Tensor:
        """dx/dt, of the shape of x."""
        time = t.expand(x.shape[0], 1)
        return self.network(x, time if context is None else torch.cat([time, context], 1)).squeeze(-1)
