"""Products of normal experts."""

import functools
from collections.abc import Iterable

import torch

from pixyz.core import (
    Binding,
    Distribution,
    Factor,
    FormulaError,
    Joint,
    KindError,
    ParameterError,
    Scope,
    Term,
    align,
    register_leaves,
    union,
)
from pixyz.core import formula as f

from ._given import Given
from ._normal import Normal
from ._parts import (
    ask,
    check_kinds,
    common_features,
    declared_features,
    depending_only_on,
    inputs_of,
    known_features,
    renamed,
    single_conditionals,
)


class ProductOfNormal(Normal):
    r"""The normalised product of normal experts over one variable, itself a normal distribution.

    $$q(z|x,y) \propto q(z|x)\,q(z|y)\,\mathcal{N}(z;0,1), \qquad
    \frac{1}{\sigma^2} = \sum_i \frac{1}{\sigma_i^2}, \quad \mu = \sigma^2 \sum_i \frac{\mu_i}{\sigma_i^2}$$

    It depends on all that its experts depend on. An expert that depends on nothing counts like any other.

    Args:
        experts: normal distributions of one variable, single conditionals, renamed or not. Two that are written alike need different
            names.
        prior: `"standard"` for one more expert, N(0,1); None for none; or a normal distribution in its place.
        name: the letter before the brackets.

    Raises:
        KindError: for experts that are not normal.
        FormulaError: for experts that are products or marginals, of different variables, or written alike.
        ShapeError: for experts of different features; at an evaluation, where they are known only there.

    Examples:
        >>> from torch import nn
        >>> image = Normal("q(z|x)", loc=nn.Linear(64, 8), scale=1.0)
        >>> label = Normal("q(z|y)", loc=nn.Linear(10, 8), scale=0.5)
        >>> q = ProductOfNormal([image, label])
        >>> print(q.unicode())
        q(z|x,y) ∝ q(z|x)q(z|y)𝒩(z;0,1)
        >>> print(q.given_only("x").unicode())
        q(z|x) ∝ q(z|x)𝒩(z;0,1)
        >>> q.variance({"x": torch.zeros(1, 64), "y": torch.zeros(1, 10)})[0, 0]
        tensor(0.1667)

    Source:
        Hinton (2002), https://doi.org/10.1162/089976602760128018; Wu and Goodman (2018), https://arxiv.org/abs/1802.05335
    """

    distribution_name = "ProductOfNormal"

    def __init__(self, experts: Iterable[Distribution], *, prior: Distribution | str | None = "standard", name: str = "q") -> None:
        who = type(self).__name__
        listed = single_conditionals(experts, who, "expert")
        if isinstance(prior, str) and prior != "standard":
            raise ParameterError(f'{who}: prior must be "standard", None or a normal distribution; got {prior!r}.')
        standard = isinstance(prior, str)
        own = () if prior is None or isinstance(prior, str) else single_conditionals([prior], who, "prior")
        every = (*listed, *own)
        super().__init__(var=every[0].var, cond_var=inputs_of(every), name=name)
        need_normal(every, self.prob_text)
        if own and own[0].var != self.var:
            raise FormulaError(f"{self.prob_text}: the prior {own[0]} is over another variable. Rename it with replace_var.")
        common_features(declared_features(every), self.prob_text, "expert")
        self.experts = listed
        self.prior: Factor | None = own[0] if own else None
        self.has_standard_prior = standard
        register_leaves(self, [e.dist for e in every])

    def given_only(self, *names: str, name: str | None = None) -> "ProductOfNormal":
        """The product of those experts that depend on nothing but these variables, with the constant ones and the prior.

        The experts are the same modules. Keep the answer where it stands in a formula twice: asked again, it is another distribution.

        Args:
            names: conditioning variables.
            name: the letter before the brackets; this one's, if not given.

        Raises:
            FormulaError: for a name that is no conditioning variable, or that leaves no expert.
        """
        kept = depending_only_on(names, self.experts, self.prob_text)
        name = self.name if name is None else name
        if len(kept) == len(self.experts) and name == self.name:
            return self
        prior = "standard" if self.has_standard_prior else None if self.prior is None else Joint([self.prior])
        return ProductOfNormal([Joint([self.experts[i]]) for i in kept], prior=prior, name=name)

    def formula_as(self, factor: Factor) -> f.Formula:
        parts: list[f.Formula] = [p.density for p in renamed(self._all, self, factor)]
        if self.has_standard_prior:
            parts.append(f.StandardNormal(factor.var))
        return f.Proportional(factor.density, f.Juxtaposed(tuple(parts)))

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> Given:
        givens: list[Given] = ask(scope, self._all, self, factor, inputs)
        check_kinds(givens, factor)
        features = common_features(known_features(givens), factor, "expert")
        return Given(self, factor, _product(givens, self.has_standard_prior), scope.shared.checks, features, is_checked=True)

    @property
    def _all(self) -> tuple[Factor, ...]:
        return self.experts if self.prior is None else (*self.experts, self.prior)

    @property
    def _returns_parameters(self) -> bool:
        return True  # only the experts know them


def need_normal(experts: Iterable[Factor], who: str) -> None:
    """Raises an error unless all of these are normal distributions."""
    for expert in experts:
        if getattr(expert.dist, "_declared", None) is not Normal:
            raise KindError(f"{who}: {expert} is a {expert.dist.distribution_name}; an expert must be a Normal, or a ProductOfNormal.")


def _product(givens: list[Given], standard: bool) -> dict[str, Term]:
    """The parameters of the normalised product."""
    dtype = next((g.like.dtype for g in givens if g.like.ndim), givens[0].like.dtype)
    of_scale = union(*[g.terms["scale"].dims for g in givens])
    dims = union(of_scale, *[g.terms["loc"].dims for g in givens])
    scales = [align(*g.term_in("scale", dtype), of_scale) for g in givens]
    locs = [align(*g.term_in("loc", dtype), dims) for g in givens]
    # Precisions in units of the greatest neither overflow nor vanish; the unit cancels, and so does its gradient.
    unit = functools.reduce(torch.minimum, scales).detach()
    if standard:
        unit = unit.clamp_max(1.0)
    precisions = [(unit / s).square() for s in scales]
    total = sum(precisions[1:], precisions[0])
    if standard:
        total = total + unit.square()
    weighted = [align(w / total, of_scale, dims) * m for w, m in zip(precisions, locs)]
    return {"loc": Term(sum(weighted[1:], weighted[0]), dims), "scale": Term(unit * total.rsqrt(), of_scale)}
