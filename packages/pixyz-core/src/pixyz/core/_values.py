"""The user's values: checked, bound, and so the outermost scope of an evaluation."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ._dims import BATCH, Term
from ._errors import KindError, MissingVariableError, ShapeError
from ._scope import Evaluation, Scope
from ._variables import suggest


def open_scope(
    values: Mapping[str, Any] | None,
    *,
    needed: Iterable[str],
    optional: Iterable[str] = (),
    who: object,
    batch_size: int | None = None,
    sample_dims: Mapping[str, int] | None = None,
    watch: Callable[[Any, Term], None] | None = None,
) -> Scope:
    """The outermost scope of an evaluation: the user's values, bound.

    Args:
        values: a tensor `(batch, *features)` for each variable, or a number for one without a batch.
        needed: the names without which the formula `who` has no value; other keys are ignored.
        optional: names that are bound if they are there.
        who: the formula, for the messages.
        batch_size: the batch of what is drawn where no value has one.
        sample_dims: for each name, how many sample dims stand before its batch.
        watch: called with every loss, and the log-density of every factor, and its term.
    """
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise KindError(f'{who} takes a mapping from variables to tensors, like {{"x": x}}; got {_kind(values)}.')
    needed = tuple(needed)
    missing = [name for name in needed if name not in values]
    if missing:
        hint = "".join(suggest(name, set(map(str, values)) - set(needed)) for name in missing)
        came = "{" + ", ".join(sorted(repr(k) for k in values)) + "}"
        raise MissingVariableError(f"{who} needs {', '.join(missing)}; got {came}.{hint}")
    scope = Scope(Evaluation(watch), {}, 1)
    outer: dict[int, int] = {}
    for name in (*needed, *[n for n in optional if n in values]):
        tensor = _as_tensor(name, values[name], who)
        extra = sample_dims[name] if sample_dims and name in sample_dims else 0
        if extra and tensor.ndim <= extra:
            raise ShapeError(f"{who}: {name} has shape {tuple(tensor.shape)}, too few dims for {extra} sample dims and a batch.")
        for i in range(extra):  # the i-th sample dim, counted from the batch outwards, is the same for all
            size = tensor.shape[extra - 1 - i]
            if i not in outer:
                outer[i] = scope.shared.open_dim(size)
            elif scope.shared.sizes[outer[i]] != size:
                raise ShapeError(f"{who}: {name} has {size} samples where others have {scope.shared.sizes[outer[i]]}.")
        samples = tuple(outer[i] for i in reversed(range(extra)))
        scope.bind(name, tensor, (*samples, BATCH) if tensor.ndim else ())
    batches = {b.tensor.shape[len(b.dims) - 1] for b in scope.bindings.values() if BATCH in b.dims}
    if batch_size is not None:
        if not isinstance(batch_size, int) or batch_size < 0:
            raise KindError(f"{who}: batch_size must be a whole number; got {batch_size!r}.")
        if batches and batches != {batch_size}:
            raise ShapeError(f"{who}: batch_size={batch_size}, but the values have batch {', '.join(map(str, sorted(batches)))}.")
        scope.batch = batch_size
    elif len(batches) == 1:
        scope.batch = batches.pop()
    return scope


def _as_tensor(name: str, value: object, who: object) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return torch.tensor(float(value))
    hint = " Convert it with torch.as_tensor." if isinstance(value, (list, tuple)) or hasattr(value, "__array__") else ""
    raise KindError(f"{who}: the value of {name} must be a tensor; got {_kind(value)}.{hint}")


def _kind(value: object) -> str:
    if isinstance(value, nn.Module):
        return f"the module {type(value).__name__}"
    return f"the {type(value).__name__} {str(value)[:40]!r}" if isinstance(value, str) else f"a {type(value).__name__}"
