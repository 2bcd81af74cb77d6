"""The product of the marginals of a distribution over its batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pixyz.core import (
    BATCH,
    Binding,
    Checks,
    Conditional,
    Dims,
    Distribution,
    Factor,
    FormulaError,
    IntractableError,
    KnownSupport,
    Scope,
    Single,
    Term,
    known_supports,
    need_distribution,
    register_leaves,
    spread,
)
from pixyz.core import formula as f


class ProductOfMarginals(Single):
    r"""The product of the marginals of q(z), which is the mixture of q(z|x) over the batch: its features, each by itself.

    $$\bar q(z) = \prod_j q(z_j), \qquad q(z) = \mathbb{E}_{p_\mathrm{data}(x)}[q(z|x)]$$

    It is drawn from, and has no density: each feature of q's draws is permuted over the batch by itself. A discriminator between q and this
    knows the total correlation, KL[q(z)||q̄(z)].

    Args:
        q: one conditional of one variable, renamed or not.
        name: the letter before the brackets; that of q and "bar", if not given.

    Raises:
        FormulaError: for a product, a marginal, or several variables.
        IntractableError: when its density is asked for.

    Examples:
        >>> from torch import nn
        >>> from pixyz.distributions import Deterministic, Normal
        >>> from pixyz.gan import AdversarialKullbackLeibler
        >>> q = Normal("q(z|x)", loc=nn.Linear(4, 2), scale=1.0)
        >>> d = Deterministic("d(t|z)", t=nn.Linear(2, 1))
        >>> total_correlation = AdversarialKullbackLeibler(q, d, real=ProductOfMarginals(q))
        >>> print(total_correlation.for_player(q))
        E_p_data(x)q(z|x)[log (1 - d(z))/d(z)]
        >>> print(total_correlation.for_player(d))
        -(E_p_data(x)q_bar(z|x)[log d(z)] + E_p_data(x)q(z|x)[log (1 - d(z))])

    Source:
        Kim and Mnih (2018), algorithm 1, https://arxiv.org/abs/1802.05983
    """

    distribution_name = "ProductOfMarginals"

    def __init__(self, q: Distribution, *, name: str | None = None) -> None:
        super().__init__()
        who = type(self).__name__
        need_distribution(q, who)
        if len(q.factors) != 1 or q.hidden_var or len(q.var) != 1:
            raise FormulaError(f"{who} takes one conditional of one variable, like q(z|x); {q.prob_text} is not.")
        (factor,) = q.factors
        self._q = (factor,)  # in a tuple, lest it be registered twice
        self.var, self.cond_var = factor.var, factor.cond_var
        self.name = f"{q.name}_bar" if name is None else name
        self.has_rsample = factor.dist.has_rsample
        register_leaves(self, [factor.dist])

    def support_of(self, name: str) -> KnownSupport | None:
        return next((support for _, support in known_supports(self._q, name)), None)

    def formula_as(self, factor: Factor) -> f.Formula:
        q = f.Density(self._q[0].dist.name, factor.var)
        return f.Equation(factor.density, f.Call("product_of_marginals", q))

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "Permuted":
        (q,) = self._q
        names = dict(zip((*self.var, *self.cond_var), (*factor.var, *factor.cond_var)))
        known_as = Factor(q.dist, tuple(names[v] for v in q.var), tuple(names[v] for v in q.cond_var))
        return Permuted(scope.conditional(known_as))


class Permuted:
    """Draws of which each feature is permuted over the batch, in one evaluation."""

    def __init__(self, q: Conditional) -> None:
        self.q = q
        self.dims: Dims = q.dims
        self.batch: int | None = q.batch

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """One draw, `(*dims, *features)`."""
        return [self._permuted(spread(t.tensor, t.dims, dims, sizes), dims) for t in self.q.draw(dims, sizes, pathwise=pathwise)]

    @staticmethod
    def _permuted(drawn: Tensor, dims: Dims) -> Term:
        if BATCH not in dims:
            return Term(drawn, dims)
        axis = dims.index(BATCH)
        order = torch.rand(drawn.shape, device=drawn.device).argsort(axis)
        return Term(drawn.gather(axis, order), dims)

    def log_prob(self, values: Sequence[Binding], factor: Factor, checks: Checks) -> Term:
        """There is none.

        Raises:
            IntractableError: always.
        """
        raise IntractableError(
            f"log {factor}: a product of marginals over the batch has draws, and no density. Give it to a discriminator, as real=."
        )

    def statistic(self, what: str) -> Term:
        """None is known."""
        raise NotImplementedError
