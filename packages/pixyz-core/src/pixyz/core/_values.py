"""The user's values: checked, bound, and so the outermost scope of an evaluation."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ._checks import ON_HOST, Checks
from ._dims import BATCH, differ, need_dense
from ._errors import FormulaError, KindError, MissingVariableError, ShapeError
from ._scope import Evaluation, Scope, Watcher
from ._variables import is_number, is_whole, misspelt, suggest


def open_scope(
    values: Mapping[str, Any] | None,
    *,
    needed: Iterable[str],
    optional: Iterable[str] = (),
    who: object,
    batch_size: int | None = None,
    sample_dims: Mapping[str, int] | None = None,
    watch: Watcher | None = None,
    starting: bool = False,
    checks: Checks = ON_HOST,
) -> Scope:
    """The outermost scope of an evaluation: the user's values, bound.

    Args:
        values: a tensor `(batch, *features)` for each variable, or a number for one without a batch.
        needed: the names without which the formula `who` has no value; other keys are ignored.
        optional: names that are bound if they are there.
        who: the formula, for the messages.
        batch_size: the batch of what is drawn where no value has one.
        sample_dims: for each name, how many sample dims stand before its batch.
        watch: is told of every loss and of the log-density of every factor.
        starting: whether what waits for data is started.
        checks: how numbers in tensors are checked.
    """
    given = as_dict(values)
    needed = tuple(needed)
    require(given, needed, who)
    bound = (*needed, *[n for n in optional if n in given]) if optional else needed
    if sample_dims:
        _check_sample_dims(sample_dims, bound, who)
    if len(given) > len(bound) and optional and not torch.compiler.is_compiling():
        warn_of_slips(given, optional, who)
    scope = Scope(Evaluation(watch, starting=starting, checks=checks), {}, 1)
    outer: dict[int, int] = {}
    batches: list[int] = []
    tensors = as_tensors(given, bound, who)
    for name in bound:
        tensor = tensors[name]
        need_dense(tensor, who, name)
        extra = sample_dims[name] if sample_dims and name in sample_dims else 0
        if extra and tensor.ndim <= extra:
            raise ShapeError(f"{who}: {name} has shape {tuple(tensor.shape)}, too few dims for {extra} sample dims and a batch.")
        dims = (BATCH,) if tensor.ndim else ()
        for i in range(extra):  # the i-th sample dim, counted from the batch outwards, is the same for all
            size = tensor.shape[extra - 1 - i]
            if i not in outer:
                outer[i] = scope.shared.open_dim(size)
            elif scope.shared.sizes[outer[i]] != size:
                raise ShapeError(f"{who}: {name} has {size} samples where others have {scope.shared.sizes[outer[i]]}.")
            dims = (outer[i], *dims)
        scope.bind(name, tensor, dims)
        if dims:
            batches.append(tensor.shape[extra])
    if batch_size is not None:
        if not is_whole(batch_size) or batch_size < 0:
            raise KindError(f"{who}: batch_size must be a whole number; got {batch_size!r}.")
        if differ([batch_size, *batches]):
            raise ShapeError(f"{who}: batch_size={batch_size}, but the values have batch {', '.join(map(str, sorted(set(batches))))}.")
        scope.batch = batch_size
    elif batches and not differ(batches):
        scope.batch = batches[0]
    return scope


def as_dict(values: Mapping[str, Any] | None) -> Any:
    """Any mapping as a dict: a `TensorDict` iterates over its rows. What is no mapping stays what it is, for `require` to refuse."""
    if type(values) is dict or not (values is None or isinstance(values, Mapping)):
        return values
    return {} if values is None else {name: values[name] for name in values.keys()}  # noqa: SIM118


def with_slopes(values: Any, names: Iterable[str]) -> Any:
    """The values, of which those of these names are differentiable; the user's own tensors stay as they are."""
    if type(values) is not dict:
        return values
    fixed = {n: t for n in names if isinstance(t := values.get(n), Tensor) and t.is_floating_point() and not t.requires_grad}
    return {**values, **{name: tensor.detach().requires_grad_() for name, tensor in fixed.items()}}


def require(values: Mapping[str, Any], needed: Iterable[str], who: object) -> None:
    """Raises an error unless `values` is a mapping that has every needed name."""
    if not isinstance(values, (dict, Mapping)):
        raise KindError(f'{who} takes a mapping from variables to tensors, like {{"x": x}}; got {_kind(values)}.')
    missing = [name for name in needed if name not in values]
    if missing:
        hint = "".join(suggest(name, set(map(str, values)).difference(needed)) for name in missing)
        came = "{" + ", ".join(sorted(repr(k) for k in values)) + "}"
        raise MissingVariableError(f"{who} needs {', '.join(missing)}; got {came}.{hint}")


def warn_of_slips(values: Mapping[str, Any], optional: Iterable[str], who: object) -> None:
    """A warning for a key that is no variable, so that its value is not used, but nearly the name of one that could be given."""
    absent = [name for name in optional if name not in values]
    for key in values if absent else ():
        meant = misspelt(key, absent) if isinstance(key, str) and key not in absent else None
        if meant is not None:
            warnings.warn(f"{who}: {key!r} is no variable of it, so its value is not used. Did you mean {meant!r}?", stacklevel=2)


def as_tensors(values: Mapping[str, Any], names: Iterable[str], who: object) -> dict[str, Tensor]:
    """The values of these names; a number becomes a tensor of rank 0, with the dtype and device of the tensors beside it."""
    given = {name: values[name] for name in names}
    if all([isinstance(v, Tensor) for v in given.values()]):
        return given
    like = next((v for v in given.values() if isinstance(v, Tensor) and v.is_floating_point()), torch.empty(()))
    return {name: _as_tensor(name, v, like, who) for name, v in given.items()}


def _as_tensor(name: str, value: object, like: Tensor, who: object) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if is_number(value):
        return torch.full((), float(value), dtype=like.dtype, device=like.device)
    hint = " Convert it with torch.as_tensor." if isinstance(value, (list, tuple)) or hasattr(value, "__array__") else ""
    raise KindError(f"{who}: the value of {name} must be a tensor; got {_kind(value)}.{hint}")


def _check_sample_dims(sample_dims: Mapping[str, int], names: Iterable[str], who: object) -> None:
    for name, count in sample_dims.items():
        if name not in names:
            raise FormulaError(f"{who}: sample_dims names {name}, which is none of its variables.{suggest(name, names)}")
        if not is_whole(count) or count < 0:
            raise KindError(f"{who}: the number of sample dims of {name} must be a whole number; got {count!r}.")


def _kind(value: object) -> str:
    if isinstance(value, nn.Module):
        return f"the module {type(value).__name__}"
    return f"the {type(value).__name__} {str(value)[:40]!r}" if isinstance(value, str) else f"a {type(value).__name__}"
