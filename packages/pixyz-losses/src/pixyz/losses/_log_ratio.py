"""The logarithm of a ratio of two densities."""

from pixyz.core import Distribution, FormulaError, LogProb, Loss, Scope, Term, broadcast
from pixyz.core import formula as f


class LogRatio(Loss):
    """log p/q = log p - log q, in nats, `(batch,)`, written as a ratio.

    Args:
        p: the distribution above.
        q: the distribution below.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> q, p = Normal(var=["z"], loc=0.0, scale=1.0, name="q"), Normal(var=["z"], loc=0.0, scale=2.0)
        >>> print(LogRatio(p, q))
        log p(z)/q(z)
    """

    def __init__(self, p: Distribution, q: Distribution) -> None:
        top, bottom = LogProb(p), LogProb(q)
        for computed, scored, by in ((top, bottom, p), (bottom, top, q)):
            clash = sorted(computed.optional_var.intersection(scored.input_var))
            if clash:
                raise FormulaError(
                    f"log {p.prob_text}/{q.prob_text}: {by.prob_text} computes {clash[0]}, the other side has a density for it; "
                    "the ratio of a density and a point mass is not finite."
                )
        super().__init__([top, bottom], input_var=[*top.input_var, *bottom.input_var], optional_var=top.optional_var | bottom.optional_var)
        self._pair = (top, bottom)
        self._densities = (p.density, q.density)

    @property
    def formula(self) -> f.Formula:
        return f.Log(f.Ratio(*self._densities))

    def signs(self) -> dict[Loss, int]:
        return {self._pair[1]: -1}

    def evaluate(self, scope: Scope) -> Term:
        top, bottom = self._pair
        x, y, dims = broadcast(scope.evaluate(top), scope.evaluate(bottom), self)
        return Term(x - y, dims)
