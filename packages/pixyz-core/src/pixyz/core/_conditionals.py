"""What a conditional answers once it is given its inputs: draws, densities, moments. A scope keeps one per leaf and inputs."""

from typing import Protocol

from torch import Tensor

from ._bindings import Binding, Factor
from ._checks import Checks
from ._dims import Dims, Term


class Summarised(Protocol):
    """What may know its moments."""

    def statistic(self, what: str) -> Term:
        """Its mean, variance or mode, `(*dims, *features)`, or entropy, `(*dims)`; NotImplementedError where it has no closed form."""
        ...


class Conditional(Summarised, Protocol):
    """A leaf distribution given its inputs, in one evaluation; what a deterministic leaf's `conditional` returns.

    Attributes:
        dims: the open dims of its parameters.
        batch: the batch of its parameters; None if they have none.
    """

    dims: Dims
    batch: int | None

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """One draw for each variable, `(*dims, *features)`; with its gradient where `pathwise`."""
        ...


class ScoredConditional(Conditional, Protocol):
    """What the `conditional` of a leaf with a density returns."""

    def log_prob(self, values: tuple[Binding, ...], factor: Factor, checks: Checks) -> Term:
        """log p(values|inputs) in nats, summed over the features."""
        ...

    def support_size(self) -> int:
        """The number of values it can take; asked only where the leaf `has_enumerate`."""
        ...

    def enumerate_support(self) -> list[Tensor]:
        """All values it can take, for each variable, `(support_size, *features)`."""
        ...


class MaskableConditional(ScoredConditional, Protocol):
    """What the `conditional` of a leaf that `has_scores` returns."""

    def masked_log_prob(self, value: Binding, mask: Binding, name: str, factor: Factor, checks: Checks) -> Term:
        """log p of the events where the mask, the variable `name`, is 1; whatever the value is elsewhere."""
        ...


class RelaxableConditional(ScoredConditional, Protocol):
    """What the `conditional` of a leaf that `has_relaxed` returns. Its `log_prob` takes what lies between its values as well."""

    def relax(self, dims: Dims, sizes: list[int], temperature: Tensor | float) -> tuple[Term, Term, Term]:
        """A hard draw, the relaxed draw of the same noise, and one with the value of that and the gradient of the relaxed draw given
        the hard one; each `(*dims, *features)`."""
        ...


class GaussianConditional(ScoredConditional, Protocol):
    """What the `conditional` of a leaf that `is_gaussian` returns.

    Attributes:
        features: the shape of one datum.
        like: a tensor of its dtype, on its device.
    """

    features: tuple[int, ...]
    like: Tensor

    def whitened(self, value: Binding | None, factor: Factor, matrix: Tensor, checks: Checks) -> tuple[Term, Term, Term]:
        """W(x - μ), `(*dims, D)`, W times a matrix `(D, K)`, and log|W|, where WᵀW is the precision; x is 0 if there is no value."""
        ...
