"""One evaluation: who is bound to which tensor, and what has been computed already.

A `Scope` maps names to bindings. An expectation evaluates its body in a child scope, where the names it draws shadow those outside. All
scopes of an evaluation share one memo, keyed by modules and by the numbers of their inputs, so a network runs once per distinct input.
Nothing outlives the evaluation: the memo goes with it.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from ._dims import BATCH, Dims, Term, stack_terms
from ._errors import ShapeError
from ._formula import Density
from ._printers import render


class Binding(NamedTuple):
    """A tensor `(*dims, *features)`, its open dims, and the number that stands for it in the memo."""

    tensor: Tensor
    dims: Dims
    number: int

    @property
    def features(self) -> tuple[int, ...]:
        """The shape behind the open dims."""
        return tuple(self.tensor.shape[len(self.dims) :])


class Factor(NamedTuple):
    """One conditional of a joint: a leaf distribution, and the joint's names in the order of the leaf's own."""

    dist: Any
    var: tuple[str, ...]
    cond_var: tuple[str, ...]

    @property
    def density(self) -> Density:
        """The node p(x|z)."""
        return Density(self.dist.name, self.var, self.cond_var)

    def __str__(self) -> str:
        return render(self.density)


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

    def log_prob(self, values: tuple[Binding, ...], factor: Factor, validate: bool) -> Term:
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

    def masked_log_prob(self, value: Binding, mask: Binding, name: str, factor: Factor, validate: bool) -> Term:
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

    def whitened(self, value: Binding | None, factor: Factor, matrix: Tensor, validate: bool) -> tuple[Term, Term, Term]:
        """W(x - μ), `(*dims, D)`, W times a matrix `(D, K)`, and log|W|, where WᵀW is the precision; x is 0 if there is no value."""
        ...


class Evaluable(Protocol):
    """What a scope evaluates: a loss."""

    def evaluate(self, scope: "Scope") -> Term:
        """The value in this scope."""
        ...


class Watcher(Protocol):
    """What is told of every term of an evaluation: of a loss, or of a factor's log-density, by its text."""

    def enter(self, who: object) -> None:
        """Its evaluation begins; what comes until it ends are its parts."""
        ...

    def drew(self, draw: Any) -> None:
        """The expectation whose evaluation began last has drawn its variables."""
        ...

    def leave(self, who: object, term: Term) -> None:
        """Its evaluation ends."""
        ...


class Evaluation:
    """What all scopes of one evaluation share.

    Args:
        watch: is told of every term.
        starting: whether what waits for data is started by those that arrive where it stands.
    """

    def __init__(self, watch: Watcher | None = None, *, starting: bool = False) -> None:
        self.memo: dict[Hashable, Any] = {}
        self.sizes: dict[int, int] = {}
        self.numbers: int = 0
        self.watch = watch
        self.starting = starting
        # The numbers of bindings that stand for discrete values and lie between them.
        self.relaxed: set[int] = set()
        # Under tracing, data-dependent checks would break the graph.
        self.validate: bool = not torch.compiler.is_compiling()

    def number(self) -> int:
        """An integer that nothing else in this evaluation has."""
        self.numbers += 1
        return self.numbers

    def open_dim(self, size: int) -> int:
        """The identifier of a new dim of this size, newer than all others."""
        dim = self.number()
        self.sizes[dim] = size
        return dim


class Scope:
    """Names and their bindings, at one place of a formula.

    Attributes:
        shared: the evaluation.
        bindings: the binding of every name that is visible here.
        batch: how many data the draws made here are for.
        samples: the Monte Carlo dims open here, newest first; each draw gets them all.
        group: expectations in one group share their draws.
    """

    def __init__(self, shared: Evaluation, bindings: dict[str, Binding], batch: int, samples: Dims = (), group: int = 0) -> None:
        self.shared = shared
        self.bindings = bindings
        self.batch = batch
        self.samples = samples
        self.group = group

    def inside(self, drawn: Mapping[str, Binding], batch: int, samples: Dims, group: int) -> "Scope":
        """The scope of an expectation's body."""
        return Scope(self.shared, {**self.bindings, **drawn}, batch, samples, group)

    def apart(self) -> "Scope":
        """This scope, but its draws are shared with nobody outside."""
        return Scope(self.shared, self.bindings, self.batch, self.samples, self.shared.number())

    def batch_of(self, names: Iterable[str], who: object) -> int:
        """The batch of the values of these names, else that of the scope.

        Raises:
            ShapeError: if two have different ones.
        """
        sizes: dict[int, str] = {}
        for name in names:
            b = self.bindings[name]
            if BATCH in b.dims:
                sizes[b.tensor.shape[len(b.dims) - 1]] = name
        if len(sizes) > 1:
            said = " and ".join(f"{name} has batch {n}" for n, name in sizes.items())
            raise ShapeError(f"{who}: {said}; inside one expectation all values have one batch.")
        return next(iter(sizes)) if sizes else self.batch

    def bind(self, name: str, tensor: Tensor, dims: Dims) -> Binding:
        """Binds a name here, under a new number; a value that it has already keeps its own, by which all that depends on it is found."""
        known = self.bindings.get(name)
        if known is not None and known.tensor is tensor and known.dims == dims:
            return known
        binding = self.bindings[name] = Binding(tensor, dims, self.shared.number())
        return binding

    def rebind(self, name: str, tensor: Tensor, binding: Binding) -> Binding:
        """Binds a name here to what stands for the same value as another binding, with another gradient."""
        new = self.bind(name, tensor, binding.dims)
        if binding.number in self.shared.relaxed:
            self.shared.relaxed.add(new.number)
        return new

    def evaluate(self, loss: Evaluable) -> Term:
        """The value of a loss in this scope."""
        watch = self.shared.watch
        if watch is None:
            return loss.evaluate(self)
        watch.enter(loss)
        term = loss.evaluate(self)
        watch.leave(loss, term)
        return term

    def conditional(self, factor: Factor) -> ScoredConditional:
        """The factor's distribution given its inputs; its network runs once per distinct input."""
        inputs = tuple([self.bindings[name] for name in factor.cond_var])
        key = (factor.dist, *[b.number for b in inputs])
        memo = self.shared.memo
        found = memo.get(key)
        if found is None:
            found = memo[key] = factor.dist.conditional(self, factor, inputs)
        return found

    def log_prob(self, factor: Factor, mask: str | None = None) -> Term:
        """log p(var|cond_var) of a factor, `(*dims)`, in nats; of what the variable `mask` selects, if there is one."""
        bindings = self.bindings
        values = tuple([bindings[name] for name in factor.var])
        key = (factor.dist, "log_prob", *[bindings[n].number for n in factor.cond_var], *[b.number for b in values])
        memo = self.shared.memo
        if mask is not None:
            return self._masked(factor, values, mask, (*key, "mask", bindings[mask].number))
        found = memo.get(key)
        if found is None:
            found = memo[key] = self.conditional(factor).log_prob(values, factor, self._validates(factor, values))
        return found

    def join(self, factor: Factor, steps: Sequence[Mapping[str, Binding]], dim: int) -> None:
        """Takes the factor's conditionals in other scopes together as the one in this scope, where its variables are bound along `dim`.

        So a network that ran step by step does not run again for all steps; where the conditionals cannot be one, their log-densities are.
        """
        memo = self.shared.memo
        inputs = [self.bindings[n].number for n in factor.cond_var]
        found = [memo[(factor.dist, *[b[n].number for n in factor.cond_var])] for b in steps]
        if hasattr(found[0], "along"):
            joined = memo[(factor.dist, *inputs)] = found[0].along(found, dim)
            if factor.dist.is_deterministic:
                for name, term in zip(factor.var, joined.draw(joined.dims, [], pathwise=True)):
                    self.bind(name, term.tensor, term.dims)
        elif not factor.dist.is_deterministic:
            scores = [c.log_prob(tuple([b[n] for n in factor.var]), factor, False) for c, b in zip(found, steps)]
            memo[(factor.dist, "log_prob", *inputs, *[self.bindings[n].number for n in factor.var])] = stack_terms(scores, dim)

    def _validates(self, factor: Factor, values: tuple[Binding, ...]) -> bool:
        """Whether the values must lie in the support: not those that were relaxed on purpose, where the density has an extension."""
        relaxed = self.shared.relaxed
        return self.shared.validate and not (relaxed and factor.dist.has_relaxed and any([b.number in relaxed for b in values]))

    def _masked(self, factor: Factor, values: tuple[Binding, ...], mask: str, key: Hashable) -> Term:
        memo = self.shared.memo
        found = memo.get(key)
        if found is None:
            conditional = cast(MaskableConditional, self.conditional(factor))
            found = memo[key] = conditional.masked_log_prob(values[0], self.bindings[mask], mask, factor, self._validates(factor, values))
        return found

    def draw_dims(self, factor: Factor, conditional: Conditional, samples: Dims) -> tuple[Dims, list[int]]:
        """The dims of a draw, all open Monte Carlo dims and those of its inputs, with their sizes."""
        if conditional.batch is not None and conditional.batch != self.batch:
            raise ShapeError(
                f"{factor}: {', '.join(factor.cond_var)} has batch {conditional.batch}, but other values here have another; "
                "what is drawn together has one batch."
            )
        dims = tuple(sorted({*samples, *conditional.dims, BATCH}, reverse=True))
        return dims, self.sizes(dims)

    def sizes(self, dims: Dims) -> list[int]:
        """The size of each dim, as seen here."""
        return [self.batch if d == BATCH else self.shared.sizes[d] for d in dims]
