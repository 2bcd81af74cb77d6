"""One evaluation: who is bound to which tensor, and what has been computed already.

A `Scope` maps names to bindings. An expectation evaluates its body in a child scope, where the names it draws shadow those outside. All
scopes of an evaluation share one memo, keyed by modules and by the numbers of their inputs, so a network runs once per distinct input.
Nothing outlives the evaluation: the memo goes with it.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ._bindings import Binding, Factor
from ._checks import NO_CHECKS, ON_HOST, Checks
from ._conditionals import Conditional, MaskableConditional, ScoredConditional
from ._dims import BATCH, Dims, Term, differ, stack_terms
from ._errors import ShapeError


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
        checks: how numbers in tensors are checked.
    """

    def __init__(self, watch: Watcher | None = None, *, starting: bool = False, checks: Checks = ON_HOST) -> None:
        self.memo: dict[Hashable, Any] = {}
        self.sizes: dict[int, int] = {}
        self.numbers: int = 0
        self.watch = watch
        self.starting = starting
        # The numbers of bindings that stand for discrete values and lie between them.
        self.relaxed: set[int] = set()
        # Those of control variates, which need the whole slope of what is drawn from them, also that in a `stop`.
        self.controls: set[int] = set()
        # For the dim of each enumerated variable the log-density of its values: parameters need not be valid where it is -inf.
        self.weights: dict[int, Term] = {}
        # Under tracing, reading a number would break the graph.
        self.checks = NO_CHECKS if torch.compiler.is_compiling() else checks

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
        sizes: dict[str, int] = {}
        for name in names:
            b = self.bindings[name]
            if BATCH in b.dims:
                sizes[name] = b.tensor.shape[len(b.dims) - 1]
        found = [*sizes.values()]
        if differ(found):
            said = " and ".join([f"{name} has batch {n}" for i, (name, n) in enumerate(sizes.items()) if n not in found[:i]])
            raise ShapeError(f"{who}: {said}; inside one expectation all values have one batch.")
        return found[0] if found else self.batch

    def bind(self, name: str, tensor: Tensor, dims: Dims) -> Binding:
        """Binds a name here, under a new number; a value that it has already keeps its own, by which all that depends on it is found."""
        known = self.bindings.get(name)
        if known is not None and known.tensor is tensor and known.dims == dims:
            return known
        binding = self.bindings[name] = Binding(tensor, dims, self.shared.number())
        return binding

    def rebind(self, name: str, tensor: Tensor, dims: Dims, binding: Binding) -> Binding:
        """Binds a name here to what stands for the same value as another binding, with another gradient."""
        new = self.bind(name, tensor, dims)
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
            found = memo[key] = self.conditional(factor).log_prob(values, factor, self._checks_of(factor, values))
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
            scores = [c.log_prob(tuple([b[n] for n in factor.var]), factor, NO_CHECKS) for c, b in zip(found, steps)]
            memo[(factor.dist, "log_prob", *inputs, *[self.bindings[n].number for n in factor.var])] = stack_terms(scores, dim)

    def _checks_of(self, factor: Factor, values: tuple[Binding, ...]) -> Checks:
        """None of values that were relaxed on purpose: the density has an extension outside of the support."""
        relaxed = self.shared.relaxed
        are_relaxed = relaxed and factor.dist.has_relaxed and any([b.number in relaxed for b in values])
        return NO_CHECKS if are_relaxed else self.shared.checks

    def _masked(self, factor: Factor, values: tuple[Binding, ...], mask: str, key: Hashable) -> Term:
        memo = self.shared.memo
        found = memo.get(key)
        if found is None:
            conditional = cast(MaskableConditional, self.conditional(factor))
            found = memo[key] = conditional.masked_log_prob(values[0], self.bindings[mask], mask, factor, self._checks_of(factor, values))
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
