"""The likelihood, its negative logarithm, and what these are on average."""

from pixyz.core import (
    AnyEstimator,
    Distribution,
    Expectation,
    Factor,
    FormulaError,
    LogProb,
    Loss,
    Quantities,
    Quantity,
    Scope,
    Term,
    need_distribution,
    need_one_measure,
)
from pixyz.core import formula as f


def NLL(p: Distribution, *, mask: str | None = None) -> Loss:
    """-log p(var|cond_var) in nats, `(batch,)`.

    Args:
        p: the distribution.
        mask: that of `LogProb`, for missing data.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> print(0.1 * NLL(Normal(var=["x"], loc=0.0, scale=1.0)))
        0.1 * (-log p(x))
    """
    return -LogProb(p, mask=mask)


def Prob(p: Distribution) -> Loss:
    """p(var|cond_var), the density itself, `(batch,)`: `p.log_prob().exp()`, which prints so as well.

    Of many features it is 0 or infinite in any floating-point format; use the logarithm wherever that will do.

    Args:
        p: the distribution.

    Examples:
        >>> import torch
        >>> from pixyz.distributions import Normal
        >>> loss = 1 - Prob(Normal(var=["x"], loc=0.0, scale=1.0))
        >>> print(loss, loss.estimate({"x": torch.zeros(1)}))
        1 - p(x) tensor([0.6011])
    """
    need_distribution(p, "Prob")
    return LogProb(p).exp()


class Entropy(Loss):
    r"""The entropy, of densities the differential one, in nats, `(batch,)`:

    $$\mathrm{H}[p] = -\mathbb{E}_{p}\left[\log p\right]$$

    In closed form where the family knows one that compiles; else the expectation is run, and is what is printed: exact where all
    variables are finite and enumerated, Monte Carlo otherwise.

    Args:
        p: the distribution.
        num_samples: K, for Monte Carlo.
        estimator: as in `Expectation`.
        analytic: False for the expectation even where a closed form is known.

    Attributes:
        is_analytic: whether the closed form is used.

    Raises:
        FormulaError: for a distribution that computes one of its variables, which has no density.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> p = Normal("p(x)", loc=0.0, scale=1.0)
        >>> print(Entropy(p), Entropy(p).estimate())
        H[p(x)] tensor([1.4189])
        >>> print(Entropy(p * Normal("p(z|x)", loc="x", scale=1.0), num_samples=8))
        -E_p(x,z)[log p(x,z)]
    """

    def __init__(self, p: Distribution, *, num_samples: int = 1, estimator: AnyEstimator = "auto", analytic: bool = True) -> None:
        need_distribution(p, "Entropy")
        _need_density(p, f"H[{p.prob_text}]")
        single = [factor for factor in p.ancestral if not p.hidden_var.issuperset(factor.var)]
        hidden = [factor for factor in p.ancestral if factor not in single]
        alone = len(single) == 1 and all(factor.dist.is_deterministic for factor in hidden)
        known = analytic and alone and single[0].dist.has_entropy
        # Built in either case, for its checks.
        inner = -Expectation(p, LogProb(p), num_samples=num_samples, estimator=estimator, exact=True)
        super().__init__([p] if known else [p, inner], input_var=p.cond_var, bound_var=p.var, optional_var=())
        self.is_analytic = known
        self._p = p
        self._inner = None if known else inner

    @property
    def formula(self) -> f.Formula:
        inner = self._inner
        return f.Functional("H", self._p.density) if inner is None else inner.formula

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities:
        return frozenset([(Quantity.ENTROPY, 1)])

    def evaluate(self, scope: Scope) -> Term:
        inner = self._inner
        return self._p.summarised("entropy", scope).statistic("entropy") if inner is None else scope.evaluate(inner)


def CrossEntropy(q: Distribution, p: Distribution, *, num_samples: int = 1, estimator: AnyEstimator = "auto") -> Loss:
    r"""The cross-entropy, in nats, `(batch,)`; exact where all variables of q are finite and enumerated, Monte Carlo otherwise:

    $$-\mathbb{E}_{q}\left[\log p\right]$$

    Args:
        q: the distribution that is drawn from.
        p: the distribution that is scored, over the same variables.
        num_samples: K, how many draws are averaged.
        estimator: as in `Expectation`.

    Raises:
        FormulaError: if the two are over different variables, or p computes one of them, which has no density.

    Examples:
        >>> from pixyz.distributions import Bernoulli
        >>> q, p = Bernoulli("q(y)", probs=0.5), Bernoulli("p(y)", probs=0.2)
        >>> print(CrossEntropy(q, p), CrossEntropy(q, p).estimate())
        -E_q(y)[log p(y)] tensor([0.9163])
    """
    need_distribution(q, "CrossEntropy")
    need_distribution(p, "CrossEntropy")
    if set(q.var) != set(p.var):
        raise FormulaError(
            f"CrossEntropy({q.prob_text}, {p.prob_text}): the left side is over {', '.join(q.var)}, the right side over {', '.join(p.var)}."
        )
    who = f"CrossEntropy({q.prob_text}, {p.prob_text})"
    _need_density(p, who)
    need_one_measure((q.factors, p.factors), p.var, who)
    return -Expectation(q, LogProb(p), num_samples=num_samples, estimator=estimator, exact=True)


def _need_density(p: Distribution, who: str) -> None:
    _, computed = p.scored_var()
    if computed:
        raise FormulaError(f"{who}: {computed[0]} is computed, so it has no density, and the value is not finite.")
