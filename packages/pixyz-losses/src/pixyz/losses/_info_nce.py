"""A lower bound on mutual information by telling pairs from mismatched ones."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from pixyz.core import (
    BATCH,
    Distribution,
    Factor,
    FormulaError,
    KindError,
    LogProb,
    Loss,
    Quantities,
    Quantity,
    Scope,
    ShapeError,
    Term,
    call_network,
    fold,
    log_size,
    need_distribution,
    spread,
    warn_of_networks,
)
from pixyz.core import formula as f

from ._kernels import Function
from ._set_loss import draw_set, need_gradients, own_batch


class InfoNCE(Loss):
    r"""A lower bound on the mutual information of x and z, in nats, `()`, at most log N for a batch of N; to be maximised:

    $$I(x;z) \ge \mathbb{E}\left[\frac1N \sum_{i=1}^N \log \frac{e^{f(x_i, z_i)}}{\frac1N \sum_{j=1}^N e^{f(x_j, z_i)}}\right],
    \qquad z_i \sim q(z|x_i)$$

    The negatives of z_i are the x_j of the batch. In a process group it is one per rank.

    Args:
        q: what draws z, given x; its draws need gradients.
        critic: f: a deterministic distribution of one number, such as `Deterministic("f(t|x,z)", net)`; or a function or module that
            takes the variables of q by keyword and returns `(N,)`, one number for each pair. Without one, f = log q(z|x), the best critic;
            the bound is then tight as N grows.
        negatives: which variables are exchanged between data; those that q does not draw, if not said.

    Raises:
        FormulaError: for a critic of one side only, or of more than one variable.
        ShapeError: for a batch of less than 2, and where it stands inside of an expectation.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> print(-InfoNCE(Normal("q(z|x)", loc="x", scale=0.1)))
        -InfoNCE(q(z|x))

    Source:
        van den Oord et al. (2018), eq. 4, https://arxiv.org/abs/1807.03748; Poole et al. (2019), eq. 12, https://arxiv.org/abs/1905.06922
    """

    def __init__(
        self,
        q: Distribution,
        critic: Distribution | Callable[..., Any] | None = None,
        *,
        negatives: str | Iterable[str] | None = None,
    ) -> None:
        need_distribution(q, "InfoNCE")
        text = f"InfoNCE({q.prob_text})"
        parts: list[nn.Module] = [q]
        names = (*q.cond_var, *q.var)
        if isinstance(critic, Distribution):
            if len(critic.factors) != 1 or not critic.factors[0].dist.is_deterministic or len(critic.var) != 1:
                raise FormulaError(
                    f"{text}: the critic {critic.prob_text} must compute one variable, as Deterministic('f(t|x,z)', net) does."
                )
            names = critic.cond_var
            parts.append(critic)
        elif critic is None:
            LogProb(q)  # says now if it has no density
        elif callable(critic):
            warn_of_networks(critic, text)
            critic = Function(critic, f"f of {text}")
            parts.append(critic)
        else:
            raise KindError(f"{text}: the critic is a distribution or a function; got a {type(critic).__name__}.")
        given = [v for v in names if v not in q.var]
        exchanged = given if negatives is None else [negatives] if isinstance(negatives, str) else list(negatives)
        if not exchanged or not set(exchanged) < set(names):
            raise FormulaError(
                f"{text}: the critic sees {', '.join(names)}, of which some, and not all, are exchanged between data; "
                f"got {', '.join(exchanged) or 'none'}."
            )
        super().__init__(
            parts,
            input_var=[*q.cond_var, *given],
            bound_var=q.var,
            per_datum=False,
            stochastic=True,
            mixes_batch=True,
            compares_sets=True,
        )
        self.parts = (q, critic)
        self._names = tuple(names)
        self._exchanged = frozenset(exchanged)
        need_gradients(q, self)

    @property
    def formula(self) -> f.Formula:
        return f.Call("InfoNCE", self.parts[0].density)

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities:
        return frozenset([(Quantity.BOUND, 1)])

    def evaluate(self, scope: Scope) -> Term:
        q, _ = self.parts
        known = own_batch(scope, self.input_var, self)
        n = scope.batch if known is None else known
        if n < 2:
            raise ShapeError(f"{self}: it tells data from one another, of which it needs at least 2; the batch is {n}.")
        drawn = draw_set(scope, q, n, self)
        other = scope.shared.open_dim(n)
        inner = scope.inside({}, n, (), scope.shared.number())
        for v in self._names:
            tensor, dims, _ = drawn.get(v) or scope.bindings[v]
            inner.bind(v, spread(tensor, dims, (BATCH,), [n]), (other if v in self._exchanged else BATCH,))
        scores = self._scores(inner, (other, BATCH), n)
        return Term((scores.diagonal() - scores.logsumexp(0)).mean() + log_size(n, scores), ())

    def _scores(self, scope: Scope, dims: tuple[int, int], n: int) -> Any:
        """f(x_j, z_i), `(N, N)`, of which the diagonal are the pairs."""
        q, critic = self.parts
        if critic is None:
            return spread(*q.evaluate_log_prob(scope, self), dims, [n, n])
        if isinstance(critic, Distribution):
            conditional = scope.conditional(critic.factors[0])
            (term,) = conditional.draw(conditional.dims, [], pathwise=True)
            found = spread(*term, dims, [n, n])
        else:
            arguments = {v: fold(*scope.bindings[v][:2], dims, [n, n]) for v in self._names}
            found = call_network(critic, **arguments)
        if found.numel() != n * n:
            raise ShapeError(f"{self}: the critic must return one number for each pair, ({n * n},); got {tuple(found.shape)}.")
        return found.reshape(n, n)
