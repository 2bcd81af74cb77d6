"""Data in batches, on the model's device."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pixyz.core import KindError, ShapeError, is_whole

Data = Mapping[str, Any] | Iterable[Any]


def on_device(values: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The values, tensors moved; dtypes stay."""
    return {v: value.to(device) if isinstance(value, Tensor) else value for v, value in items(values)}


def batches(
    data: Data, split: Iterable[str], who: str, *, batch_size: int | None, names: Sequence[str] | None, device: torch.device
) -> Iterator[dict[str, Any]]:
    """The data as mappings, a batch each, with a progress bar for what takes more than two seconds.

    Args:
        data: a mapping, or something that gives batches, like a `DataLoader`.
        split: the variables of a mapping that are split; numbers, tensors of rank 0 and what the formula does not use stay whole.
        who: for the messages.
        batch_size: of the parts of a mapping; all at once if None.
        names: the variables that the tensors of a batch are, where it is a tuple.
        device: where the values go.

    Raises:
        ShapeError: for no data, or variables of a mapping with unequal batches.
        KindError: for a batch that is no mapping and has no names.
    """
    from tqdm.auto import tqdm  # needed by a loop over batches, and by no single step

    parts: Iterable[Any] = _parts(data, split, who, batch_size) if isinstance(data, Mapping) else data
    empty = True
    each = (part for part in parts)  # which tqdm does not ask for its length
    for part in tqdm(each, total=length(parts), desc=who, unit="batch", delay=2, leave=False, disable=None):
        empty = False
        yield on_device(named(part, names, who), device)
    if empty:
        raise ShapeError(f"{who}: there are no data. Give at least one batch; a loader that was run through once may be at its end.")


def length(data: object) -> int | None:
    """How many there are; None where the data do not say, as an `IterableDataset`, also in a loader, does not."""
    try:
        return len(data)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


def batch_of(values: Mapping[str, Any], variables: Iterable[str]) -> int:
    """The batch of the first of these variables that has one; 1 if none has."""
    return next((len(values[v]) for v in variables if isinstance(values.get(v), Tensor) and values[v].ndim), 1)


def columns(given: Mapping[str, Any], split: Iterable[str], who: str) -> dict[str, Tensor]:
    """The tensors of a mapping that are split together; numbers and tensors of rank 0 stay whole.

    Raises:
        ShapeError: if they have unequal numbers of data.
    """
    tensors = {v: given[v] for v in dict.fromkeys(split) if isinstance(given.get(v), Tensor) and given[v].ndim}
    if len({len(t) for t in tensors.values()}) > 1:
        said = ", ".join(f"{v} has {len(t)} data" for v, t in tensors.items())
        raise ShapeError(f"{who}: {said}, so they cannot be split together. Give a loader of what belongs together.")
    return tensors


def _parts(values: Mapping[str, Any], split: Iterable[str], who: str, batch_size: int | None) -> Sequence[dict[str, Any]]:
    given = dict(items(values))
    tensors = {v: given[v] for v in dict.fromkeys(split) if isinstance(given.get(v), Tensor) and given[v].ndim}
    if tensors and not max(map(len, tensors.values())):
        return []
    if batch_size is None or not tensors:
        return [given]
    if not is_whole(batch_size) or batch_size < 1:
        raise KindError(f"{who}: batch_size must be a whole number of at least 1, or None for all at once; got {batch_size!r}.")
    rows = zip(*[t.split(batch_size) for t in columns(given, tensors, who).values()])
    return [{**given, **dict(zip(tensors, row))} for row in rows]


def named(part: Any, names: Sequence[str] | None, who: str) -> Mapping[str, Any]:
    """A batch as a mapping.

    Raises:
        KindError: for a batch that is no mapping and has no names.
        ShapeError: for another number of tensors than names.
    """
    if isinstance(part, Mapping):
        return part
    if names is None:
        raise KindError(
            f'{who}: a batch is a mapping from variables to tensors, like {{"x": x}}; got a {type(part).__name__}. '
            'Say which variables its tensors are, like names=["x", "y"].'
        )
    columns = [part] if isinstance(part, Tensor) else list(part)
    if isinstance(names, str) or len(columns) != len(names):
        raise ShapeError(f"{who}: a batch has {len(columns)} tensors, but the names are {names!r}. Give one name for each.")
    return dict(zip(names, columns))


def items(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The items of any mapping."""
    return [(v, values[v]) for v in values.keys()]  # noqa: SIM118 - a TensorDict iterates over its rows
