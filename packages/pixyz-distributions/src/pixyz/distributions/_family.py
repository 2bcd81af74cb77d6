"""What all families share: where parameters come from, how they are checked, aligned and handed to the family's functions."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from pixyz.core import Binding, Factor, FormulaError, KindError, Leaf, ParameterError, Scope, Term, constant_parameters, run_network

from ._given import Given, same_family_kl
from ._supports import Support

Params = Mapping[str, Tensor]


class Family(Leaf):
    """A distribution given by parameters: constants, or what a subclass's `forward` returns.

    Args:
        var: the variable, `["z"]`.
        cond_var: the variables it depends on; `forward` takes them by these names.
        name: the letter before the brackets.
        dim: the number of features, short for `features_shape=[dim]`.
        features_shape: the shape of one datum; needed only where constants do not say it.
        params: constants, by name: numbers, tensors `(*features)`, or `nn.Parameter`s, which are trained.

    Raises:
        ParameterError: for unknown, missing or doubled parameters.
        SupportError: for a constant outside of its support.
        FormulaError: if `forward` does not take the conditioning variables.
    """

    parametrisations: ClassVar[tuple[tuple[str, ...], ...]]
    """The sets of parameters that define the family; one of them must be given."""
    supports: ClassVar[Mapping[str, Support]]
    """Where each parameter lies."""
    value_support: ClassVar[Support]
    """Where the value lies."""
    has_kl: ClassVar[bool] = False
    """Whether `kl` is written."""
    _complete: ClassVar[set[frozenset[str]]]
    features_shape: tuple[int, ...] | None
    constant_names: tuple[str, ...]
    checked_names: frozenset[str]
    constant_features: tuple[int, ...] | None

    def __init__(
        self,
        *,
        var: Iterable[str] = ("x",),
        cond_var: Iterable[str] = (),
        name: str = "p",
        dim: int | None = None,
        features_shape: Iterable[int] | None = None,
        **params: Tensor | float,
    ) -> None:
        super().__init__(var, cond_var, name)
        if len(self.var) != 1:
            raise FormulaError(f"{self.prob_text}: a {self.distribution_name} has one variable; write a product for several.")
        self.features_shape = self._features_shape(dim, features_shape)
        self._check_given(params)
        constant_parameters(self, params)
        self.constant_names = tuple(params)
        self.checked_names = frozenset()
        self.constant_features = None
        if params:
            given = Given(self, self.factors[0], self._constant_terms(), validate=True)
            # Buffers stay as they are; what is trained is checked at every evaluation.
            self.checked_names = frozenset(k for k, v in params.items() if not isinstance(v, nn.Parameter))
            if not self.has_network:
                self.constant_features = given.features

    @staticmethod
    @abstractmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        """log p(x) in nats, over all dims but those of one element of the value's support."""

    @staticmethod
    def rsample(params: Params, shape: tuple[int, ...]) -> Tensor:
        """A draw of this shape with its gradient; only where `has_rsample`."""
        raise NotImplementedError("A family with has_rsample must write rsample.")

    @staticmethod
    @abstractmethod
    def draw(params: Params, shape: tuple[int, ...]) -> Tensor:
        """A draw of this shape, without gradient."""

    @staticmethod
    def count_support(features: tuple[int, ...]) -> int:
        """How many values there are with these features; only where `has_enumerate`."""
        raise NotImplementedError("A family with has_enumerate must write count_support.")

    @staticmethod
    def enumerate_support(features: tuple[int, ...]) -> Tensor:
        """All values, `(count, *features)`; only where `has_enumerate`."""
        raise NotImplementedError("A family with has_enumerate must write enumerate_support.")

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        """KL[p||q] in nats, over all dims but those of one element; only where `has_kl`."""
        raise NotImplementedError("A family with has_kl must write kl.")

    def kl_rule(self, other: Leaf) -> Any:
        return same_family_kl if self.has_kl and isinstance(other, Family) and other.kl is self.kl else None

    @staticmethod
    def fitting(x: Tensor) -> list[str]:
        """The names of our families in whose support all of these values lie."""
        ours = {c.distribution_name: c.value_support for c in Family.__subclasses__() if c.__module__.startswith("pixyz.")}
        return sorted(name for name, s in ours.items() if x.ndim > s.event_rank and s.holds(x))

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "Given":
        validate = scope.shared.validate
        if not self.has_network:
            return Given(self, factor, self._constant_terms(), validate, self.constant_features)
        terms = run_network(self, factor, inputs, validate).parameters()
        if self.constant_names:
            self._check_twice(terms)
            terms.update(self._constant_terms())
        self._check_complete(terms)
        return Given(self, factor, terms, validate)

    def _constant_terms(self) -> dict[str, Term]:
        return {k: Term(getattr(self, k), ()) for k in self.constant_names}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._complete = {frozenset(p) for p in cls.parametrisations}

    def _features_shape(self, dim: int | None, features_shape: Iterable[int] | None) -> tuple[int, ...] | None:
        if dim is not None and features_shape is not None:
            raise ParameterError(f"{self.prob_text}: dim and features_shape are two words for one thing; give one of them.")
        if dim is None and features_shape is None:
            return None
        shape = (dim,) if dim is not None else tuple(features_shape or ())
        if not all(isinstance(n, int) and n > 0 for n in shape):
            raise KindError(f"{self.prob_text}: the features' shape must be positive whole numbers; got {shape}.")
        return shape

    def _check_given(self, names: Iterable[str]) -> None:
        self._check_known(names)
        if self.has_network:
            return
        self._check_complete(names)
        if self.cond_var:
            raise ParameterError(
                f"{self.prob_text} depends on {', '.join(self.cond_var)}, but nothing says how: subclass {self.distribution_name} "
                f"and write forward(self, {', '.join(self.cond_var)})."
            )

    def _check_twice(self, returned: Iterable[str]) -> None:
        for k in self.constant_names:
            if k in returned:
                raise ParameterError(f"{self.prob_text}: {k} is given as a constant and returned by forward as well; drop one.")

    def _check_complete(self, names: Iterable[str]) -> None:
        if frozenset(names) in self._complete:
            return
        self._check_known(names)
        came = ", ".join(sorted(names)) or "nothing"
        raise ParameterError(f"{self.prob_text}: a {self.distribution_name} takes {self._takes()}; got {came}.")

    def _check_known(self, names: Iterable[str]) -> None:
        for k in names:
            if k not in self.supports:
                raise ParameterError(f"{self.prob_text}: a {self.distribution_name} has no parameter {k!r}; it takes {self._takes()}.")

    def _takes(self) -> str:
        return " or ".join(" and ".join(p) for p in self.parametrisations)

    def extra_repr(self) -> str:
        """The constants, for `print`."""
        return ", ".join(f"{k}={_short(getattr(self, k))}" for k in self.constant_names)


def _short(t: Tensor) -> str:
    return f"{t.item():.6g}" if t.numel() == 1 else f"tensor{tuple(t.shape)}"
