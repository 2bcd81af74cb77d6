"""The Rényi divergence."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pixyz.core import BATCH, AnyEstimator, Distribution, FormulaError, KindError, Scope, Term, broadcast, union
from pixyz.core import formula as f

from ._log_ratio import LogRatio, OfLogRatio
from ._two_sided import TwoSided, closed_form, need_comparable

# Names that no user's variable can have.
_OUTSIDE, _PEAK = " outside", " peak"


class Renyi(TwoSided):
    r"""The Rényi divergence of order α, in nats, `(batch,)`:

    $$D_\alpha[p\|q] = \frac{1}{\alpha - 1} \log \int p(x)^\alpha\, q(x)^{1-\alpha}\,dx$$

    In closed form for normal distributions, Bernoulli and categorical ones, exact over a finite support, and then `inf` where it is
    infinite. Else from draws of both sides, with weights under their mixture: the integral is estimated without bias, its logarithm with
    one of about the estimate's variance over twice its square, which falls as 1/K. For α < 1 the weights are bounded. For α > 1 draws
    cannot know that the integral diverges; the estimate is then a finite number that grows with K without end.

    Args:
        p: the left side.
        q: the right side, over the same variables.
        alpha: α > 0, not 1; at 1 it is the Kullback–Leibler divergence.
        num_samples: K, how many draws of each side are averaged.
        estimator: as in `Expectation`.
        analytic: False for Monte Carlo even where a closed form is known.

    Attributes:
        is_analytic: whether the closed form is used.
        is_biased: whether the value differs from the truth on average.

    Raises:
        FormulaError: if α is not positive and finite, or is 1; if the two are over different variables.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> p, q = Normal("p(x)", loc=0.0, scale=1.0), Normal("q(x)", loc=1.0, scale=1.5)
        >>> print(Renyi(p, q, 2), Renyi(p, q, 2).estimate(), Renyi(q, p, 2).estimate())
        Renyi_2[p(x)||q(x)] tensor([0.4703]) tensor([inf])

    Source:
        van Erven and Harremoës (2014), https://arxiv.org/abs/1206.2459
    """

    symbol = "Renyi"

    def __init__(
        self,
        p: Distribution,
        q: Distribution,
        alpha: float,
        *,
        num_samples: int = 1,
        estimator: AnyEstimator = "auto",
        analytic: bool = True,
    ) -> None:
        need_comparable(p, q, self.symbol)
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
            raise KindError(f"Renyi[{p.prob_text}||{q.prob_text}]: alpha is a number; got a {type(alpha).__name__}.")
        if not 0 < alpha < math.inf or alpha == 1:
            instead = " At 1 it is the Kullback–Leibler divergence: KullbackLeibler(p, q)." if alpha == 1 else ""
            raise FormulaError(f"Renyi[{p.prob_text}||{q.prob_text}]: alpha must be positive, finite and not 1; got {alpha}.{instead}")
        rule = closed_form("renyi", p, q) if analytic else None
        super().__init__(p, q, _Weight(LogRatio(p, q), float(alpha)), rule, num_samples, estimator, nonlinear=True)
        self.alpha = float(alpha)

    @property
    def formula(self) -> f.Formula:
        p, q = self._pair
        order = f"{self.alpha:g}"
        return f.Divergence(f"{self.symbol}_{order if len(order) == 1 else f'{{{order}}}'}", p.density, q.density)

    def evaluate(self, scope: Scope) -> Term:
        if self.is_analytic:
            return self.by_rule(scope, alpha=self.alpha)
        inner = scope.inside({}, scope.batch, scope.samples, scope.group)
        outside = union((BATCH,), scope.samples, *[scope.bindings[v].dims for v in self.input_var])
        inner.bind(_OUTSIDE, torch.empty(()), outside)
        # The draws of both passes are the same ones, found in the memo.
        x, y, dims = self.both_sides(inner)
        peak = torch.maximum(x, y)
        peak = torch.where(peak.isfinite(), peak, 0.0)
        inner.bind(_PEAK, peak, dims)
        integral = self.under_mixture(inner)
        value, peak, dims = broadcast(Term(integral.tensor.log(), integral.dims), Term(peak, dims), self)
        return Term((value + peak) / (self.alpha - 1), dims)


class _Weight(OfLogRatio):
    """p^α q^(1-α)/m over its peak, which a first pass finds: the greatest logarithm among the draws, without gradient."""

    def __init__(self, ratio: LogRatio, alpha: float) -> None:
        super().__init__(ratio, self._log_weight)
        self._alpha = alpha

    def _log_weight(self, r: Tensor) -> Tensor:
        return torch.where(r > 0, (self._alpha - 1) * r + F.logsigmoid(r), self._alpha * r + F.logsigmoid(-r)) + math.log(2)

    def evaluate(self, scope: Scope) -> Term:
        log_weight, dims = super().evaluate(scope)
        if _PEAK in scope.bindings:
            x, y, dims = broadcast(Term(log_weight, dims), Term(*scope.bindings[_PEAK][:2]), self)
            return Term((x - y).exp(), dims)
        kept = scope.bindings[_OUTSIDE].dims
        axes = [i for i, d in enumerate(dims) if d not in kept]
        peak = log_weight.detach()
        return Term(peak.amax(axes) if axes else peak, tuple(d for d in dims if d in kept))
