"""A density that is given by its logarithm."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from pixyz.core import (
    BATCH,
    Binding,
    Checks,
    Dims,
    Factor,
    FormulaError,
    GivenNetworks,
    IntractableError,
    KindError,
    Leaf,
    Scope,
    ShapeError,
    Term,
    union,
)

from ._folded import fold_values


class CustomProb(Leaf):
    r"""A density given by your own function, which need not integrate to one.

    $$\log p(z) = \log\tilde p(z) - \log Z, \qquad Z = \int \tilde p(z)\,dz$$

    The function is log p̃, and `log_prob` is that, whatever Z is. An ELBO that has it in place of log p is therefore a bound on
    log p(x) + log Z, not on log p(x): q is fitted rightly, but the bound is no likelihood, and it is not to be maximised over parameters
    of p̃, which could just let Z grow. It can be scored, not sampled.

    Args:
        text: the density as papers write it, `"p(x|z)"`, in place of `var`, `cond_var` and `name`.
        log_density: called with the variables `(N, *features)`, by keyword where its signature has their names, else by position,
            `var` before `cond_var`; it returns log p̃ in nats, `(N,)`. A module is registered, and its parameters are trained.
        var: the variables.
        cond_var: the variables it depends on.
        name: the letter before the brackets.
        normalised: whether it integrates to one; kept as `is_normalised`.

    Raises:
        KindError: if `log_density` is no function.
        FormulaError: if it does not take the variables, all of them.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> banana = CustomProb("p(z)", lambda z: -(z[:, 0] ** 2 / 2 + (z[:, 1] - z[:, 0] ** 2) ** 2))
        >>> banana.log_likelihood({"z": torch.tensor([[1.0, 2.0], [0.0, 0.0]])})
        tensor([-1.5000, -0.0000])
        >>> q = Normal("q(z)", loc=0.0, scale=1.0, dim=2)
        >>> print((banana.log_prob() - q.log_prob()).expectation(q, num_samples=100))
        E_q(z)[log p(z) - log q(z)]
    """

    distribution_name = "CustomProb"
    is_normalised: bool

    def __init__(
        self,
        text: str | None = None,
        log_density: Callable[..., Tensor] | None = None,
        *,
        var: Iterable[str] | None = None,
        cond_var: Iterable[str] | None = None,
        name: str | None = None,
        normalised: bool = False,
    ) -> None:
        super().__init__(text, var=var, cond_var=cond_var, name=name)
        variables = (*self.var, *self.cond_var)
        if not callable(log_density) or isinstance(log_density, type):
            came = "nothing" if log_density is None else repr(log_density) if isinstance(log_density, type) else _a(log_density)
            raise KindError(
                f"{self.prob_text}: a CustomProb takes a function of {', '.join(variables)} that returns the log-density, (N,); got {came}."
            )
        self.is_normalised = bool(normalised)
        networks = GivenNetworks({"log_density": log_density}, variables, self.prob_text)
        left_out = ", ".join([v for v in variables if v not in networks.takes("log_density")])
        if left_out:
            raise FormulaError(
                f"{self.prob_text}: log_density is to score {', '.join(variables)}, but its signature leaves out {left_out}. "
                f"Name all of them, or leave {left_out} out of {self.prob_text}."
            )
        self._register_networks(networks)

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "Scored":
        return Scored(self, factor, inputs)

    def extra_repr(self) -> str:
        """Whether it integrates to one, for `print`."""
        return f"normalised={self.is_normalised}"


class Scored:
    """A `CustomProb` given its inputs, in one evaluation."""

    def __init__(self, dist: CustomProb, factor: Factor, inputs: tuple[Binding, ...]) -> None:
        self.dist = dist
        self.factor = factor
        self.inputs = inputs
        self.dims: Dims = union((), *[b.dims for b in inputs])
        self.batch: int | None = next((b.tensor.shape[len(b.dims) - 1] for b in inputs if BATCH in b.dims), None)

    def log_prob(self, values: tuple[Binding, ...], factor: Factor, checks: Checks) -> Term:
        """What the function returns, `(*dims)`.

        Raises:
            KindError: if it returns no real tensor.
            ShapeError: if that is not `(N,)`.
        """
        folded = fold_values(values, self.inputs, factor)
        returned = self.dist(**dict(zip((*self.dist.var, *self.dist.cond_var), folded.tensors)))["log_density"]
        n = folded.tensors[0].shape[0]
        if not isinstance(returned, Tensor) or not returned.is_floating_point():
            raise KindError(f"{factor}: log_density must return a tensor of real numbers, ({n},); it returned {_a(returned)}.")
        if returned.shape != (n,):
            hint = " Sum over the features." if returned.ndim > 1 and returned.shape[0] == n else ""
            raise ShapeError(f"{factor}: for {n} values log_density must return ({n},); it returned {tuple(returned.shape)}.{hint}")
        return folded.unfold(returned)

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """It cannot be drawn from.

        Raises:
            IntractableError: always.
        """
        who, variables = self.factor, ", ".join(self.factor.var)
        raise IntractableError(
            f"{who} is known by its log-density only, so {variables} cannot be drawn from it. Give {variables}, or draw from a q that "
            f"you fit to it by E_q[log {who} - log q]; or write a Family with a draw."
        )

    def statistic(self, what: str) -> Term:
        """None is known.

        Raises:
            IntractableError: always.
        """
        raise IntractableError(f"{self.factor} is known by its log-density only, so its {what} is not; ask a q that you fit to it instead.")


def _a(value: object) -> str:
    return f"a tensor {tuple(value.shape)} of {value.dtype}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
