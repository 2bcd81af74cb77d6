"""What a distribution is: variables, conditioning variables, sampling and a likelihood, whether single or joint."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ._autocast import full_precision
from ._checks import Checks, checked, device_of
from ._density import log_density
from ._dims import BATCH, Term, spread
from ._errors import BoundVariableError, FormulaError, KindError
from ._formula import Density, Formula, Log
from ._leaves import parts_need_start
from ._measures import need_one_measure
from ._moments import Moments
from ._printers import LATEX, TEXT, UNICODE, render
from ._scope import Scope
from ._values import as_dict, open_scope
from ._variables import is_whole, suggest

if TYPE_CHECKING:
    from ._graph import Graph
    from ._loss import Loss


class Distribution(Moments, nn.Module):
    """A distribution p(var|cond_var): single, joint, renamed or marginal; all answer the same verbs.

    Attributes:
        var: the variables it is over, in the order written.
        cond_var: the variables it depends on.
        name: the letter before its brackets.
        factors: its conditionals, in the order written.
        ancestral: its conditionals, parents first.
        hidden_var: variables that it draws and does not show, because they were marginalised out.
        defined: all variables that its factors define, shown or hidden.
        fixed: the hidden variables that have one value, with its text.
    """

    defined: frozenset[str]
    fixed: Mapping[str, str]

    if TYPE_CHECKING:  # bound in `_algebra`, above which nothing here may reach

        def log_prob(self, *, mask: str | None = None) -> Loss: ...
        def __mul__(self, other: "Distribution") -> "Distribution": ...
        def replace_var(self, **names: str) -> "Distribution": ...
        def marginalize_var(self, names: str | Iterable[str]) -> "Distribution": ...
        def posterior(self, names: str | Iterable[str] = ()) -> "Distribution": ...
        def condition(self, **values: Tensor | float) -> "Distribution": ...
        def __truediv__(self, other: "Distribution") -> "Distribution": ...
        def graph(self, observed: str | Iterable[str] = (), *, plates: bool = True) -> Graph: ...

    @full_precision
    def sample(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        sample_shape: Sequence[int] = (),
        batch_size: int | None = None,
        return_all: bool = True,
        validate: bool = True,
    ) -> dict[str, Tensor]:
        """Draws every variable, parents first, with its gradient where the family has one.

        Args:
            values: `(batch, *features)` for each conditioning variable. A value for an own variable conditions on it, which is
                possible where nothing above it has to be drawn.
            sample_shape: how many independent draws to make for each datum; applied once, whatever the number of factors.
            batch_size: the batch where no value has one; 1 if neither says.
            return_all: with the given values beside the drawn ones.
            validate: whether values and parameters are checked against their supports, dtypes and devices, as in `Loss.estimate`.

        Returns:
            `(*sample_shape, batch, *features)` for each drawn variable. The given mapping is not changed.

        Raises:
            MissingVariableError: if a conditioning variable has no value.
            BoundVariableError: if a value is given for a variable below one that is drawn, or for every variable.

        Examples:
            >>> from pixyz.distributions import Normal
            >>> prior = Normal(var=["z"], loc=0.0, scale=1.0, dim=64)
            >>> prior.sample(batch_size=3, sample_shape=[5])["z"].shape
            torch.Size([5, 3, 64])
        """
        given = as_dict(values)
        draw = partial(self._sample, given, sample_shape=sample_shape, batch_size=batch_size)
        drawn = checked(draw, validate, device_of(given, self), self.density)
        return {**given, **drawn} if return_all else drawn

    def _sample(self, given: Any, *, sample_shape: Sequence[int], batch_size: int | None, checks: Checks) -> dict[str, Tensor]:
        """What `sample` draws."""
        who = self.density
        scope = open_scope(given, needed=self.cond_var, optional=self.var, who=who, batch_size=batch_size, checks=checks)
        drawn: dict[str, Tensor] = {}
        # The first entry is the outermost dim, so the newest.
        samples = tuple([scope.shared.open_dim(n) for n in _sizes(sample_shape, who)[::-1]])[::-1]
        made: set[str] = set()
        for factor in self.ancestral:
            own = [v for v in factor.var if v in scope.bindings]
            if own:
                lacking = [v for v in factor.var if v not in own]
                if lacking:
                    raise BoundVariableError(
                        f"{self.prob_text}: a value is given for {own[0]}, but {lacking[0]} comes with it from {factor}. "
                        f"Give both, or leave {own[0]} out."
                    )
                above = [v for v in factor.cond_var if v in made]
                if above:
                    raise BoundVariableError(
                        f"{self.prob_text}: a value is given for {own[0]}, but {above[0]}, on which it depends, would be drawn. "
                        f"That needs a posterior over {above[0]}: draw {above[0]} from it first, or leave {own[0]} out."
                    )
                continue
            conditional = scope.conditional(factor)
            dims, sizes = scope.draw_dims(factor, conditional, samples)
            for name, term in zip(factor.var, conditional.draw(dims, sizes, pathwise=True)):
                scope.bind(name, term.tensor, term.dims)
                made.add(name)
                if name not in self.hidden_var:
                    drawn[name] = spread(term.tensor, term.dims, dims, sizes)
        if not made:
            raise BoundVariableError(
                f"{self.prob_text}: values are given for {', '.join(self.var)}, so nothing is left to draw. "
                f"Leave {self.var[0]} out of the values to draw it."
            )
        return drawn

    @torch.no_grad()
    @full_precision
    def initialize(self, values: Mapping[str, Any] | None = None, *, batch_size: int | None = None) -> None:
        """Starts what starts from data, such as activation normalisation in a flow; what has started already is left alone.

        It is one evaluation, in which whatever waits for data is started by those that arrive where it stands. `Model.train` and
        `Model.fit` do so with their first batch.

        Args:
            values: `(batch, *features)` for each variable, as for `log_likelihood`. What has none is drawn, so a flow then starts from
                noise.
            batch_size: the batch where no value has one.

        Raises:
            MissingVariableError: if a conditioning variable has no value.
        """
        if not self.needs_start:
            return
        who = f"{self.prob_text}.initialize"
        scope = open_scope(values, needed=self.cond_var, optional=self.var, who=who, batch_size=batch_size, starting=True)
        for factor in self.ancestral:
            if all([v in scope.bindings for v in factor.var]):
                if not factor.dist.is_deterministic:
                    scope.log_prob(factor)
                continue
            conditional = scope.conditional(factor)
            dims, sizes = scope.draw_dims(factor, conditional, ())
            for name, term in zip(factor.var, conditional.draw(dims, sizes, pathwise=True)):
                scope.bind(name, term.tensor, term.dims)

    @property
    def needs_start(self) -> bool:
        """Whether anything in it waits for data to start from; see `initialize`."""
        return parts_need_start(self)

    @full_precision
    def log_likelihood(
        self,
        values: Mapping[str, Any],
        *,
        sample_dims: Mapping[str, int] | None = None,
        proposal: "Distribution | None" = None,
        num_samples: int = 1000,
        validate: bool = True,
    ) -> Tensor:
        r"""log p(var|cond_var) in nats, `(batch,)`, summed over the features; exact, unless there is a proposal.

        What is marginalised out is summed or integrated out exactly where it is finite or linear-Gaussian. Elsewhere a proposal q
        estimates the integral by importance sampling; the estimate is a lower bound in expectation, tight as K grows:

        $$\log p(x) \approx \log\frac{1}{K}\sum_{k=1}^{K} \frac{p(x, z_k)}{q(z_k|x)}, \qquad z_k \sim q(z|x)$$

        Args:
            values: `(batch, *features)` for every variable; other keys are ignored.
            sample_dims: how many sample dims stand before the batch of a variable, `{"z": 1}`; the result has them too.
            proposal: q, which draws variables that are marginalised out, or that have no value.
            num_samples: K.
            validate: whether values and parameters are checked against their supports, dtypes and devices. Without that, it works inside
                of `torch.func.vmap`.

        Raises:
            MissingVariableError: if a variable has no value.
            IntractableError: if an integral has no closed form, and no proposal is given.

        Source:
            Burda et al. (2016), eq. 8, https://arxiv.org/abs/1509.00519
        """
        if proposal is not None:
            if sample_dims:
                raise KindError(f"log {self.prob_text}: sample_dims and a proposal, whose draws have a sample dim, exclude one another.")
            return self._importance(values, proposal, num_samples, validate)
        given = as_dict(values)
        return checked(partial(self._log_likelihood, given, sample_dims), validate, device_of(given, self), Log(self.density))

    def _log_likelihood(self, values: Any, sample_dims: Mapping[str, int] | None, *, checks: Checks) -> Tensor:
        """log p, exact."""
        scored, computed = self.scored_var()
        who = Log(self.density)
        needed = [*scored, *self.cond_var]
        scope = open_scope(values, needed=needed, optional=computed, who=who, sample_dims=sample_dims, checks=checks)
        tensor, dims = self.evaluate_log_prob(scope, who)
        target = dims if BATCH in dims else (*dims, BATCH)
        return spread(tensor, dims, target, scope.sizes(target))

    def _importance(self, values: Mapping[str, Any], proposal: "Distribution", num_samples: int, validate: bool) -> Tensor:
        """The estimate of log p by `num_samples` draws from the proposal."""
        need_distribution(proposal, f"log {self.prob_text}: proposal")
        if not is_whole(num_samples) or num_samples < 1:
            raise KindError(f"log {self.prob_text}: num_samples must be a whole number of at least 1; got {num_samples!r}.")
        values = as_dict(values)
        model = self.showing(proposal.var)
        for v in proposal.var:
            if v not in model.var:
                raise FormulaError(
                    f"log {self.prob_text}: the proposal {proposal.prob_text} draws {v}, which is no variable of it.{suggest(v, model.var)}"
                )
            if v in values:
                raise BoundVariableError(
                    f"log {self.prob_text}: {v} has a value, and {proposal.prob_text} draws it as well; leave one of them out."
                )
        need_one_measure((model.factors, proposal.factors), proposal.var, f"log {self.prob_text}: proposal")
        batch = next((values[v].shape[0] for v in (*model.var, *model.cond_var) if isinstance(values.get(v), Tensor)), None)
        drawn = {**values, **proposal.sample(values, sample_shape=[num_samples], batch_size=batch, return_all=False, validate=validate)}
        options: dict[str, Any] = {"sample_dims": dict.fromkeys(proposal.var, 1), "validate": validate}
        weights = model.log_likelihood(drawn, **options) - proposal.log_likelihood(drawn, **options)
        return weights.logsumexp(0) - math.log(num_samples)

    def showing(self, names: Iterable[str]) -> "Distribution":
        """The same distribution before these variables were marginalised out."""
        return self

    def evaluate_log_prob(self, scope: Scope, who: object) -> Term:
        """log p(var|cond_var) in a scope, `(*dims)`."""
        return log_density(scope, self.ancestral, who)

    def scored_var(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The variables that have a density, and those that are computed.

        Raises:
            IntractableError: if the integral over what is marginalised out has no closed form.
        """
        computed = tuple(v for f in self.ancestral if f.dist.is_deterministic for v in f.var if v not in self.hidden_var)
        return tuple(v for v in self.var if v not in computed), computed

    @property
    def prob_text(self) -> str:
        """`p(x|z)`."""
        return render(self.density)

    @property
    def density(self) -> Density:
        """The node p(x|z), without what it is a product of."""
        return Density(self.name, self.var, self.cond_var)

    @property
    @abstractmethod
    def formula(self) -> Formula:
        """The distribution as a formula: `p(x,z) = p(x|z)p(z)`."""

    def latex(self) -> str:
        r"""The formula in LaTeX: `p(x,z) = p(x|z)p_{\mathrm{prior}}(z)`."""
        return render(self.formula, LATEX)

    def unicode(self) -> str:
        """The formula in Unicode: `p(x,θ) = p(x|θ)p(θ)`."""
        return render(self.formula, UNICODE)

    def _repr_latex_(self) -> str:
        return f"$${self.latex()}$$"

    @abstractmethod
    def _architecture(self) -> tuple[str, str]:
        """What stands behind the formula, and the networks."""

    def __str__(self) -> str:
        kind, networks = self._architecture()
        formula = render(self.formula, TEXT) + kind
        return f"Distribution:\n  {formula}\nNetwork architecture:\n" + _indent(networks)


def need_distribution(given: object, who: str) -> None:
    """An error if `given` is no distribution."""
    if not isinstance(given, Distribution):
        what = f"the loss {given}" if hasattr(given, "estimate") else f"a {type(given).__name__}"
        raise KindError(f"{who} takes a distribution; got {what}.")


def _sizes(shape: Sequence[int], who: object) -> tuple[int, ...]:
    if not isinstance(shape, Sequence) or not all([isinstance(n, int) and n >= 0 for n in shape]):
        raise KindError(f"{who}: sample_shape must be a list of whole numbers, like [5]; got {shape!r}.")
    return tuple(shape)


def _indent(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())
