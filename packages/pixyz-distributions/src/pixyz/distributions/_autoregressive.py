"""Autoregressive distributions by masked networks."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixyz.core import (
    BATCH,
    Binding,
    Checks,
    Dims,
    Factor,
    FormulaError,
    KindError,
    Leaf,
    ParameterError,
    Scope,
    ShapeError,
    SupportError,
    Term,
    call_network,
    common_sizes,
    fold,
    is_whole,
    suggest,
    union,
)

from ._family import Family
from ._folded import fold_values
from ._half import HALF, check_counts, computing_dtype, narrowed
from ._masked import MaskedNetwork
from ._supports import Support, Vectors, non_negative, outside, positive, real

SMALLEST = 1e-4
"""What is added to positive parameters, lest they become zero."""


class Autoregressive(Leaf):
    r"""A distribution over vectors, number by number, each given those before it, by one masked network (MADE).

    $$p(x|z) = \prod_{i=1}^D p(x_i|x_1, \dots, x_{i-1}, z)$$

    The likelihood takes one pass of the network, a sample D of them. The order is that of the features. Real parameters of the family are
    outputs of the network, positive ones their softplus.

    Args:
        text: the distribution as papers write it, `"p(x|z)"`, in place of `var`, `cond_var` and `name`.
        family: of each p(x_i|...): a class with one number as event, like `Bernoulli` or `Normal`.
        dim: D; a value is `(batch, D)`.
        hidden: the sizes of the hidden layers.
        activation: makes what stands between the layers.
        cond_dim: the number of features of the conditioning variables, all together; needed where there are any.
        components: for mixtures, their number.
        categories: for `CategoricalIndex`, their number.
        var: the variable.
        cond_var: the variables it depends on, `(batch, *features)` each.
        name: the letter before the brackets.
        constants: parameters of the family that are the same for all data, like `levels=17`: a number or a tensor `(D)`.

    Raises:
        KindError: if `family` is no family of scalars, or a size is no positive whole number.
        ParameterError: for unknown constants, for those that are missing, or for sizes that the family does not have.
        SupportError: for a constant outside of its support.

    Examples:
        >>> from pixyz.distributions import Bernoulli, DiscretizedLogisticMixture
        >>> p = Autoregressive("p(x)", family=Bernoulli, dim=64, hidden=[128])
        >>> p.log_likelihood(p.sample(batch_size=3)).shape
        torch.Size([3])
        >>> grey = Autoregressive("p(x|z)", family=DiscretizedLogisticMixture, dim=64, cond_dim=8, components=5, levels=17)
        >>> grey.sample({"z": torch.zeros(3, 8)})["x"].shape
        torch.Size([3, 64])

    Source:
        Germain et al. (2015), https://arxiv.org/abs/1502.03509
    """

    distribution_name = "Autoregressive"

    def __init__(
        self,
        text: str | None = None,
        /,
        *,
        family: type[Family],
        dim: int,
        hidden: Iterable[int] = (256, 256),
        activation: Callable[[], nn.Module] = nn.ReLU,
        cond_dim: int | None = None,
        components: int | None = None,
        categories: int | None = None,
        var: Iterable[str] | None = None,
        cond_var: Iterable[str] | None = None,
        name: str | None = None,
        **constants: float | Tensor,
    ) -> None:
        computed = [k for k, v in constants.items() if isinstance(v, str) or (callable(v) and not isinstance(v, Tensor))]
        super().__init__(text, var=var, cond_var=cond_var, name=name, **{k: v for k, v in constants.items() if k not in computed})
        who = self.prob_text
        if computed:
            raise ParameterError(f"{who}: {computed[0]} is a constant, or comes from the masked network; leave it out for that.")
        if len(self.var) != 1:
            raise FormulaError(f"{who}: an Autoregressive has one variable; write a product for several.")
        if not isinstance(hidden, Iterable):
            raise KindError(f"{who}: hidden must be a list of sizes, like [256, 256]; got {hidden!r}.")
        if isinstance(activation, nn.Module):
            raise KindError(f"{who}: activation must make a module, like nn.ReLU; got the module {type(activation).__name__}() itself.")
        hidden = tuple(hidden)
        for word, n in {"dim": dim, "cond_dim": cond_dim, "components": components, "categories": categories}.items():
            if n is not None or word == "dim":
                _check_size(n, word, who)
        for n in hidden:
            _check_size(n, "each of hidden", who)
        if bool(self.cond_var) != (cond_dim is not None):
            of = ", ".join(self.cond_var)
            raise ParameterError(
                f"{who}: say how many features {of} {'has' if len(self.cond_var) == 1 else 'have together'}, cond_dim=..."
                if of
                else f"{who} depends on nothing, so cond_dim={cond_dim} has no place; write {self.name}({self.var[0]}|z) or leave it out."
            )
        self.family = family
        self.dim = dim
        self.cond_dim = cond_dim or 0
        self.free = _free_parameters(family, constants, who)
        sizes = _vector_sizes(family, self.free, components, categories, who)
        self.sizes = dict(zip(self.free, sizes))
        # Categories are numbers from 0; a network learns better from numbers up to 1.
        self.unit = 1.0 if categories is None else 1.0 / max(1, categories - 1)
        self._check_constants()
        self.masked = MaskedNetwork(dim, sum(sizes), hidden, activation, self.cond_dim)

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "Sequential":
        return Sequential(self, factor, inputs)

    def support_of(self, name: str) -> Support | None:
        return self.family.value_support if name in self.var else None

    def given_before(self, x: Tensor, context: Tensor | None = None, i: int | None = None) -> dict[str, Tensor]:
        """The parameters of each p(x_i|x_1, ..., x_{i-1}, context).

        Args:
            x: `(N, D)`.
            context: the conditioning variables, `(N, cond_dim)`.
            i: the one that is asked for, from 0; all, if none is said.

        Returns:
            For each parameter `(N, D)`, or `(N, D, K)` where it is a vector, with 1 for D if `i` is said; constants as they are.
        """
        weight = next(self.masked.parameters())
        parts = call_network(self.masked, (x * self.unit).to(weight.dtype), context, i).split(list(self.sizes.values()), -1)
        params: dict[str, Tensor] = {}
        for name, part in zip(self.free, parts):
            support = self.family.supports[name]
            part = part if support.event_rank else part.squeeze(-1)
            params[name] = part if _element(support) == real else SMALLEST - F.logsigmoid(-part)
        for name in self.constant_names:
            constant = getattr(self, name)
            common = constant.ndim == self.family.supports[name].event_rank
            params[name] = constant if i is None or common else constant[i : i + 1]
        return {name: t.to(computing_dtype(weight.dtype)) for name, t in params.items()}

    def draw_before(self, x: Tensor, context: Tensor | None, i: int) -> Tensor:
        """A draw of x_i given those before it, `(N, 1)`."""
        family = self.family
        drawn = (family.rsample if family.has_rsample else family.draw)(self.given_before(x, context, i), (x.shape[0], 1))
        return drawn if drawn.dtype == x.dtype else narrowed(drawn, family.value_support, x.dtype)

    def extra_repr(self) -> str:
        """The family and its constants, for `print`."""
        return ", ".join([f"family={self.family.distribution_name}", f"dim={self.dim}", *filter(None, [super().extra_repr()])])

    def _check_constants(self) -> None:
        for name in self.constant_names:
            constant, support = getattr(self, name), self.family.supports[name]
            if constant.ndim not in (support.event_rank, support.event_rank + 1) or (
                constant.ndim > support.event_rank and constant.shape[0] != self.dim
            ):
                event = ", K" if support.event_rank else ""
                raise ShapeError(
                    f"{self.prob_text}: {name} has shape {tuple(constant.shape)}; a constant is one for all features, "
                    f"or ({self.dim}{event})."
                )
            if not support.holds(constant.detach()):
                raise SupportError(f"{self.prob_text}: {name} must be {support.words}; got {constant.tolist()}.")


class Sequential:
    """An `Autoregressive` given its inputs, in one evaluation."""

    def __init__(self, dist: Autoregressive, factor: Factor, inputs: tuple[Binding, ...]) -> None:
        self.dist = dist
        self.factor = factor
        self.inputs = inputs
        self.dims: Dims = union((), *[b.dims for b in inputs])
        self.batch: int | None = next((b.tensor.shape[len(b.dims) - 1] for b in inputs if BATCH in b.dims), None)
        common_sizes(self.dims, inputs, factor.cond_var, factor)
        shapes = [f"{name} {b.features}" for name, b in zip(factor.cond_var, inputs)]
        if sum([math.prod(b.features) for b in inputs]) != dist.cond_dim:
            raise ShapeError(f"{factor}: its conditioning variables have features {', '.join(shapes)}, but cond_dim is {dist.cond_dim}.")
        for name, b in zip(factor.cond_var, inputs):
            self._check_kind(name, b.tensor)

    def log_prob(self, values: tuple[Binding, ...], factor: Factor, checks: Checks) -> Term:
        """log p(x|z) in nats, by one pass of the network."""
        dist, name, x = self.dist, factor.var[0], values[0]
        support, like = dist.family.value_support, next(dist.masked.parameters())
        if not x.tensor.is_floating_point() and support.whole and not support.is_index:
            check_counts(x.tensor, like.dtype, factor, name, checks)
            x = x._replace(tensor=x.tensor.to(like.dtype))
        folded = fold_values((x,), self.inputs, factor)
        if x.features != (dist.dim,):
            raise ShapeError(f"{factor}: {name} has features {x.features}, but dim is {dist.dim}; a value is (batch, {dist.dim}).")
        if x.tensor.is_floating_point() or not support.is_index:
            self._check_kind(name, x.tensor)
        if checks and not checks.passed(dist.family.value_support.holds(x.tensor.detach(), checks), factor):
            kind = f"{dist.distribution_name} of {dist.family.distribution_name}"
            raise outside(x.tensor, dist.family.value_support, f"{factor} ({kind}): {name}")
        flat, *inputs = folded.tensors
        params = dist.given_before(flat, _context(inputs))
        if flat.dtype in HALF:
            flat = dist.family.restored(params, flat.to(computing_dtype(flat.dtype)), torch.finfo(flat.dtype).eps)
        return folded.unfold(dist.family.log_density(params, flat).sum(-1).to(like.dtype))

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """One draw, `(*dims, D)`, by D passes."""
        dist, n = self.dist, math.prod(sizes)
        context = _context([fold(b.tensor, b.dims, dims, sizes) for b in self.inputs])
        like = next(dist.masked.parameters())
        is_integer = like.dtype in HALF and dist.family.value_support.is_index
        x = torch.zeros(n, dist.dim, dtype=torch.int64 if is_integer else like.dtype, device=like.device)
        with torch.no_grad():
            for i in range(dist.dim):
                x = torch.cat([x[:, :i], dist.draw_before(x, context, i), x[:, i + 1 :]], -1)
        return [Term(x.reshape(*sizes, dist.dim), dims)]

    def statistic(self, what: str) -> Term:
        """None has a closed form."""
        raise NotImplementedError

    def _check_kind(self, name: str, t: Tensor) -> None:
        like = next(self.dist.masked.parameters())
        if t.dtype != like.dtype or t.device != like.device:
            raise KindError(
                f"{self.factor}: {name} is {t.dtype} on {t.device}, the network's parameters are {like.dtype} on {like.device}. "
                "Convert one with .to()."
            )


def _context(inputs: list[Tensor]) -> Tensor | None:
    return torch.cat([t.flatten(1) if t.ndim > 1 else t.unsqueeze(-1) for t in inputs], -1) if inputs else None


def _check_size(n: object, word: str, who: str) -> None:
    if not is_whole(n) or n < 1:
        raise KindError(f"{who}: {word} must be a positive whole number; got {n!r}.")


def _element(support: Support) -> Support:
    """Where one number of a parameter lies."""
    return support.element if isinstance(support, Vectors) and support.event_rank == 1 and support.total is None else support


def _free_parameters(family: object, constants: Mapping[str, Any], who: str) -> tuple[str, ...]:
    """The parameters that the network gives: those of a parametrisation whose others are constants, with logits rather than probs."""
    if not (isinstance(family, type) and issubclass(family, Family) and hasattr(family, "parametrisations")):
        came = repr(family) if isinstance(family, (type, str)) else f"a {type(family).__name__}"
        raise KindError(f"{who}: family must be a class of distributions, like Bernoulli; got {came:.80}.")
    kind = family.distribution_name
    if family.value_support.event_rank:
        raise KindError(f"{who}: the values of a {kind} are vectors; an Autoregressive goes number by number. Use a family of numbers.")
    for k in constants:
        if k not in family.supports:
            takes = " or ".join(" and ".join(p) for p in family.parametrisations)
            raise ParameterError(f"{who}: a {kind} has no parameter {k!r}; it takes {takes}.{suggest(k, family.supports)}")
    if family.relations:
        raise KindError(
            f"{who}: it must be that {family.relations[0][0]}, which the outputs of a masked network do not obey. Use another family."
        )
    fitting = [tuple(n for n in p if n not in constants) for p in family.parametrisations if set(constants).issubset(p)]
    usable = [p for p in fitting if p and all(_element(family.supports[n]) in (real, positive, non_negative) for n in p)]
    if usable:
        return max(usable, key=lambda p: "logits" in p)
    if not any(fitting):
        raise ParameterError(f"{who}: with {', '.join(constants)} given, nothing of a {kind} is left to the network; give fewer constants.")
    n = next(n for n in fitting[0] if _element(family.supports[n]) not in (real, positive, non_negative))
    raise ParameterError(
        f"{who}: the masked network gives numbers and positive numbers, but the {n} of a {kind} must be {family.supports[n].words}; "
        f"give a constant, {n}=..., or use another family."
    )


def _vector_sizes(family: type[Family], names: tuple[str, ...], components: int | None, categories: int | None, who: str) -> list[int]:
    """How many outputs each parameter takes."""
    vectors = [n for n in names if family.supports[n].event_rank]
    kind = family.distribution_name
    # A vector beside which there is nothing is one of probabilities.
    word = None if not vectors else "categories" if len(family.parametrisations[0]) == 1 else "components"
    for given, n in {"components": components, "categories": categories}.items():
        if n is not None and given != word:
            raise ParameterError(f"{who}: a {kind} has no {given}; {f'say {word}={n}' if word else 'leave it out'}.")
        if n is None and given == word:
            raise ParameterError(f"{who}: say how many {word} a {kind} has, {word}=...")
    return [(components or categories or 1) if n in vectors else 1 for n in names]
