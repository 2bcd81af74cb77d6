"""Distributions of what a bijection makes of another distribution's draws."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from pixyz.core import (
    BATCH,
    Binding,
    Checks,
    Dims,
    Distribution,
    Factor,
    FormulaError,
    KindError,
    KnownSupport,
    Leaf,
    Scope,
    ScoredConditional,
    ShapeError,
    Term,
    broadcast,
    common_sizes,
    fold,
    known_supports,
    unfold,
    union,
)

from ._bijection import Bijection


class TransformedDistribution(Leaf):
    r"""The distribution of x = f(z), z from the base: f maps noise to data.

    $$\log p(x) = \log p_0\left(f^{-1}(x)\right) + \log\left|\det\frac{\partial f^{-1}}{\partial x}\right|$$

    It is an ordinary factor, that multiplies, conditions, prints and trains. A draw costs a pass of f, the density of given data one of its
    inverse; what was drawn in the same evaluation is scored by what the draw has computed. So an inverse autoregressive flow, which is
    a `MaskedAutoregressive` here, serves as q at the price of a pass.

    Args:
        base: the distribution of the noise, one conditional of one variable; it may be a flow itself.
        flow: f.
        text: the distribution as papers write it, `"p(x|y)"`, in place of `var`, `cond_var` and `name`.
        var: the variable.
        cond_var: the variables that it depends on; those of the base, if not given. Where the flow takes a context, it is all of them, one
            beside the other, `(batch, context)`.
        name: the letter before the brackets.

    Raises:
        KindError: for a base that is no distribution, or a flow that is no bijection.
        FormulaError: for a base that is a product or marginal, computed, or of several variables; or for conditioning variables that
            nothing depends on.
        IntractableError: at an evaluation, for the direction that f does not have.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> from pixyz.flows import Coupling, Reverse
        >>> noise = Normal(var=["z"], loc=0.0, scale=1.0, features_shape=[2])
        >>> p = TransformedDistribution(noise, Coupling(2) >> Reverse() >> Coupling(2), "p(x)")
        >>> p.log_likelihood(p.sample(batch_size=3)).shape
        torch.Size([3])
        >>> print(p.log_prob().mean())
        mean(log p(x))

    Source:
        Rezende and Mohamed (2015), eq. 5, https://arxiv.org/abs/1505.05770; Kingma et al. (2016), https://arxiv.org/abs/1606.04934
    """

    distribution_name = "TransformedDistribution"

    def __init__(
        self,
        base: Distribution,
        flow: Bijection,
        text: str | None = None,
        *,
        var: Iterable[str] | None = None,
        cond_var: Iterable[str] | None = None,
        name: str | None = None,
    ) -> None:
        who = type(self).__name__
        if not isinstance(base, Distribution):
            raise KindError(f"{who} takes the distribution of the noise; got a {type(base).__name__}.")
        if not isinstance(flow, Bijection):
            raise KindError(f"{who} takes a bijection, like Coupling(2) >> Reverse(2); got a {type(flow).__name__}.")
        if len(base.factors) != 1 or base.hidden_var or len(base.var) != 1 or base.factors[0].dist.is_deterministic:
            raise FormulaError(f"{who}: the noise is one conditional of one variable with a density; {base.prob_text} is not.")
        if text is None and cond_var is None:
            cond_var = base.cond_var
        super().__init__(text, var=var, cond_var=cond_var, name=name)
        self._check_variables(base, flow)
        (noise,) = base.factors
        for _, support in known_supports([noise], noise.var[0]):
            if support.measure == "a mass":
                raise FormulaError(
                    f"{self.prob_text}: its noise {base.prob_text} is a {noise.dist.distribution_name}, which has masses, "
                    f"{noise.var[0]} must be {support.words}; a flow changes densities by its log-determinant. Take a continuous noise."
                )
        # In tuples, lest they be registered twice: the module tree has `base` and `flow`.
        self._noise = (noise,)
        self._generator = (self._generating(flow),)
        self.add_module("base", noise.dist)
        self.add_module("flow", flow)
        self.has_rsample = noise.dist.has_rsample

    def _check_variables(self, base: Distribution, flow: Bijection) -> None:
        """Raises an error unless there is one variable, and everything behind the bar is used."""
        if len(self.var) != 1:
            raise FormulaError(f"{self.prob_text}: a flow has one variable; write a product for several.")
        lacking = [v for v in base.cond_var if v not in self.cond_var]
        if lacking:
            raise FormulaError(f"{self.prob_text}: its noise {base.prob_text} depends on {lacking[0]}; write {lacking[0]} behind the bar.")
        if flow.context and not self.cond_var:
            raise FormulaError(
                f"{self.prob_text}: {flow.words} takes a context of {flow.context} features; write the variables that it is behind the bar."
            )
        unused = [] if flow.context else [v for v in self.cond_var if v not in base.cond_var]
        if unused:
            raise FormulaError(
                f"{self.prob_text}: nothing depends on {unused[0]}: {flow.words} takes no context. "
                f"Make it with context=, the number of features of {', '.join(self.cond_var)}."
            )

    @staticmethod
    def _generating(flow: Bijection) -> Bijection:
        """The map from noise to data."""
        return flow

    def support_of(self, name: str) -> KnownSupport | None:
        if name in self.var and self.generator.codomain is not None:
            return self.generator.codomain
        (noise,) = self._noise
        return next((support for _, support in known_supports([noise], noise.var[0] if name in self.var else name)), None)

    @property
    def generator(self) -> Bijection:
        """The map from noise to data; its inverse, from data to noise."""
        return self._generator[0]

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "FlowGiven":
        names = dict(zip(self.cond_var, factor.cond_var))
        (noise,) = self._noise
        known_as = Factor(noise.dist, noise.var, tuple(names[v] for v in noise.cond_var))
        return FlowGiven(self.generator, factor, known_as, inputs if self.generator.context else (), scope)


class InverseTransformedDistribution(TransformedDistribution):
    r"""The distribution of x with f(x) = z, z from the base: f maps data to noise. Otherwise it is as `TransformedDistribution`.

    $$\log p(x) = \log p_0\left(f(x)\right) + \log\left|\det\frac{\partial f}{\partial x}\right|$$

    The density of given data costs a pass of f, a draw one of its inverse; so a masked autoregressive flow is a `MaskedAutoregressive`
    here.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> from pixyz.flows import Coupling, SplineMap
        >>> noise = Normal(var=["z"], loc=0.0, scale=1.0, features_shape=[2])
        >>> p = InverseTransformedDistribution(noise, Coupling(2, map=SplineMap(), context=3), "p(x|y)")
        >>> p.sample({"y": torch.zeros(4, 3)})["x"].shape
        torch.Size([4, 2])

    Source:
        Papamakarios et al. (2021), eq. 6, https://arxiv.org/abs/1912.02762
    """

    distribution_name = "InverseTransformedDistribution"

    @staticmethod
    def _generating(flow: Bijection) -> Bijection:
        return flow.inverse


class FlowGiven:
    """A flow's distribution given its inputs, in one evaluation; it knows the noise of what it has drawn.

    Args:
        generator: the map from noise to data.
        factor: the flow, in its place in the formula.
        noise: the base, under the names of the formula.
        context: the variables that the flow depends on.
        scope: where it was asked for.
    """

    def __init__(self, generator: Bijection, factor: Factor, noise: Factor, context: tuple[Binding, ...], scope: Scope) -> None:
        self.generator = generator
        self.factor = factor
        self.noise = noise
        self.base: ScoredConditional = scope.conditional(noise)
        self.context = context
        self.shared = scope.shared
        self.context_dims: Dims = union(*[b.dims for b in context]) if context else ()
        self.dims: Dims = union(self.context_dims, self.base.dims)
        batches = [self.base.batch, *[b.tensor.shape[len(b.dims) - 1] for b in context if BATCH in b.dims]]
        self.batch: int | None = next((n for n in batches if n is not None), None)
        self._drawn: list[tuple[Tensor, Binding, Term]] = []

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """One draw, `(*dims, *features)`."""
        generator, factor = self.generator, self.factor
        generator.need_push(factor)
        (z,) = self.base.draw(dims, sizes, pathwise=pathwise)
        noise = Binding(z.tensor, z.dims, self.shared.number())
        folded, context, unfolded = self._folded(noise, f"the noise of {factor.var[0]}")
        if self.shared.checks:
            generator.check(folded, context, who=factor, name=f"the noise of {factor.var[0]}", checks=self.shared.checks)
        if self.shared.starting:
            generator.start(folded, context)
        x, log_det = unfolded(*generator.push(folded, context))
        if not pathwise:
            return [Term(x.tensor.detach(), x.dims)]
        self._drawn.append((x.tensor, noise, log_det))
        return [x]

    def log_prob(self, values: tuple[Binding, ...], factor: Factor, checks: Checks) -> Term:
        """log p(x), `(*dims)`, in nats."""
        (value,) = values
        z, log_det = self._noise_of(value, checks)
        a, b, dims = broadcast(self.base.log_prob((z,), self.noise, checks), log_det, factor)
        return Term(a + b, dims)

    def _noise_of(self, value: Binding, checks: Checks) -> tuple[Binding, Term]:
        """The noise that became this value, and the log-determinant of the way back."""
        for x, z, log_det in self._drawn:
            if x is value.tensor:
                return z, Term(-log_det.tensor, log_det.dims)
        generator, factor = self.generator, self.factor
        generator.need_pull(factor)
        folded, context, unfolded = self._folded(value, factor.var[0])
        if checks:
            generator.check_back(folded, context, who=factor, name=factor.var[0], checks=checks)
        if self.shared.starting:
            generator.start_back(folded, context)
        z, log_det = unfolded(*generator.pull(folded, context))
        return Binding(z.tensor, z.dims, self.shared.number()), log_det

    def statistic(self, what: str) -> Term:
        """A flow has no moments in closed form."""
        raise NotImplementedError

    def _folded(self, value: Binding, name: str) -> tuple[Tensor, Tensor | None, Callable[[Tensor, Tensor], tuple[Term, Term]]]:
        """A value and the context as one batch each, and what takes a result and its log-determinant apart again."""
        dims = union(value.dims, self.context_dims)
        if not dims:
            raise ShapeError(f"{self.factor}: {name} has shape {tuple(value.tensor.shape)}; a value is (batch, *features).")
        sizes = common_sizes(dims, (value, *self.context), (name, *self.factor.cond_var), self.factor)
        given = [fold(b.tensor, b.dims, dims, sizes) for b in self.context]
        parts = [t.flatten(1) if t.ndim > 1 else t.unsqueeze(1) for t in given]
        context = None if not parts else parts[0] if len(parts) == 1 else torch.cat(parts, 1)

        def unfolded(t: Tensor, log_det: Tensor) -> tuple[Term, Term]:
            every = Term(unfold(log_det, dims, sizes), dims) if log_det.ndim else Term(log_det, ())
            return Term(unfold(t, dims, sizes), dims), every

        return fold(value.tensor, value.dims, dims, sizes), context, unfolded
