r"""Divergences that are expectations of a function of the density ratio under the mixture of both sides.

With r = log p/q and m = (p+q)/2, each is E_m[f(r)], where f is never negative, and 0 at r = 0. So each estimate is unbiased, and exactly 0
where p = q. Where f is bounded, so is the variance, whatever p and q are.
"""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pixyz.core import AnyEstimator, Distribution, Scope, Term

from ._log_ratio import LogRatio, OfLogRatio
from ._two_sided import TwoSided, closed_form, need_comparable


class FDivergence(TwoSided):
    """E_m[f(log p/q)], of which a subclass writes f.

    Args:
        p: the left side.
        q: the right side, over the same variables.
        num_samples: K, how many draws of each side are averaged.
        estimator: as in `Expectation`.
        analytic: False for Monte Carlo even where a closed form is known.
    """

    order: ClassVar[float | None] = None
    """Of the Rényi divergence of which this is a function, so that their closed forms are one."""

    def __init__(
        self, p: Distribution, q: Distribution, *, num_samples: int = 1, estimator: AnyEstimator = "auto", analytic: bool = True
    ) -> None:
        need_comparable(p, q, self.symbol)
        rule = closed_form("renyi", p, q) if analytic and self.order is not None else None
        super().__init__(p, q, OfLogRatio(LogRatio(p, q), self.integrand), rule, num_samples, estimator)

    @staticmethod
    @abstractmethod
    def integrand(r: Tensor) -> Tensor:
        """f(r), also of ±inf."""

    @staticmethod
    def of_renyi(value: Tensor) -> Tensor:
        """The divergence, from the Rényi divergence of its order."""
        raise NotImplementedError

    def evaluate(self, scope: Scope) -> Term:
        if self.is_analytic and self.order is not None:
            value, dims = self.by_rule(scope, alpha=self.order)
            return Term(self.of_renyi(value), dims)
        return self.under_mixture(scope)


class JensenShannon(FDivergence):
    r"""The Jensen–Shannon divergence, in nats, `(batch,)`, from 0 to log 2:

    $$D_{\mathrm{JS}}[p\|q] = \tfrac12 D_{\mathrm{KL}}[p\|m] + \tfrac12 D_{\mathrm{KL}}[q\|m]
    = \log 2 - \mathbb{E}_m\left[H(p/(p+q))\right], \qquad m = \tfrac12 (p+q)$$

    where H is the entropy of a coin. Exact over a finite support (`Expectation` enumerates it), else an unbiased estimate by draws of both
    sides. No closed form is known for continuous families.

    Args:
        p: the left side.
        q: the right side, over the same variables.
        num_samples: K, how many draws of each side are averaged.
        estimator: as in `Expectation`.

    Raises:
        FormulaError: if the two are over different variables.

    Examples:
        >>> from pixyz.distributions import Bernoulli
        >>> p, q = Bernoulli("p(x)", probs=0.5), Bernoulli("q(x)", probs=0.9)
        >>> print(JensenShannon(p, q))
        JS[p(x)||q(x)]
        >>> JensenShannon(p, q).estimate()
        tensor([0.1017])

    Source:
        Lin (1991), https://doi.org/10.1109/18.61115
    """

    symbol = "JS"

    def __init__(self, p: Distribution, q: Distribution, *, num_samples: int = 1, estimator: AnyEstimator = "auto") -> None:
        super().__init__(p, q, num_samples=num_samples, estimator=estimator)

    @staticmethod
    def integrand(r: Tensor) -> Tensor:
        a = r.abs().clamp(max=100.0)  # beyond it a·σ(-a) is below rounding
        return math.log(2) + F.logsigmoid(a) - a * torch.sigmoid(-a)


class TotalVariation(FDivergence):
    r"""The total variation distance, `(batch,)`, from 0 to 1:

    $$\mathrm{TV}[p\|q] = \tfrac12 \int |p(x) - q(x)|\,dx = \mathbb{E}_m\left[\frac{|p-q|}{p+q}\right], \qquad m = \tfrac12 (p+q)$$

    Exact over a finite support, else an unbiased estimate by draws of both sides.

    Args:
        p: the left side.
        q: the right side, over the same variables.
        num_samples: K, how many draws of each side are averaged.
        estimator: as in `Expectation`.

    Raises:
        FormulaError: if the two are over different variables.

    Examples:
        >>> from pixyz.distributions import Bernoulli
        >>> TotalVariation(Bernoulli("p(x)", probs=0.5), Bernoulli("q(x)", probs=0.9)).estimate()
        tensor([0.4000])
    """

    symbol = "TV"

    def __init__(self, p: Distribution, q: Distribution, *, num_samples: int = 1, estimator: AnyEstimator = "auto") -> None:
        super().__init__(p, q, num_samples=num_samples, estimator=estimator)

    @staticmethod
    def integrand(r: Tensor) -> Tensor:
        return torch.tanh(0.5 * r).abs()


class SquaredHellinger(FDivergence):
    r"""The squared Hellinger distance, `(batch,)`, from 0 to 1:

    $$H^2[p\|q] = 1 - \int \sqrt{p(x)\,q(x)}\,dx = \mathbb{E}_m\left[1 - \frac{2\sqrt{pq}}{p+q}\right], \qquad m = \tfrac12 (p+q)$$

    In closed form where the Rényi divergence has one, exact over a finite support, else an unbiased estimate by draws of both sides.

    Args:
        p: the left side.
        q: the right side, over the same variables.
        num_samples: K, how many draws of each side are averaged.
        estimator: as in `Expectation`.
        analytic: False for Monte Carlo even where a closed form is known.

    Attributes:
        is_analytic: whether the closed form is used.

    Raises:
        FormulaError: if the two are over different variables.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> p, q = Normal("p(x)", loc=0.0, scale=1.0), Normal("q(x)", loc=1.0, scale=1.5)
        >>> print(SquaredHellinger(p, q), SquaredHellinger(p, q).estimate())
        H^2[p(x)||q(x)] tensor([0.1104])
    """

    symbol = "H^2"
    order = 0.5

    @staticmethod
    def integrand(r: Tensor) -> Tensor:
        small = torch.exp(-0.5 * r.abs())  # 1 - 1/cosh(r/2), without overflow
        return (1 - small).square() / (1 + small.square())

    @staticmethod
    def of_renyi(value: Tensor) -> Tensor:
        return -torch.expm1(-0.5 * value)


class ChiSquared(FDivergence):
    r"""Pearson's χ² divergence, `(batch,)`, not negative:

    $$\chi^2[p\|q] = \int \frac{p(x)^2}{q(x)}\,dx - 1 = \mathbb{E}_m\left[\frac{(p-q)^2}{qm}\right], \qquad m = \tfrac12 (p+q)$$

    In closed form where the Rényi divergence has one, exact over a finite support, and then `inf` where it is infinite. Else an unbiased
    estimate by draws of both sides, which cannot know that: where p has heavier tails than q the divergence may be infinite, and the
    estimate is a finite number that grows with K without end.

    Args:
        p: the left side, which q must cover.
        q: the right side, over the same variables.
        num_samples: K, how many draws of each side are averaged.
        estimator: as in `Expectation`.
        analytic: False for Monte Carlo even where a closed form is known.

    Attributes:
        is_analytic: whether the closed form is used.

    Raises:
        FormulaError: if the two are over different variables.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> p, q = Normal("p(x)", loc=0.0, scale=1.0), Normal("q(x)", loc=1.0, scale=1.5)
        >>> print(ChiSquared(p, q), ChiSquared(p, q).estimate(), ChiSquared(q, p).estimate())
        chi^2[p(x)||q(x)] tensor([0.6004]) tensor([inf])
    """

    symbol = "chi^2"
    order = 2.0

    @staticmethod
    def integrand(r: Tensor) -> Tensor:
        small = torch.exp(-r.abs())  # 2(eʳ-1)²/(1+eʳ), without overflow
        return 2 * r.clamp_min(0).exp() * (1 - small).square() / (1 + small)

    @staticmethod
    def of_renyi(value: Tensor) -> Tensor:
        infinite = value > math.log(torch.finfo(value.dtype).max)
        # Where it is infinite it has the gradient 0, as the Rényi divergence has: a bound on it must not make 0 times inf.
        return torch.expm1(value.masked_fill(infinite, 0.0)).masked_fill(infinite, torch.inf)
