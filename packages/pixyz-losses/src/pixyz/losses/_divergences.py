"""The Kullback–Leibler divergence."""

from collections.abc import Callable

from pixyz.core import AnyEstimator, Distribution, Expectation, Factor, Loss, Quantities, Scope, Term
from pixyz.core import formula as f

from ._chain_rule import by_chain_rule
from ._log_ratio import LogRatio
from ._two_sided import need_comparable


class KullbackLeibler(Loss):
    r"""The Kullback–Leibler divergence, in nats, `(batch,)`:

    $$D_{\mathrm{KL}}[q\|p] = \mathbb{E}_{q}\left[\log \frac{q}{p}\right]$$

    For joints by the chain rule: the factors of one variable are paired, in closed form where one is known, given what both depend on;
    what is drawn above them is drawn from q. The rest is Monte Carlo with the same draws, unbiased:

    $$D_{\mathrm{KL}}[q(z|y)\,q(y|x)\,\|\,p(z|y)\,p(y)]
    = D_{\mathrm{KL}}[q(y|x)\|p(y)] + \mathbb{E}_{q}\left[D_{\mathrm{KL}}[q(z|y)\|p(z|y)]\right]$$

    It prints as what is run: one divergence if all of it is a closed form, else the expectations. Where a closed form or a sum over a
    finite support says that it is infinite, it is `inf`; a Monte Carlo estimate cannot know.

    Args:
        q: the distribution on the left, from which Monte Carlo draws.
        p: the distribution on the right, over the same variables.
        num_samples: K, for Monte Carlo.
        estimator: for Monte Carlo, as in `Expectation`.
        analytic: False for Monte Carlo even where a closed form is known.

    Attributes:
        is_analytic: whether all of it is a closed form.

    Raises:
        FormulaError: if the two are over different variables; for two different distributions with one text.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> q, p = Normal(var=["z"], loc=0.0, scale=1.0, name="q"), Normal(var=["z"], loc=1.0, scale=1.5)
        >>> print(KullbackLeibler(q, p))
        KL[q(z)||p(z)]
        >>> KullbackLeibler(q, p).estimate()
        tensor([0.3499])
        >>> print(KullbackLeibler(q, p, analytic=False))
        E_q(z)[log q(z)/p(z)]
        >>> below = Normal("q(w|z)", loc="z", scale=1.0), Normal("p(w|z)", loc="z", scale=2.0)
        >>> print(KullbackLeibler(q * below[0], p * below[1]))
        KL[q(z)||p(z)] + E_q(z,w)[KL[q(w|z)||p(w|z)]]
    """

    def __init__(
        self, q: Distribution, p: Distribution, *, num_samples: int = 1, estimator: AnyEstimator = "auto", analytic: bool = True
    ) -> None:
        need_comparable(q, p, "KL")
        chain = by_chain_rule(q, p, num_samples=num_samples, estimator=estimator) if analytic else None
        inner = chain.loss if chain else Expectation(q, LogRatio(q, p), num_samples=num_samples, estimator=estimator, exact=True)
        super().__init__(
            [q, p, inner], input_var=inner.input_var, bound_var=q.var, optional_var=inner.optional_var - q.hidden_var - p.hidden_var
        )
        self.is_analytic = bool(chain and chain.is_analytic)
        self._inner = inner
        self._pair = (q, p)

    @property
    def formula(self) -> f.Formula:
        q, p = self._pair
        return f.Divergence("KL", q.density, p.density) if self.is_analytic else self._inner.formula

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities | None:
        return self._inner.quantities(drawn)

    def each_term(self, change: Callable[[Loss], Loss]) -> Loss:
        return change(self) if self.is_analytic else self._inner.each_term(change)

    def evaluate(self, scope: Scope) -> Term:
        return scope.evaluate(self._inner)
