"""How far the elements of a latent variable are from independent, over the data."""

import math

import torch

from pixyz.core import (
    BATCH,
    Distribution,
    Factor,
    FormulaError,
    IntractableError,
    Loss,
    Quantities,
    Quantity,
    Scope,
    ShapeError,
    Term,
    is_whole,
    log_size,
    need_distribution,
    spread,
)
from pixyz.core import formula as f

from ._set_loss import draw_set, need_gradients, own_batch

ESTIMATORS = ("stratified", "weighted")


class TotalCorrelation(Loss):
    r"""The total correlation of the aggregated posterior, in nats, `()`:

    $$\mathrm{TC} = D_{\mathrm{KL}}\left[q(z)\,\middle\|\,\prod_d q(z_d)\right], \qquad q(z) = \frac1N \sum_{n=1}^N q(z|x_n)$$

    From the M data of a minibatch and one draw of z for each, the densities at z_i are estimated by

    $$\text{weighted:}\quad q(z_i) \approx \frac{1}{NM} \sum_{j=1}^M q(z_i|x_j); \qquad
    \text{stratified:}\quad q(z_i) \approx \frac1N q(z_i|x_i) + \frac{N-1}{N(M-1)} \sum_{j \ne i} q(z_i|x_j)$$

    The stratified density is unbiased (the paper's weights, averaged over which datum comes last), and exact where the minibatch is the
    data set; its logarithm is biased. The weighted density lacks the weight of z's own datum and a factor of about N, so that its TC is too
    high by about (D-1) log N for D features, a constant; it has the lower variance. In a process group it is one per rank.

    Args:
        q: q(z|x), independent over the features of z.
        dataset_size: N, how many data there are.
        estimator: `"stratified"` or `"weighted"`.

    Raises:
        FormulaError: for a joint, or an unknown estimator.
        ShapeError: for a batch of less than 2 or more than N, and where it stands inside of an expectation.
        IntractableError: for a family without a density of each feature.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> q = Normal("q(z|x)", loc="x", scale=1.0)
        >>> print(6.0 * TotalCorrelation(q, 60_000))
        6 * TC(q(z|x))

    Source:
        Chen et al. (2018), appendix C, https://arxiv.org/abs/1802.04942
    """

    def __init__(self, q: Distribution, dataset_size: int, *, estimator: str = "stratified") -> None:
        need_distribution(q, "TotalCorrelation")
        if len(q.factors) != 1 or len(q.var) != 1 or not q.cond_var:
            raise FormulaError(f"TC({q.prob_text}): it is asked of one conditional of one variable, q(z|x).")
        if estimator not in ESTIMATORS:
            raise FormulaError(f"TC({q.prob_text}): there is no estimator {estimator!r}; choose one of {', '.join(ESTIMATORS)}.")
        if not is_whole(dataset_size) or dataset_size < 2:
            raise FormulaError(f"TC({q.prob_text}): dataset_size is a whole number of at least 2; got {dataset_size!r}.")
        super().__init__([q], bound_var=q.var, per_datum=False, stochastic=True, mixes_batch=True, biased=True, compares_sets=True)
        self.dataset_size = dataset_size
        self.estimator = estimator
        self._q = q
        need_gradients(q, self)

    @property
    def formula(self) -> f.Formula:
        return f.Call("TC", self._q.density)

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities:
        return frozenset([(Quantity.DISTANCE, -1)])

    def evaluate(self, scope: Scope) -> Term:
        q = self._q
        known = own_batch(scope, q.cond_var, self)
        m = scope.batch if known is None else known
        if not 2 <= m <= self.dataset_size:
            raise ShapeError(f"{self}: the batch must be at least 2 and at most dataset_size, {self.dataset_size}; it is {m}.")
        (factor,) = q.factors
        (drawn,) = draw_set(scope, q, m, self).values()
        other = scope.shared.open_dim(m)
        inner = scope.inside({}, m, (), scope.shared.number())
        for v in q.cond_var:
            tensor, dims, _ = scope.bindings[v]
            inner.bind(v, tensor, (other,) if dims else ())
        z = inner.bind(q.var[0], drawn.tensor, (BATCH,))
        scores = getattr(inner.conditional(factor), "scores", None)
        # (x_j, z_i, *features)
        found, dims = (None, ()) if scores is None else scores((z,), factor, scope.shared.checks)
        if found is None or found.ndim - len(dims) != len(z.features):
            raise IntractableError(f"{self}: {factor} ({factor.dist.distribution_name}) has no density for each feature.")
        if not z.features:
            raise ShapeError(f"{self}: {q.var[0]} is one number for each datum, and a total correlation is between several.")
        each = spread(found, dims, (other, BATCH), [m, m]).flatten(2)
        weights = self._log_weights(m, each)
        joint = (each.sum(-1) + weights).logsumexp(0)
        product = (each + weights.unsqueeze(-1)).logsumexp(0).sum(-1)
        return Term((joint - product).mean(), ())

    def _log_weights(self, m: int, like: torch.Tensor) -> torch.Tensor:
        """The logarithms of the weights of q(z_i|x_j), `(M, M)`."""
        n = self.dataset_size
        if self.estimator == "weighted":
            return -(log_size(m, like) + math.log(n)).expand(m, m)
        own = torch.eye(m, dtype=torch.bool, device=like.device)
        others = math.log((n - 1) / n) - log_size(m - 1, like)
        return torch.where(own, -math.log(n), others)
