"""The values that a variable has at all steps of a sequence: sliced, shifted, stacked, and bound with time as one more dim."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pixyz.core import BATCH, Binding, Checks, Dims, Factor, Scope, ShapeError, SupportError, Term, common_sizes, spread, stack_terms, union


class Steps(NamedTuple):
    """A tensor `(T, *dims, *features)`, and the open dims of a single step."""

    tensor: Tensor
    dims: Dims

    def part(self, first: int, last: int) -> "Steps":
        """Some of the steps."""
        return Steps(self.tensor[first:last], self.dims)

    def bind(self, scope: Scope, name: str, time: int) -> Binding:
        """Binds a name to all of it, with `time`, newer than its dims, as one more dim."""
        return scope.bind(name, self.tensor, (time, *self.dims))


def of_series(name: str, b: Binding, count: int, who: object) -> Steps:
    """The first `count` steps of a value `(*dims, time, *features)`.

    Raises:
        ShapeError: if it has no time, or too few steps.
    """
    axis = len(b.dims)
    if not b.features or b.features[0] < count:
        has = f"has {b.features[0]} steps" if b.features else f"has shape {tuple(b.tensor.shape)}"
        raise ShapeError(f"{who}: {name} {has}; a series of {count} steps is (batch, {count}, *features).")
    return Steps(b.tensor.movedim(axis, 0)[:count], b.dims)


def stack(bindings: Sequence[Binding]) -> Steps:
    """What was bound step by step."""
    tensor, dims = stack_terms([Term(b.tensor, b.dims) for b in bindings], -1)  # time has no identifier yet
    return Steps(tensor, dims[1:])


def shift(first: Binding, steps: Steps, names: tuple[str, str], who: object) -> Steps:
    """The values of one step before: `first` at the first step.

    Args:
        first: the value before the first step.
        steps: what is shifted.
        names: of the value before the first step, and of what is shifted.
        who: the formula, for the messages.

    Raises:
        ShapeError: if the features differ.
    """
    features = tuple(steps.tensor.shape[1 + len(steps.dims) :])
    if first.features != features:
        raise ShapeError(
            f"{who}: {names[0]} has features {first.features}, but from the second step on it is {names[1]}, with features {features}."
        )
    dims = union(first.dims, steps.dims)
    later = Binding(steps.tensor[0], steps.dims, 0)
    sizes = common_sizes(dims, (first, later), names, who)
    start = spread(first.tensor, first.dims, dims, sizes)
    rest = spread(steps.tensor[:-1], (-1, *steps.dims), (-1, *dims), [len(steps.tensor) - 1, *sizes])
    return Steps(torch.cat([start.unsqueeze(0), rest]), dims)


def mask_of(name: str, b: Binding, count: int, like: Tensor, checks: Checks, who: object) -> Steps:
    """The mask, `(T, batch)`, in the dtype of `like`: 1 for a step, 0 for what only fills up.

    Raises:
        ShapeError: if it is no `(batch, time)` of the same length as the series.
        SupportError: for other values than 0 and 1.
    """
    if b.dims != (BATCH,) or b.features != (count,):
        raise ShapeError(f"{who}: the mask {name} has shape {tuple(b.tensor.shape)}; for {count} steps it is (batch, {count}).")
    if checks and not checks.passed(checks.every((b.tensor == 0) | (b.tensor == 1)), who):
        raise SupportError(f"{who}: the mask {name} must be 1 at the steps of a sequence and 0 after its end; it has other values.")
    return Steps(b.tensor.movedim(1, 0).to(like.dtype), (BATCH,))


def filled(steps: Steps, mask: Steps) -> Steps:
    """With the first step where the mask is 0: whatever fills up a series may be nan, and must not reach a gradient."""
    if BATCH not in steps.dims or not steps.tensor.is_floating_point():
        return steps
    shape = (len(steps.tensor), *[1] * (len(steps.dims) - 1), -1, *[1] * (steps.tensor.ndim - 1 - len(steps.dims)))
    return Steps(torch.where(mask.tensor.reshape(shape) > 0, steps.tensor, steps.tensor[:1]), steps.dims)


def computed(scope: Scope, factors: Iterable[Factor], steps: Mapping[str, Steps], count: int, batch: int) -> dict[str, Steps]:
    """What deterministic factors make of whole values and of the steps so far, one step after the other."""
    factors = tuple(factors)
    found: dict[str, list[Binding]] = {v: [] for x in factors for v in x.var}
    here = scope.inside({}, batch, scope.samples, scope.group)
    for t in range(count if factors else 0):
        for name, s in steps.items():
            here.bind(name, s.tensor[t], s.dims)
        for x in factors:
            conditional = here.conditional(x)
            for v, term in zip(x.var, conditional.draw(conditional.dims, [], pathwise=True)):
                found[v].append(here.bind(v, term.tensor, term.dims))
    return {v: stack(bindings) for v, bindings in found.items()}
