"""Mixtures: several conditionals, one of which a hidden variable chooses."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pixyz.core import Distribution, Joint, KindError, ShapeError, need_one_measure

from ._categorical import Categorical
from ._components import Components
from ._experts import ProductOfNormal, need_normal
from ._parts import declared_features, depending_only_on, inputs_of, single_conditionals


def MixtureModel(distributions: Iterable[Distribution], prior: Distribution, *, name: str | None = None) -> Distribution:
    r"""A mixture: the product of its components and of a prior over which one it is, with that variable summed out.

    $$p(x) = \sum_{j=1}^K p(k_j = 1)\, p_j(x)$$

    It is a joint like any other: the mixture is `Components(distributions, "k") * prior` without k, and what works for joints works for it.

    Args:
        distributions: the components, single conditionals of the same variable; they may depend on others.
        prior: a `Categorical` with K categories, p(k): constant, learned (`logits=nn.Parameter(torch.zeros(K))`), or p(k|y).
        name: the letter of the components, and of the mixture if the prior has the same; by default that of the components.

    Raises:
        KindError: for a prior that is no `Categorical`.
        ShapeError: for a prior with another number of categories.
        FormulaError: for components of which some have masses and others densities.
        KindError, FormulaError: as `Components`.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> weights = Categorical("p(k)", probs=torch.tensor([0.3, 0.7]))
        >>> p = MixtureModel([Normal(loc=-2.0, scale=1.0), Normal(loc=3.0, scale=0.5)], weights)
        >>> p.prob_text, p.sample(batch_size=4)["x"].shape
        ('p(x)', torch.Size([4]))
    """
    (factor,) = single_conditionals([prior], "MixtureModel", "prior")
    if getattr(factor.dist, "_declared", None) is not Categorical:
        raise KindError(f"MixtureModel: the prior {factor} is a {factor.dist.distribution_name}; it must be a Categorical.")
    components = Components(distributions, factor.var[0], name=name)
    need_one_measure([components.parts], components.var, f"MixtureModel: the components of {components.prob_text}")
    for _, shape in declared_features([factor]):
        if shape != (len(components.parts),):
            raise ShapeError(f"MixtureModel: the prior {factor} has features {shape}, but there are {len(components.parts)} components.")
    return (components * prior).marginalize_var(factor.var)


class MixtureOfNormal(Joint):
    r"""A mixture of normal experts over one variable, with constant weights.

    $$q(z|x,y) = \pi_1\, q(z|x) + \pi_2\, q(z|y)$$

    Each datum's density is the mixture of all experts' densities, and an expectation sums over the experts. Learned weights, or weights
    that depend on the data, are a `MixtureModel`'s.

    Args:
        experts: normal distributions of one variable, single conditionals, renamed or not.
        weights: the probabilities π, one for each expert; all the same, if not given.
        name: the letter before the brackets.
        index: the name of the hidden variable that chooses.

    Raises:
        KindError: for experts that are not normal, or weights that are trained.
        ShapeError: for another number of weights.
        SupportError: for weights that are no probabilities.
        FormulaError: as `Components`.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> q = MixtureOfNormal([Normal("q(z|x)", loc="x", scale=1.0), Normal("q(z|y)", loc="y", scale=0.5)])
        >>> q.prob_text, q.given_only("x").prob_text
        ('q(z|x,y)', 'q(z|x)')

    Source:
        Shi et al. (2019), https://arxiv.org/abs/1911.03393
    """

    def __init__(
        self, experts: Iterable[Distribution], *, weights: Tensor | Sequence[float] | None = None, name: str = "q", index: str = "k"
    ) -> None:
        parts = single_conditionals(experts, type(self).__name__, "expert")
        need_normal(parts, type(self).__name__)
        probs = _weights(weights, [p.dist for p in parts])
        mixture = MixtureModel([Joint([p]) for p in parts], Categorical(var=[index], probs=probs, name=name), name=name)
        super().__init__(mixture.factors, mixture.hidden_var)
        self.experts = parts
        self.index = index

    def given_only(self, *names: str, name: str | None = None) -> "MixtureOfNormal":
        """The mixture of those experts that depend on nothing but these variables, and of the constant ones, by their weights.

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
        probs = self.factors[1].dist.probs[list(kept)]
        # An index of its own: its prior is another distribution, and so needs another text.
        index = "_".join([self.index, *[v.replace("'", "") for v in names]])
        experts = [Joint([self.experts[i]]) for i in kept]
        return MixtureOfNormal(experts, weights=probs / probs.sum(), name=name, index=index)


def MixtureOfProducts(
    experts: Iterable[Distribution],
    *,
    subsets: Iterable[Iterable[str]] | None = None,
    weights: Tensor | Sequence[float] | None = None,
    prior: Distribution | str | None = "standard",
    name: str = "q",
    index: str = "k",
) -> MixtureOfNormal:
    r"""A mixture of products of experts (MoPoE): a `MixtureOfNormal` whose experts are `ProductOfNormal.given_only` of the subsets.

    $$q(z|x,y) = \pi_1\, q_x(z|x) + \pi_2\, q_y(z|y) + \pi_3\, q_{xy}(z|x,y), \qquad
    q_{xy}(z|x,y) \propto q(z|x)\,q(z|y)\,\mathcal{N}(z;0,1)$$

    Args:
        experts: normal distributions of one variable.
        subsets: lists of conditioning variables, `[["x"], ["x", "y"]]`; all that are not empty, if not given.
        weights: one for each subset, in that order, smaller subsets first by default; all the same, if not given.
        prior: of each product, as in `ProductOfNormal`.
        name: the letter before the brackets.
        index: the name of the hidden variable that chooses.

    Raises:
        KindError, FormulaError, ShapeError: as `ProductOfNormal`, its `given_only` and `MixtureOfNormal`.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> q = MixtureOfProducts([Normal("q(z|x)", loc="x", scale=1.0), Normal("q(z|y)", loc="y", scale=0.5)])
        >>> [expert.dist.unicode() for expert in q.experts]
        ['q(z|x) ∝ q(z|x)𝒩(z;0,1)', 'q(z|y) ∝ q(z|y)𝒩(z;0,1)', 'q(z|x,y) ∝ q(z|x)q(z|y)𝒩(z;0,1)']

    Source:
        Sutter et al. (2021), https://arxiv.org/abs/2105.02470
    """
    product = ProductOfNormal(experts, prior=prior, name=name)
    if subsets is None:
        given = inputs_of(product.experts)
        every = [s for n in range(1, len(given) + 1) for s in itertools.combinations(given, n)]
        # Where one expert depends on several variables, a part of them is no subset of experts.
        chosen = [s for s in every if set(inputs_of(e for e in product.experts if set(e.cond_var).issubset(s))) == set(s)]
    else:
        chosen = [_names(s) for s in subsets]
    return MixtureOfNormal([product.given_only(*s) for s in chosen], weights=weights, name=name, index=index)


def _names(subset: Any) -> tuple[str, ...]:
    if isinstance(subset, str) or not isinstance(subset, Iterable):
        raise KindError(f"MixtureOfProducts: each of subsets is a list of variables; got {subset!r}. Write [{subset!r}].")
    return tuple(subset)


def _weights(weights: Any, experts: Sequence[nn.Module]) -> Tensor:
    """The weights as probabilities, of the experts' kind."""
    count = len(experts)
    tensors = itertools.chain.from_iterable((*e.parameters(), *e.buffers()) for e in experts)
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(()))
    if weights is None:
        return torch.full((count,), 1 / count, dtype=like.dtype, device=like.device)
    if isinstance(weights, nn.Parameter):
        raise KindError(
            "MixtureOfNormal: the weights are constants; to train them, write "
            'MixtureModel(experts, Categorical(var=["k"], logits=nn.Parameter(...))).'
        )
    probs = weights if isinstance(weights, Tensor) else torch.tensor(weights, dtype=like.dtype, device=like.device)
    if probs.shape != (count,):
        raise ShapeError(f"MixtureOfNormal: there are {count} experts, so weights is ({count},); got {tuple(probs.shape)}.")
    return probs
