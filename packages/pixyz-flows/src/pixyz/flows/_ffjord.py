"""FFJORD: continuous flows, whole."""

from collections.abc import Iterable, Sequence

from pixyz.core import Distribution

from ._actnorm import ActNorm
from ._chain import Chain
from ._continuous import ContinuousFlow
from ._networks import MakesNetwork
from ._ready_made import need_transforms, standard_noise
from ._transformed import InverseTransformedDistribution


class FFJORD(InverseTransformedDistribution):
    r"""A free-form continuous flow: data follow a network's vector field until they are noise; draws cost what the density does.

    $$\frac{dx}{dt} = f(x, t; y), \qquad
    \log p(x(0) \mid y) = \log p_0(x(T)) + \int_0^T \operatorname{tr}\frac{\partial f}{\partial x}\,dt$$

    Up to 8 features the trace is exact. Above, it is Hutchinson's estimate: then the log-likelihood is a random number, whose mean is
    right; `trace="exact"` gives it without noise. See `ContinuousFlow`.

    Args:
        text: the distribution as papers write it, `"p(x|y)"`, in place of `var`, `cond_var` and `name`.
        features: D, or the shape of an image.
        transforms: how many continuous flows there are, one after the other.
        context: how many features the conditioning variables have together.
        hidden: the sizes of the hidden layers of each network, with tanh behind each.
        network: makes another network, from the numbers of its inputs (x, t and y) and outputs; smooth, for its derivatives are needed.
        solver: `"rk4"`, `"midpoint"` or `"euler"`, which run as one graph; or one of torchdiffeq's, such as `"dopri5"`.
        steps: how many equal steps, of the solvers that take such.
        tolerance: relative and absolute, of the others.
        adjoint: of the others, whether gradients are a solution backwards, in constant memory.
        trace: `"exact"` or `"hutchinson"`; exact up to 8 features, if not given.
        base: the distribution of the noise; the standard normal one, if not given.
        var: the variable.
        cond_var: the variables that it depends on.
        name: the letter before the brackets.

    Raises:
        ParameterError: for another solver or trace.
        ImportError: for a solver of torchdiffeq without it; `pip install "pixyz-flows[ode]"` brings it.

    Examples:
        >>> import torch
        >>> p = FFJORD("p(x|y)", features=2, context=3, steps=5)
        >>> p.log_likelihood(p.sample({"y": torch.zeros(5, 3)})).shape
        torch.Size([5])

    Source:
        Grathwohl et al. (2019), https://arxiv.org/abs/1810.01367
    """

    distribution_name = "FFJORD"

    def __init__(
        self,
        text: str | None = None,
        /,
        *,
        features: int | Sequence[int],
        transforms: int = 1,
        context: int = 0,
        hidden: Sequence[int] = (64, 64),
        network: MakesNetwork | None = None,
        solver: str = "rk4",
        steps: int = 20,
        tolerance: float = 1e-5,
        adjoint: bool = False,
        trace: str | None = None,
        base: Distribution | None = None,
        var: Iterable[str] | None = None,
        cond_var: Iterable[str] | None = None,
        name: str | None = None,
    ) -> None:
        need_transforms(type(self).__name__, transforms)
        solutions = [
            ContinuousFlow(
                features,
                context=context,
                hidden=hidden,
                network=network,
                solver=solver,
                steps=steps,
                tolerance=tolerance,
                adjoint=adjoint,
                trace=trace,
            )
            for _ in range(transforms)
        ]
        flow = Chain([ActNorm(features, trained=False), *solutions])
        super().__init__(standard_noise(base, features), flow, text, var=var, cond_var=cond_var, name=name)
