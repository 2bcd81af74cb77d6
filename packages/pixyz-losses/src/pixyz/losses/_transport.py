"""Distances between distributions by optimal transport."""

import math

import torch
from torch import Tensor

from pixyz.core import Distribution, FormulaError, Scope, Term
from pixyz.core import formula as f

from ._kernels import distances
from ._set_loss import SetLoss
from ._transport_plan import need_transport, transport_plan
from ._two_sided import closed_form, need_same_variables


class Wasserstein(SetLoss):
    r"""The Wasserstein distance of order k, in the unit of x:

    $$W_k[p\|q] = \left(\inf_\pi \mathbb{E}_\pi \|x-y\|^k\right)^{1/k}, \qquad \pi \text{ with the marginals } p \text{ and } q$$

    In closed form (Bures) at order 2 for two normal or two multivariate normal distributions without conditioning variables,

    $$W_2^2 = \|\mu_p-\mu_q\|^2 + \operatorname{tr}\left(\Sigma_p + \Sigma_q - 2(\Sigma_q^{1/2}\Sigma_p\Sigma_q^{1/2})^{1/2}\right)$$

    Else between draws, one of each side for each datum: with a value x for each datum, p(z|x) stands for the mixture of p(z|x) over the
    data. That is biased upwards, and slowly falls to the truth as the batch grows; it prints so. One feature is sorted; several need POT,
    `pip install pixyz-losses[transport]`.

    Args:
        p: the left side.
        q: the right side, over the same variables.
        order: k, at least 1.
        analytic: False for draws even where a closed form is known.
        conditional: for the distance, in closed form, between the two conditionals of each datum, `(batch,)`.

    Attributes:
        is_analytic: whether the closed form is used.
        is_biased: whether the value differs from the truth on average; so it is for draws.

    Raises:
        FormulaError: for an order below 1, for `conditional` without a closed form, and as `MMD`.
        ShapeError: as `MMD`.
        ImportError: for draws of several features without POT.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> p, q = Normal("p(x)", loc=0.0, scale=1.0), Normal("q(x)", loc=1.0, scale=1.5)
        >>> print(Wasserstein(p, q), Wasserstein(p, q).estimate())
        W_2[p(x)||q(x)] tensor(1.1180)
        >>> print(Wasserstein(p, q, order=1))
        empirical(W_1[p(x)||q(x)])

    Source:
        Peyré and Cuturi (2019), remark 2.31, https://arxiv.org/abs/1803.00567
    """

    symbol = "W"

    def __init__(self, p: Distribution, q: Distribution, *, order: float = 2, analytic: bool = True, conditional: bool = False) -> None:
        need_same_variables(p, q, self.symbol)
        if isinstance(order, bool) or not isinstance(order, (int, float)) or not 1 <= order < math.inf:
            raise FormulaError(f"W[{p.prob_text}||{q.prob_text}]: the order must be a number of at least 1; got {order!r}.")
        alone = not (p.cond_var or q.cond_var)
        rule = closed_form("squared_wasserstein", p, q) if analytic and order == 2 and (alone or conditional) else None
        if conditional and rule is None:
            raise FormulaError(
                f"W[{p.prob_text}||{q.prob_text}]: for each datum it needs a closed form, which two normal distributions have at order 2. "
                "Without conditional=True it compares draws over the batch."
            )
        self.order = order
        super().__init__(p, q, by_rule=rule is not None, biased=rule is None, per_datum=conditional)
        self._rule = rule
        self.is_analytic = rule is not None

    @property
    def formula(self) -> f.Formula:
        p, q = self._pair
        node = f.Divergence(f"{self.symbol}_{self.order:g}", p.density, q.density)
        return node if self.is_analytic else f.Call("empirical", node)

    def evaluate(self, scope: Scope) -> Term:
        if self._rule is None:
            return super().evaluate(scope)
        p, q = self._pair
        square, dims = self._rule(scope.conditional(p.factors[0]), scope.conditional(q.factors[0]), self)
        return Term(_root(square, 2), dims)

    def of_sets(self, x: Tensor, y: Tensor) -> Tensor:
        if x.shape[-1] == 1:
            return _root(_sorted_cost(x.squeeze(-1), y.squeeze(-1), self.order), self.order)
        need_transport(str(self))
        cost = distances(x, y) ** self.order
        # The best plan stays the best for a while, so the gradient goes through the cost alone.
        return _root((transport_plan(cost.detach(), 0.0, str(self)) * cost).sum(), self.order)


class Sinkhorn(SetLoss):
    r"""The Sinkhorn divergence, `()`, in the k-th power of the unit of x, from one draw of each side for each datum:

    $$S_\varepsilon[p\|q] = W_\varepsilon[p\|q] - \tfrac12 W_\varepsilon[p\|p] - \tfrac12 W_\varepsilon[q\|q], \qquad
    W_\varepsilon[p\|q] = \min_\pi \mathbb{E}_\pi \|x-y\|^k + \varepsilon D_{\mathrm{KL}}[\pi\|p \otimes q]$$

    It is 0 for equal sets. As ε falls it tends to the k-th power of the Wasserstein distance; as ε grows, at k = 1, to half the energy
    distance. For draws it is biased. The plans are found by POT, `pip install pixyz-losses[transport]`; one that has not converged after
    2,000 iterations gives a warning with the share of the mass that is misplaced.

    Args:
        p: the left side.
        q: the right side, over the same variables.
        epsilon: ε > 0, in the k-th power of the unit of x.
        order: k, at least 1.

    Raises:
        FormulaError: for ε or an order out of range, and as `MMD`.
        ShapeError: as `MMD`.
        ImportError: without POT.

    Source:
        Feydy et al. (2019), https://arxiv.org/abs/1810.08278
    """

    symbol = "Sinkhorn"

    def __init__(self, p: Distribution, q: Distribution, *, epsilon: float = 0.1, order: float = 2) -> None:
        if not 0 < epsilon < math.inf or not 1 <= order < math.inf:
            raise FormulaError(f"Sinkhorn: epsilon must be positive, and the order at least 1; got {epsilon!r} and {order!r}.")
        need_transport(self.symbol)
        super().__init__(p, q, biased=True)
        self.epsilon = float(epsilon)
        self._who = str(self)
        self.order = order

    def of_sets(self, x: Tensor, y: Tensor) -> Tensor:
        return self._cost(x, y) - 0.5 * (self._cost(x, x) + self._cost(y, y))

    def _cost(self, x: Tensor, y: Tensor) -> Tensor:
        cost = distances(x, y) ** self.order
        plan = transport_plan(cost.detach(), self.epsilon, self._who)
        divergence = torch.xlogy(plan, plan * plan.numel()).sum()
        return (plan * cost).sum() + self.epsilon * divergence


def _sorted_cost(x: Tensor, y: Tensor, order: float) -> Tensor:
    """The cheapest plan on a line, between `(N,)` and `(M,)`: the smallest mass goes to the smallest."""
    n, m = x.shape[0], y.shape[0]
    # In units of 1/(NM), where the plan ends with one x or one y.
    ends = torch.cat([torch.arange(1, n + 1, device=x.device) * m, torch.arange(1, m + 1, device=x.device) * n]).sort().values
    masses = ends.diff(prepend=ends.new_zeros(1)) / (n * m)
    gaps = (x.sort().values[(ends - 1) // m] - y.sort().values[(ends - 1) // n]).abs()
    return (masses.to(x) * gaps**order).sum()


def _root(power: Tensor, order: float) -> Tensor:
    """The root, with the gradient 0 at 0, where it has none."""
    zero = power <= 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, power) ** (1 / order))
