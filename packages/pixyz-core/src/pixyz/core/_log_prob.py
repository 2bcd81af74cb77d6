"""The log-density of a distribution, as a loss."""

from collections.abc import Callable
from dataclasses import replace

from ._bindings import Factor
from ._density import compute
from ._dims import Term
from ._distribution import Distribution, need_distribution
from ._errors import FormulaError
from ._formula import Formula, Log
from ._joint import Joint
from ._loss import Loss
from ._operators import Sum
from ._quantities import Quantities, Quantity
from ._scope import Scope
from ._variables import check_names


class LogProb(Loss):
    r"""log p(var|cond_var), in nats, `(batch,)`; summed over the features and the factors.

    A deterministic factor is no density: its value is computed, bound, and adds nothing.

    Args:
        p: the distribution.
        mask: the variable that says what was seen of x, 1, and what was not, 0: of the shape of x without the dims of an event, or
            `(batch,)` for whole data. Missing entries may have any value, nan too; they add nothing to the value nor to a gradient.
            p must be one conditional that is independent over the features; then this is the log-density of what was seen, log p(x[m]|z).

    Raises:
        FormulaError: for a mask of a product, of a distribution that is not independent over the features, or by one of its variables.
        SupportError: at an evaluation, for a mask with other values than 0 and 1.
        IntractableError: if the integral over what is marginalised out has no closed form.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> print(LogProb(Normal(var=["z"], loc=0.0, scale=1.0)))
        log p(z)
        >>> import torch
        >>> p = Normal(var=["x"], loc=0.0, scale=1.0, dim=2)
        >>> values = {"x": torch.tensor([[0.0, torch.nan]]), "m": torch.tensor([[1.0, 0.0]])}
        >>> print(p.log_prob(mask="m"), p.log_prob(mask="m").estimate(values))
        log p(x[m]) tensor([-0.9189])
    """

    def __init__(self, p: Distribution, *, mask: str | None = None) -> None:
        need_distribution(p, "LogProb")
        if mask is not None:
            _check_mask(p, mask)
        scored, computed = p.scored_var()
        super().__init__([p], input_var=[*scored, *p.cond_var, *(() if mask is None else (mask,))], optional_var=computed)
        self._p = p
        self._mask = mask

    @property
    def parts(self) -> tuple[Factor, ...]:
        """The conditionals whose variables have a density in it."""
        p = self._p
        return tuple(x for x in p.factors if p.hidden_var.isdisjoint(x.var) and not x.dist.is_deterministic)

    @property
    def formula(self) -> Formula:
        density = self._p.density
        return Log(density if self._mask is None else replace(density, mask=self._mask))

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities:
        p = self._p
        scored = _scored(p)
        if not scored:
            return frozenset()
        if not drawn:
            return frozenset([(Quantity.LIKELIHOOD, 1)])
        if drawn.issuperset(scored):
            return frozenset([(Quantity.ENTROPY, -1)])
        is_drawn = {v for factor in drawn for v in factor.var}.issuperset(p.var)
        return frozenset([(Quantity.PRIOR if is_drawn else Quantity.EVIDENCE, 1)])

    def each_term(self, change: Callable[[Loss], Loss]) -> Loss:
        p = self._p
        if len(p.factors) < 2 or p.hidden_var or self._mask is not None or any(x.dist.is_deterministic for x in p.factors):
            return change(self)
        terms = [change(LogProb(Joint([x]))) for x in p.ancestral]
        return Sum([(1, term) for term in terms], terms)

    def evaluate(self, scope: Scope) -> Term:
        p = self._p
        if self._mask is None:
            return p.evaluate_log_prob(scope, self)
        for factor in p.ancestral:
            if factor.dist.is_deterministic:
                scope = compute(scope, factor)
        return scope.log_prob(_scored(p)[0], self._mask)


def _check_mask(p: Distribution, mask: str) -> None:
    """Raises an error unless p is one conditional whose features can be masked by this variable."""
    who = f"LogProb({p.prob_text}, mask={mask!r})"
    check_names((mask,), "mask")
    if mask in (*p.var, *p.cond_var, *p.hidden_var):
        raise FormulaError(f"{who}: {mask} is a variable of {p.prob_text} itself; give the mask a name of its own.")
    scored = _scored(p)
    if len(scored) != 1 or not p.hidden_var.isdisjoint(scored[0].var):
        raise FormulaError(
            f"{who}: a mask says what was seen of one conditional, like p(x|z), and this is a product or a marginal. "
            "Mask the factor, and add the log_prob() of the others."
        )
    dist = scored[0].dist
    if not dist.has_scores:
        raise FormulaError(
            f"{who}: a {dist.distribution_name} is not known to be independent over the features of {scored[0].var[0]}, "
            "so what was seen of it has no density here. Weigh whole data, with a tensor (batch,) times the loss."
        )


def _scored(p: Distribution) -> list[Factor]:
    return [factor for factor in p.ancestral if not factor.dist.is_deterministic]
