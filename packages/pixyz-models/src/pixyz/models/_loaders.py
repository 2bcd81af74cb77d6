"""Data of any kind as a loader whose order is known: what `fit` trains on."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from pixyz.core import KindError, ShapeError, is_whole, seeded

from ._data import Data, columns, items, length, named
from ._order import EpochOrder, Position, share


def make_loader(
    data: Data, split: Iterable[str], who: str, *, batch_size: int | None, names: Sequence[str] | None, position: Position, shuffle: bool
) -> "Loader":
    """What gives the batches of an epoch that are still to come, as mappings.

    Args:
        data: a mapping, a `Dataset`, a `DataLoader`, or anything else that gives batches.
        split: the variables of a mapping that are split.
        who: for the messages.
        batch_size: of a mapping or a dataset; a loader has its own.
        names: the variables that the tensors of a batch are, where it is a tuple.
        position: where in the training we are.
        shuffle: whether the order of a mapping or a dataset is drawn.

    Raises:
        ShapeError: for no data, or variables with unequal numbers of data.
        KindError: for a batch size that is none, or that comes with a loader.
    """
    if isinstance(data, FetchesAhead):
        names = data.names if names is None else names
        loader = make_loader(data.loader, split, who, batch_size=batch_size, names=names, position=position, shuffle=shuffle)
        loader.ahead = data if data.fetches_ahead else None
        return loader
    if isinstance(data, TensorDataset) and names is not None:
        data = named(data.tensors, names, who)
    if not is_in_memory(data):
        if batch_size is not None:
            raise KindError(f"{who}: batch_size={batch_size} is for a mapping or a Dataset; a loader has its batches already.")
        plain = isinstance(data, DataLoader) and _has_plain_order(data)
        batches = _reordered(data, position, who) if plain else _Stream(data, position, who)  # type: ignore[arg-type]
        return Loader(batches, names, who, position)
    batch_size = 64 if batch_size is None else batch_size
    if not is_whole(batch_size) or batch_size < 1:
        raise KindError(f"{who}: batch_size must be a whole number of at least 1; got {batch_size!r}.")
    dataset: Any = _Columns(data, split, who) if isinstance(data, Mapping) else data
    count = _rows_of(dataset, who)
    if not count:
        raise _no_data(who)
    order = EpochOrder(count, batch_size, position, shuffle=shuffle)
    collate: Any = _as_it_is if isinstance(dataset, _Columns) else None
    return Loader(DataLoader(dataset, batch_sampler=order, generator=torch.Generator(), collate_fn=collate), names, who, position)


def is_in_memory(data: Data) -> bool:
    """Whether the data are rows, of which batches are made here."""
    return isinstance(data, Mapping) or (isinstance(data, Dataset) and not isinstance(data, IterableDataset))


@runtime_checkable
class FetchesAhead(Protocol):
    """A loader around another one, from which it fetches batches before they are asked for: `Prefetched` of pixyz.cuda_utils."""

    loader: Any
    names: Sequence[str] | None
    device: torch.device
    fetches_ahead: bool

    def ahead(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches, in their order."""
        ...


class Loader:
    """Batches as mappings.

    Args:
        batches: what gives them.
        names: the variables that the tensors of a tuple are.
        who: for the messages.
        position: where in the training we are.

    Attributes:
        ahead: what fetches them before they are asked for, if there is such a thing.
    """

    ahead: FetchesAhead | None = None

    def __init__(self, batches: "DataLoader[Any] | _Stream", names: Sequence[str] | None, who: str, position: Position) -> None:
        self._batches = batches
        self._names = names
        self._who = who
        self._position = position

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from self._mappings() if self.ahead is None else self.ahead.ahead(self._with_own_seeds())

    def _with_own_seeds(self) -> Iterator[dict[str, Any]]:
        """The batches, each made from a seed of its own: so a dataset that draws has no part in the draws of the steps in between."""
        batches, number, epoch = self._mappings(), self._position.batch, self._position.seed_of_epoch
        while True:
            with seeded(random.Random(f"{epoch}/{number}").getrandbits(63)):
                batch = next(batches, None)
            if batch is None:
                return
            number += 1
            yield batch

    def _mappings(self) -> Iterator[dict[str, Any]]:
        if isinstance(self._batches, DataLoader):  # the seeds of its workers come from here
            self._batches.generator.manual_seed(self._position.seed_of_epoch)  # type: ignore[union-attr]
        for batch in self._batches:
            yield dict(items(named(batch, self._names, self._who)))

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def order(self) -> EpochOrder | None:
        """The order, where it is ours."""
        found = getattr(self._batches, "batch_sampler", None)
        return found if isinstance(found, EpochOrder) else None


class _Columns(Dataset[Any]):
    """The rows of a mapping, by their numbers."""

    def __init__(self, values: Mapping[str, Any], split: Iterable[str], who: str) -> None:
        given = dict(items(values))
        self._given = {v: given[v] for v in split if v in given}
        self._columns = columns(given, split, who)
        if not self._columns:
            raise ShapeError(f"{who}: the mapping has no tensor of a variable of the loss, {', '.join(split) or 'which has none'}.")

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitems__(self, rows: list[int]) -> dict[str, Any]:
        index = torch.tensor(rows)
        return {**self._given, **{v: t[index.to(t.device)] for v, t in self._columns.items()}}


class _Stream:
    """Batches in an order of their own. What it draws from torch's generator when an epoch begins follows from the seed.

    Of several processes, each takes every n-th batch, as many as there are whole rounds.
    """

    def __init__(self, batches: Iterable[Any], position: Position, who: str) -> None:
        if not isinstance(batches, Iterable):
            raise KindError(f"{who}: the data are a mapping, a Dataset or a loader; got a {type(batches).__name__}.")
        self._source = DataLoader(batches, batch_size=None) if isinstance(batches, IterableDataset) else batches
        self._position = position
        self._who = who
        if length(batches) == 0:
            raise _no_data(who)

    def __iter__(self) -> Iterator[Any]:
        rank, processes = self._share()
        with seeded(self._position.seed_of_epoch):
            source = iter(self._source)
            done = [*islice(source, max(self._position.batch * processes, 1))]
        if not done:
            raise _no_data(self._who)
        ahead = done if not self._position.batch else []
        while len(round_ := [*ahead, *islice(source, processes - len(ahead))]) == processes:
            ahead = []
            yield round_[rank]

    def __len__(self) -> int:
        """How many batches are still to come.

        Raises:
            TypeError: where the source does not know; then a progress bar has no end.
        """
        count = length(self._source)
        if count is None:
            raise TypeError(f"{self._who}: the data are a stream, which does not say how many batches it has.")
        return max(count // self._share()[1] - self._position.batch, 0)

    def _share(self) -> tuple[int, int]:
        sampler = getattr(self._source, "sampler", None)
        if isinstance(sampler, DistributedSampler):  # it takes this process's share itself
            sampler.set_epoch(self._position.epoch)
            return 0, 1
        return share()


def _has_plain_order(loader: "DataLoader[Any]") -> bool:
    """Whether a loader goes through its data once, in their order or in a random one."""
    sampler = loader.sampler
    whole = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == len(loader.dataset)  # type: ignore[arg-type]
    )
    return whole and type(loader.batch_sampler) is BatchSampler and loader.batch_size is not None


def _reordered(loader: "DataLoader[Any]", position: Position, who: str) -> "DataLoader[Any]":
    """The same loader, in the order of this epoch."""
    shuffle = isinstance(loader.sampler, RandomSampler)
    count, batch_size = _rows_of(loader.dataset, who), loader.batch_size or 1
    order = EpochOrder(count, batch_size, position, shuffle=shuffle, drop_last=loader.drop_last)
    return DataLoader(
        loader.dataset,
        batch_sampler=order,
        generator=torch.Generator(),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def _rows_of(dataset: object, who: str) -> int:
    count = length(dataset)
    if count is None:
        raise KindError(
            f"{who}: the {type(dataset).__name__} does not say how many data it has, so it has no order that could be drawn. "
            "Give it __len__, or make it an IterableDataset, whose data come as they are."
        )
    return count


def _as_it_is(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch


def _no_data(who: str) -> ShapeError:
    return ShapeError(f"{who}: there are no data. Give at least one batch; a loader that was run through once may be at its end.")
