"""Divergences between two distributions."""

from typing import Any

from pixyz.core import Distribution, Expectation, FormulaError, Loss, Scope, Term, need_distribution
from pixyz.core import formula as f

from ._log_ratio import LogRatio


class KullbackLeibler(Loss):
    r"""The Kullback–Leibler divergence, in nats, `(batch,)`:

    $$D_{\mathrm{KL}}[q\|p] = \mathbb{E}_{q}\left[\log \frac{q}{p}\right]$$

    In closed form where one is known, else by Monte Carlo; then it prints as the expectation that is run.

    Args:
        q: the distribution on the left, from which Monte Carlo draws.
        p: the distribution on the right, over the same variables.
        num_samples: K, for Monte Carlo.
        analytic: False for Monte Carlo even where a closed form is known.

    Attributes:
        is_analytic: whether the closed form is used.

    Raises:
        FormulaError: if the two are over different variables.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> q, p = Normal(var=["z"], loc=0.0, scale=1.0, name="q"), Normal(var=["z"], loc=1.0, scale=1.5)
        >>> print(KullbackLeibler(q, p))
        KL[q(z)||p(z)]
        >>> KullbackLeibler(q, p).estimate()
        tensor([0.3499])
        >>> print(KullbackLeibler(q, p, analytic=False))
        E_q(z)[log q(z)/p(z)]
    """

    def __init__(self, q: Distribution, p: Distribution, *, num_samples: int = 1, analytic: bool = True) -> None:
        need_distribution(q, "KullbackLeibler")
        need_distribution(p, "KullbackLeibler")
        if set(q.var) != set(p.var):
            raise FormulaError(
                f"KL[{q.prob_text}||{p.prob_text}]: the left side is over {', '.join(q.var)}, the right side over {', '.join(p.var)}."
            )
        rule: Any = None
        if analytic and len(q.factors) == len(p.factors) == 1 and not q.hidden_var and not p.hidden_var:
            rule = q.factors[0].dist.kl_rule(p.factors[0].dist)
        inner = None if rule else Expectation(q, LogRatio(q, p), num_samples=num_samples)
        if inner is not None:
            super().__init__(
                [inner], input_var=inner.input_var, bound_var=inner.bound_var, optional_var=inner.optional_var, stochastic=True
            )
        else:
            super().__init__([q, p], input_var=[*q.cond_var, *p.cond_var], bound_var=q.var)
        self.is_analytic = inner is None
        self._rule = rule
        self._inner = (inner,)
        self._pair = (q, p)

    @property
    def formula(self) -> f.Formula:
        q, p = self._pair
        inner = self._inner[0]
        return inner.formula if inner is not None else f.Divergence("KL", q.density, p.density)

    def evaluate(self, scope: Scope) -> Term:
        inner = self._inner[0]
        if inner is not None:
            return scope.evaluate(inner)
        q, p = self._pair
        return self._rule(scope.conditional(q.factors[0]), scope.conditional(p.factors[0]), self)
