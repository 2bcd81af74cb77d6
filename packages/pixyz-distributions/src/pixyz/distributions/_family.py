"""What all families share: where parameters come from, how they are checked, aligned and handed to the family's functions."""

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pixyz.core import (
    ON_HOST,
    Binding,
    Factor,
    FormulaError,
    IntractableError,
    KindError,
    Leaf,
    ParameterError,
    Scope,
    Single,
    is_whole,
    suggest,
    uniform_noise,
)

from ._given import Given, same_family_divergence
from ._rims import Powers, with_rims
from ._rounding import between_zero_and_one, positive_number
from ._supports import Support, has_numbers

_LEGENDRE = [(0.0, 128 / 225)] + [
    (side * math.sqrt(5 + sign * 2 * math.sqrt(10 / 7)) / 3, (322 - sign * 13 * math.sqrt(70)) / 900)
    for sign in (-1, 1)
    for side in (-1, 1)
]
"""Points and weights of the Gauss–Legendre rule of five points."""

Params = Mapping[str, Tensor]
Shape = tuple[int, ...]
Relation = tuple[str, Callable[[Params], Tensor]]


class Family(Leaf):
    r"""A distribution given by parameters, which may come from a network or be given.

    A family is a declaration: the sets of parameters that define it, where they and its values lie, and functions of parameters. The only
    one that must be written is `log_density`; with `rsample`, `draw` or `icdf` it can be sampled; what else is written, works.

    Args:
        text: the distribution as papers write it, `"q(z|x)"`, in place of `var`, `cond_var` and `name`.
        network: called with the conditioning variables in the order written; it returns a dict of parameters.
        var: the variable, `["z"]`.
        cond_var: the variables it depends on; `forward` takes them by these names.
        name: the letter before the brackets.
        dim: the number of features, short for `features_shape=[dim]`.
        features_shape: the shape of one datum; needed only where constants do not say it.
        params: by name, each of them a constant (a number, a tensor `(*features)`, or an `nn.Parameter`, which is trained), or a string,
            the conditioning variable that is the parameter, or a network, called with the conditioning variables.

    Raises:
        ParameterError: for unknown, missing or doubled parameters.
        SupportError: for a constant outside of its support.
        FormulaError: if `forward` does not take the conditioning variables.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> encoder = nn.Linear(784, 64)
        >>> q = Normal("q(z|x)", loc=encoder, scale=0.1)
        >>> print(q * Normal("p(x|y)", loc="y", scale=1.0))
        Distribution:
          p(z,x|y) = q(z|x)p(x|y)
        Network architecture:
          p(x|y) (Normal): Normal(scale=1, loc=y)
          q(z|x) (Normal): Normal(
            scale=0.1
            (given_networks): GivenNetworks(
              (loc): Linear(in_features=784, out_features=64, bias=True)
            )
          )
    """

    parametrisations: ClassVar[tuple[tuple[str, ...], ...]]
    """The sets of parameters that define the family; one of them must be given."""
    supports: ClassVar[Mapping[str, Support]]
    """Where each parameter lies, and so the rank of one of its events."""
    value_support: ClassVar[Support]
    """Where the value lies, whatever the parameters; what they make impossible has the log-density -inf."""
    relations: ClassVar[tuple[Relation, ...]] = ()
    """What must hold between parameters: words, and a function that says where it does."""
    rims: ClassVar[Powers] = {}
    """The ends of the value's support to which `log_density` is to be extended, each with the power of the distance to it, of the
    parameters: where that is 0 the density at the end is finite, and else 0 or infinite."""
    has_scores = True
    ends: ClassVar[tuple[str, ...]] = ()
    """The parameters that are ends of the support."""
    counts_to_parameters: ClassVar[bool] = False
    """Whether statistics are sums of as many terms as a parameter says, which no one graph has."""
    counted_by: ClassVar[str] = ""
    """The parameter that says how many values there are: they can be enumerated where it is a constant, and one number."""
    _declared: ClassVar[type["Family"]]
    _complete: ClassVar[set[frozenset[str]]]
    _event_ranks: ClassVar[dict[str, int]]
    features_shape: Shape | None
    checked_names: frozenset[str]
    constant_features: Shape | None
    _count: int

    def __init__(
        self,
        text: str | None = None,
        network: Callable[..., Any] | None = None,
        /,
        *,
        var: Iterable[str] | None = None,
        cond_var: Iterable[str] | None = None,
        name: str | None = None,
        dim: int | None = None,
        features_shape: Iterable[int] | None = None,
        **params: Any,
    ) -> None:
        super().__init__(text, network, var=var, cond_var=cond_var, name=name, **params)
        if len(self.var) != 1:
            raise FormulaError(f"{self.prob_text}: a {self.distribution_name} has one variable; write a product for several.")
        self.features_shape = self._features_shape(dim, features_shape)
        self._check_given(params)
        self._read_count()
        self.has_fixed_support = all(k in self.constant_names and not getattr(self, k).requires_grad for k in self.ends)
        self.checked_names = frozenset()
        self.constant_features = None
        if self.constant_names and not (set(params) - set(self.constant_names)):
            given = Given(self, self.factors[0], self.given_terms(()), ON_HOST)
            # Buffers stay as they are; what is trained is checked at every evaluation.
            self.checked_names = frozenset(k for k, v in params.items() if not isinstance(v, nn.Parameter) and not getattr(self, k).is_meta)
            if not self.has_network:
                self.constant_features = given.features

    def _read_count(self) -> None:
        """Reads how many values there are, once: under tracing the number of terms of a sum must be known."""
        number = self._buffers.get(self.counted_by) if self.counted_by in self.constant_names else None
        known = number is not None and has_numbers(number) and bool(((number == number.flatten()[0]) & number.isfinite()).all())
        self._count = int(number.flatten()[0]) if number is not None and known else 0
        if self.counted_by:
            self.has_enumerate = self.knows("outcomes") and known

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self._read_count()

    @staticmethod
    @abstractmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        """log p(x) in nats, over all dims but those of one event."""

    @staticmethod
    def restored(params: Params, x: Tensor, eps: float) -> Tensor:
        """Values in float32 that half precision, of this eps, has rounded: what they were, where the parameters tell."""
        return x

    @staticmethod
    def rsample(params: Params, shape: Shape) -> Tensor:
        """A draw of this shape with its gradient; where it is not written, through `icdf`."""
        raise NotImplementedError

    @staticmethod
    def draw(params: Params, shape: Shape) -> Tensor:
        """A draw of this shape, without gradient; asked for only where there is no `rsample`."""
        raise IntractableError("A family that can be sampled must write draw, rsample or icdf.")

    @staticmethod
    def relax(params: Params, shape: Shape, temperature: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """A hard draw of this shape, the relaxed draw of the same noise, and one with the value of the relaxed draw and the gradient of
        the relaxed draw given the hard one; only where `log_density` takes what lies between the values."""
        raise NotImplementedError

    @staticmethod
    def outcomes(event: Shape, params: Params, count: int) -> Tensor:
        """All values of one event of this shape, `(N, *event)`; only for finitely many.

        Args:
            event: the shape of one event.
            params: the parameters, whose shapes may say how many values there are.
            count: the parameter named in `counted_by`, where it is one number; else 0.
        """
        raise NotImplementedError

    @classmethod
    def count_support(cls, features: Shape, params: Params = MappingProxyType({}), count: int = 0) -> int:
        """How many values there are with these features; only for families that write `outcomes`."""
        event, over = cls._split(features)
        return len(cls.outcomes(event, params, count)) ** math.prod(over)

    @classmethod
    def enumerate_support(cls, features: Shape, params: Params = MappingProxyType({}), count: int = 0) -> Tensor:
        """All values, `(count, *features)`; only for families that write `outcomes`."""
        event, over = cls._split(features)
        each, n = cls.outcomes(event, params, count), math.prod(over)
        if n != 1:
            numbers, places = (torch.arange(*of, device=each.device) for of in ((len(each) ** n,), (n - 1, -1, -1)))
            each = each[numbers.unsqueeze(-1) // len(each) ** places % len(each)]
        return each.reshape(-1, *features)

    @classmethod
    def _split(cls, features: Shape) -> tuple[Shape, Shape]:
        """The shape of one event, and that of the features over which events are independent."""
        at = len(features) - cls.value_support.event_rank
        return features[at:], features[:at]

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        """KL[p||q] in nats, over all dims but those of one event; only where a closed form is known."""
        raise NotImplementedError

    @staticmethod
    def renyi(p: Params, q: Params, alpha: float) -> Tensor:
        """The Rényi divergence of order α > 0, α ≠ 1, in nats, as `kl`; infinite where its integral is."""
        raise NotImplementedError

    @staticmethod
    def squared_wasserstein(p: Params, q: Params) -> Tensor:
        """The squared 2-Wasserstein distance, in the squared unit of x, as `kl`."""
        raise NotImplementedError

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        """E[x], in the shape of x; only where a closed form is known, as the three below."""
        raise NotImplementedError

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        """Var[x], in the shape of x."""
        raise NotImplementedError

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        """Where the density is greatest, in the shape of x."""
        raise NotImplementedError

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        """H[p] in nats, over all dims but those of one event."""
        raise NotImplementedError

    @staticmethod
    def cdf(params: Params, x: Tensor) -> Tensor:
        """P(X ≤ x); where it and `icdf` are written, the family can be truncated."""
        raise NotImplementedError

    @staticmethod
    def icdf(params: Params, u: Tensor) -> Tensor:
        """The x at which `cdf` is u in (0, 1)."""
        raise NotImplementedError

    @staticmethod
    def whitener(params: Params, count: int) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """For normal families: the function t -> Wt on matrices `(count, K)`, where WᵀW is the precision, and log|W|."""
        raise NotImplementedError

    @staticmethod
    def sf(params: Params, x: Tensor) -> Tensor:
        """P(X > x); where it is not written, 1 - `cdf`, which is 0 in the upper tail: for truncations there, write it and `isf`."""
        raise NotImplementedError

    @staticmethod
    def isf(params: Params, u: Tensor) -> Tensor:
        """The x at which `sf` is u in (0, 1)."""
        raise NotImplementedError

    @classmethod
    def between(cls, params: Params, lower: Tensor, upper: Tensor) -> Tensor:
        """P(lower < X ≤ upper) for bounds so near to one another that `cdf` tells them hardly apart: by Gauss–Legendre quadrature of the
        density. Where it has a kink, write it."""
        half = 0.5 * (upper - lower)
        return half * sum([w * cls.log_density(params, lower + half * (1 + t)).exp() for t, w in _LEGENDRE])

    @classmethod
    def event_shape(cls, shapes: Mapping[str, Shape]) -> Shape:
        """The shape of one event, from the parameters' shapes: the trailing dims of the first parameter whose events have the same rank."""
        rank = cls.value_support.event_rank
        return next((s[len(s) - rank :] for name, s in shapes.items() if cls._event_ranks[name] == rank), ()) if rank else ()

    @classmethod
    def knows(cls, function: str) -> bool:
        """Whether the family writes this function, as in `Normal.knows("kl")`."""
        return getattr(cls, function) is not getattr(Family, function)

    @property
    def linear_var(self) -> frozenset[str]:
        if not self.is_gaussian or self._returns_parameters:
            return frozenset()
        linear = {v for k, v in self.given_variables.items() if k == "loc"}
        other = {v for k, v in self.given_variables.items() if k != "loc"}
        if self.given_networks is not None:
            for name in self.given_networks.names:
                straight = self.given_networks.linear_in(name) if name == "loc" else frozenset()
                linear |= straight
                other |= set(self.given_networks.takes(name)) - straight
        return frozenset(linear - other)

    def linear_map(self, name: str) -> Tensor | None:
        if self.given_networks is None or name in self.given_variables.values():
            return None
        return self.given_networks.linear_map("loc", name)

    def divergence_rule(self, what: str, other: Single) -> Any:
        known = isinstance(other, Family) and other._declared is self._declared and self.knows(what)
        return functools.partial(same_family_divergence, what) if known else None

    def support_of(self, name: str) -> Support | None:
        if name in self.var:
            return self.value_support
        return next((self.supports[k] for k, v in self.given_variables.items() if v == name), None)

    @staticmethod
    def fitting(x: Tensor) -> list[str]:
        """The names of our families in whose support all of these values lie: those of the most bounded supports, and Normal."""
        ours = {c.distribution_name: c.value_support for c in _families(Family) if c.__module__.startswith("pixyz.")}
        fits = {name: s.open_sides for name, s in ours.items() if x.ndim > s.event_rank and s.holds(x)}
        return sorted(name for name, sides in fits.items() if sides == min(fits.values()) or name == "Normal")

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> Given:
        checks = scope.shared.checks
        terms = self.given_terms(inputs)
        if not self.has_network:
            return Given(self, factor, terms, checks, self.constant_features, scope.shared.weights)
        terms.update(self.run(factor, inputs).parameters(self._event_ranks))
        self._check_complete(terms)
        return Given(self, factor, terms, checks, weights=scope.shared.weights)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "parametrisations" in vars(cls):
            lacking = [name for p in cls.parametrisations for name in p if name not in getattr(cls, "supports", {})]
            if lacking or not hasattr(cls, "value_support"):
                words = f"supports must say where {lacking[0]} lies" if lacking else "value_support must say where the value lies"
                raise FormulaError(f"{cls.__name__}: {words}, such as pixyz.distributions.Interval(...).")
            cls._declared = cls
            cls._complete = {frozenset(p) for p in cls.parametrisations}
            cls._event_ranks = {name: s.event_rank for name, s in cls.supports.items()}
            cls.distribution_name = vars(cls).get("distribution_name", cls.__name__)
            if cls.rims:
                nearest = between_zero_and_one if 1.0 in cls.rims else positive_number
                cls.log_density = staticmethod(with_rims(cls.log_density, nearest, cls.rims))
            if cls.knows("icdf") and not cls.knows("rsample"):
                cls.rsample = staticmethod(lambda params, shape: cls.icdf(params, uniform_draw(params, shape)))
            if cls.knows("icdf") and not cls.knows("isf"):
                cls.sf = staticmethod(lambda params, x: 1 - cls.cdf(params, x))
                cls.isf = staticmethod(lambda params, u: cls.icdf(params, 1 - u))
            cls.has_rsample, cls.has_enumerate = cls.knows("rsample"), cls.knows("outcomes")
            cls.has_relaxed = cls.knows("relax")
            cls.has_straight_through = cls.knows("mean_of") and not cls.relaxes_as
            cls.is_gaussian, cls.has_entropy = cls.knows("whitener"), cls.knows("entropy_of") and not cls.counts_to_parameters

    def _features_shape(self, dim: int | None, features_shape: Iterable[int] | None) -> Shape | None:
        if dim is not None and features_shape is not None:
            raise ParameterError(f"{self.prob_text}: dim and features_shape are two words for one thing; give one of them.")
        if dim is None and features_shape is None:
            return None
        shape: tuple[Any, ...]
        if dim is not None:
            shape, words = (dim,), f"dim must be a positive whole number; got {dim!r}"
        else:
            shape = tuple(features_shape) if isinstance(features_shape, Iterable) else (None,)
            words = f"features_shape must be a list of positive whole numbers, like [3, 4]; got {features_shape!r}"
        if not all([is_whole(n) and n > 0 for n in shape]):
            raise KindError(f"{self.prob_text}: {words}.")
        return shape

    def _check_given(self, names: Iterable[str]) -> None:
        if not hasattr(self, "_complete"):
            raise FormulaError(f'{self.prob_text}: {type(self).__name__} declares no parametrisations, such as (("loc", "scale"),).')
        self._check_known(names)
        if self._returns_parameters:
            return
        self._check_complete(names)
        if self.cond_var and not self.given_variables and not self.has_network:
            raise ParameterError(
                f"{self.prob_text} depends on {', '.join(self.cond_var)}, but nothing says how: subclass {self.distribution_name} "
                f"and write forward(self, {', '.join(self.cond_var)}), or give networks, {self.parametrisations[0][0]}=network."
            )

    def _check_complete(self, names: Iterable[str]) -> None:
        if frozenset(names) in self._complete:
            return
        self._check_known(names)
        came = ", ".join(sorted(names)) or "nothing"
        raise ParameterError(f"{self.prob_text}: a {self.distribution_name} takes {self._takes()}; got {came}.")

    def _check_known(self, names: Iterable[str]) -> None:
        for k in names:
            if k not in self.supports:
                told = f"a {self.distribution_name} has no parameter {k!r}; it takes {self._takes()}.{suggest(k, self.supports)}"
                raise ParameterError(f"{self.prob_text}: {told}")

    def _takes(self) -> str:
        return " or ".join(" and ".join(p) for p in self.parametrisations)


def device_of_params(params: Params) -> torch.device | None:
    """Where the parameters are; None if there are none."""
    return next((t.device for t in params.values()), None)


def uniform_draw(params: Params, shape: Shape) -> Tensor:
    """Numbers strictly between 0 and 1, of the parameters' kind."""
    like = next((t for t in params.values() if t.ndim), next(iter(params.values())))
    u = uniform_noise(shape, like)
    return u.clamp_min(torch.finfo(u.dtype).tiny)  # which is below 1


def _families(parent: type[Family]) -> Iterable[type[Family]]:
    for child in parent.__subclasses__():
        if "parametrisations" in vars(child):
            yield child
        yield from _families(child)
