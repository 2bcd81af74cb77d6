"""What is known of a distribution in closed form: mean, variance, mode, entropy, parameters."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ._autocast import full_precision
from ._bindings import Factor
from ._conditionals import Summarised
from ._density import compute
from ._dims import BATCH, Term, spread
from ._errors import IntractableError
from ._scope import Scope
from ._values import as_dict, open_scope

if TYPE_CHECKING:
    from ._formula import Density


class Moments:
    """What a distribution says of itself without a draw."""

    name: str
    var: tuple[str, ...]
    cond_var: tuple[str, ...]
    factors: tuple[Factor, ...]
    ancestral: tuple[Factor, ...]
    hidden_var: frozenset[str]

    if TYPE_CHECKING:

        @property
        def density(self) -> Density: ...
        @property
        def prob_text(self) -> str: ...

    def mean(self, values: Mapping[str, Any] | None = None) -> Tensor:
        """E[x|cond_var], exact, `(batch, *features)`.

        Args:
            values: `(batch, *features)` for each conditioning variable.

        Raises:
            IntractableError: where no closed form is known; the message names the Monte Carlo call.
        """
        return self._statistic("mean", values, "{p}.sample(values, sample_shape=[1000])[{x!r}].mean(0)")

    def variance(self, values: Mapping[str, Any] | None = None) -> Tensor:
        """Var[x|cond_var], exact, `(batch, *features)`; arguments and errors as those of `mean`."""
        return self._statistic("variance", values, "{p}.sample(values, sample_shape=[1000])[{x!r}].var(0)")

    def mode(self, values: Mapping[str, Any] | None = None) -> Tensor:
        """The x of greatest density, exact, `(batch, *features)`; arguments and errors as those of `mean`."""
        return self._statistic("mode", values, "the best of {p}.sample(values, sample_shape=[1000]) by {p}.log_likelihood")

    def entropy(self, values: Mapping[str, Any] | None = None) -> Tensor:
        """H = -E[log p], exact, in nats, `(batch,)`; arguments and errors as those of `mean`."""
        return self._statistic("entropy", values, "(-{p}.log_prob()).expectation({p}, num_samples=1000).estimate(values)")

    @full_precision
    def sample_mean(self, values: Mapping[str, Any] | None = None, *, return_all: bool = True) -> dict[str, Tensor]:
        """As `sample`, but each variable is the mean of its conditional, given the means of those above it.

        Args:
            values: `(batch, *features)` for each conditioning variable.
            return_all: with the given values beside the means.

        Raises:
            IntractableError: if a conditional's mean has no closed form.
        """
        given = as_dict(values)
        scope = open_scope(given, needed=self.cond_var, who=self.density)
        means: dict[str, Tensor] = {}
        for factor in self.ancestral:
            who = f"{factor} ({factor.dist.distribution_name})"
            term = self._closed_form("mean", scope.conditional(factor), who, f"{self.name}.sample(values)")
            for name in factor.var:
                scope.bind(name, term.tensor, term.dims)
                if name not in self.hidden_var:
                    means[name] = spread(term.tensor, term.dims, (BATCH,), [scope.batch])
        return {**given, **means} if return_all else means

    @full_precision
    def get_params(self, values: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        """The parameters of a single conditional, by name, `(batch, *features)`; those without a batch as they are.

        Args:
            values: `(batch, *features)` for each conditioning variable.

        Raises:
            IntractableError: for a joint, or a distribution that has no parameters.
        """
        scope, factor = self._only_factor("parameters", open_scope(values, needed=self.cond_var, who=self.density))
        terms = getattr(scope.conditional(factor), "terms", None)
        if not isinstance(terms, Mapping):
            raise IntractableError(f"{factor} ({factor.dist.distribution_name}) has no parameters.")
        return {name: term.tensor for name, term in terms.items()}

    @full_precision
    def _statistic(self, what: str, values: Mapping[str, Any] | None, instead: str) -> Tensor:
        scope = open_scope(values, needed=self.cond_var, who=self.density)
        who = f"{self.prob_text} ({self.factors[0].dist.distribution_name})" if len(self.factors) == 1 else self.prob_text
        term = self._closed_form(what, self.summarised(what, scope), who, instead.format(p=self.name, x=self.var[0]))
        return spread(term.tensor, term.dims, (BATCH,), [scope.batch])

    def _closed_form(self, what: str, conditional: Summarised, who: str, instead: str) -> Term:
        try:
            return conditional.statistic(what)
        except NotImplementedError:
            raise IntractableError(f"{who} has no {what} in closed form here; estimate it by {instead}.") from None

    def summarised(self, what: str, scope: Scope) -> Summarised:
        """What knows the mean, variance, mode and entropy of this distribution in a scope.

        Raises:
            IntractableError: for a joint.
        """
        scope, factor = self._only_factor(what, scope)
        return scope.conditional(factor)

    def _only_factor(self, what: str, scope: Scope) -> tuple[Scope, Factor]:
        """The one factor that is not merely computed and hidden, and the scope in which it has its inputs."""
        computed = [f for f in self.ancestral if f.dist.is_deterministic and self.hidden_var.issuperset(f.var)]
        others = [f for f in self.ancestral if f not in computed]
        if len(others) > 1 or not self.hidden_var.isdisjoint(others[0].var):
            raise IntractableError(f"{self.prob_text}: the {what} of a joint is not known in closed form; ask its conditionals, or sample.")
        for factor in computed:
            scope = compute(scope, factor)
        return scope, others[0]
