"""The log-density of a distribution, as a loss."""

from ._dims import Term
from ._distribution import Distribution, need_distribution
from ._formula import Formula, Log
from ._loss import Loss
from ._scope import Scope


class LogProb(Loss):
    r"""log p(var|cond_var), in nats, `(batch,)`; summed over the features and the factors.

    A deterministic factor is no density: its value is computed, bound, and adds nothing.

    Args:
        p: the distribution.

    Raises:
        IntractableError: if the integral over what is marginalised out has no closed form.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> print(LogProb(Normal(var=["z"], loc=0.0, scale=1.0)))
        log p(z)
    """

    def __init__(self, p: Distribution) -> None:
        need_distribution(p, "LogProb")
        scored, computed = p.scored_var()
        super().__init__([p], input_var=[*scored, *p.cond_var], optional_var=computed)
        self._p = (p,)  # in a tuple, lest it be registered

    @property
    def formula(self) -> Formula:
        return Log(self._p[0].density)

    def evaluate(self, scope: Scope) -> Term:
        return self._p[0].evaluate_log_prob(scope, self)
