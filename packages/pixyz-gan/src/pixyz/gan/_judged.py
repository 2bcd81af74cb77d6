"""What a discriminator says of each datum, as a loss."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from pixyz.core import NO_CHECKS, Binding, Distribution, Factor, FormulaError, Loss, Scope, ShapeError, Term, need_distribution
from pixyz.core import formula as f


class Judged(Loss):
    """A function of the one number that a discriminator d(t|x) has for each datum, `(batch,)`.

    That number is the value that a `Deterministic` computes, or the logit of a `Bernoulli`, log d(t=1|x) - log d(t=0|x).

    Args:
        d: the discriminator.
        compute: the function.
        write: its formula, of that of the number.

    Raises:
        FormulaError: for what is no discriminator.
        ShapeError: at an evaluation, for more than one number per datum.
    """

    def __init__(
        self,
        d: Distribution,
        compute: Callable[[Tensor], Tensor] = lambda t: t,
        write: Callable[[f.Formula], f.Formula] = lambda t: t,
    ) -> None:
        need_discriminator(d)
        super().__init__([d], input_var=d.cond_var)
        self._factors = d.factors
        self._compute = compute
        self._write = write

    @property
    def formula(self) -> f.Formula:
        (factor,) = self._factors
        return self._write(f.Density(factor.dist.name, factor.cond_var))

    def evaluate(self, scope: Scope) -> Term:
        tensor, dims = number_of(self._factors[0], scope, self)
        return Term(self._compute(tensor), dims)


def log_real(d: Distribution) -> Loss:
    """log d(x), where d(x) is the probability that x is real."""
    return Judged(d, F.logsigmoid, f.Log)


def log_fake(d: Distribution) -> Loss:
    """log(1 - d(x))."""
    return Judged(d, lambda t: F.logsigmoid(-t), lambda t: f.Log(f.Sum(((1, f.Number(1)), (-1, t)))))


def number_of(factor: Factor, scope: Scope, who: object) -> Term:
    """The discriminator's number for each datum, `(*dims)`."""
    conditional = scope.conditional(factor)
    if factor.dist.is_deterministic:
        ((tensor, dims),) = conditional.draw(conditional.dims, [], pathwise=True)
    else:
        (support,) = conditional.enumerate_support()
        if len(support) != 2:
            raise ShapeError(f"{who}: {factor} must have one number for each datum, the logit; got {support[0].numel()}.")
        dim = scope.shared.open_dim(2)
        value = Binding(support, (dim,), scope.shared.number())
        scores, dims = conditional.log_prob((value,), factor, NO_CHECKS)
        return Term(scores[1] - scores[0], dims[1:])
    features = tensor.shape[len(dims) :]
    if features.numel() != 1:
        raise ShapeError(f"{who}: {factor} must have one number for each datum, (N,) or (N, 1); got {features.numel()}, {tuple(features)}.")
    return Term(tensor.squeeze(-1) if len(features) == 1 else tensor.reshape(tensor.shape[: len(dims)]), dims)


def need_discriminator(d: Distribution) -> None:
    """An error for what is no discriminator.

    Raises:
        FormulaError: for anything but one `Deterministic` or `Bernoulli` of one variable.
    """
    need_distribution(d, "The discriminator")
    kinds = [factor.dist.is_deterministic or factor.dist.distribution_name == "Bernoulli" for factor in d.factors]
    if kinds != [True] or len(d.var) != 1 or not d.cond_var:
        raise FormulaError(
            f"{d.prob_text} is no discriminator: that is a Deterministic or Bernoulli of one variable, like d(t|x), which has a logit."
        )
