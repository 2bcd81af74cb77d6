"""Single conditionals: what stands as one factor in a joint."""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor

from ._bindings import Binding, Factor
from ._conditionals import Conditional
from ._distribution import Distribution
from ._formula import Formula
from ._measures import KnownSupport
from ._scope import Scope


class Single(Distribution):
    """A distribution that is one factor, p(x|z), wherever it stands.

    Written by a subclass: `conditional`; and what estimators and exact sums ask of it. One that is made of other distributions asks the
    scope for them, and registers their leaves instead of a `leaf_text` of its own.

    Attributes:
        has_rsample: whether its draws have gradients.
        has_enumerate: whether it takes finitely many values.
        has_scores: whether it is independent over the features, and its conditional writes `masked_log_prob`.
        has_entropy: whether its conditional knows its entropy in closed form, one that can be traced.
        has_relaxed: whether its conditional writes `relax`, and its log-density takes what lies between its values.
        has_straight_through: whether its conditional knows its mean, and what takes its values has a gradient in them.
        has_fixed_support: whether no parameter that may be trained or given moves its support. The density jumps at an end of the support,
            so where the end moves, the expectation of ∇log q lacks a part of the gradient.
        relaxes_as: the family that can be relaxed in its place.
        is_deterministic: whether it computes its variables.
        is_gaussian: whether it is normal, and its conditional writes `whitened`.
        linear_var: the conditioning variables in which it is declared linear: its mean is, and nothing else depends on them.
    """

    distribution_name: ClassVar[str] = ""
    has_rsample: bool = False
    has_enumerate: bool = False
    has_scores: bool = False
    has_entropy: bool = False
    has_relaxed: bool = False
    has_straight_through: bool = False
    has_fixed_support: bool = True
    relaxes_as: ClassVar[str] = ""
    is_deterministic: bool = False
    is_gaussian: bool = False
    hidden_var = frozenset()
    fixed: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> Conditional:
        """This distribution given its inputs, in the order of `cond_var`. A part is asked for through the scope."""

    def divergence_rule(self, what: str, other: "Single") -> Any:
        """A function of both conditionals that gives a divergence of self from other as a term, or None if no closed form is known.

        Args:
            what: `"kl"`; `"renyi"`, whose function takes `alpha=` as well; or `"squared_wasserstein"`.
            other: the right side.
        """
        return None

    def support_of(self, name: str) -> KnownSupport | None:
        """Where a variable, or a conditioning variable that is a parameter, must lie; None where that is not known before an evaluation."""
        return None

    def without(self, names: Collection[str]) -> Distribution | None:
        """Its marginal without some of its variables, under its own names; None where it knows none, or no names are given."""
        return None

    @property
    def linear_var(self) -> frozenset[str]:
        return frozenset()

    def linear_map(self, name: str) -> Tensor | None:
        """The matrix `(D, D_in)` by which the mean depends on a variable of `linear_var`; None for the identity."""
        raise NotImplementedError

    @property
    def defined(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset(self.var)

    @property
    def factors(self) -> tuple[Factor, ...]:  # type: ignore[override]
        return (Factor(self, self.var, self.cond_var),)

    @property
    def ancestral(self) -> tuple[Factor, ...]:  # type: ignore[override]
        return self.factors

    @property
    def formula(self) -> Formula:
        return self.formula_as(self.factors[0])

    def formula_as(self, factor: Factor) -> Formula:
        """The distribution as a formula, under the names that a joint knows it by."""
        return factor.density
