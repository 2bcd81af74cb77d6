"""Batches on their way to the device while the step before them runs."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from pixyz.core import KindError, ShapeError, is_whole

from ._streams import Streams


class Prefetched:
    """A loader whose batches are on the device when the training asks for them.

    Each batch is copied into pinned memory, and from there to the device on a stream of its own, while the step before it runs. The step
    waits for its copy on the device; the host waits for nothing but steps more than `depth` batches ago, so that the memory of at most
    about `2 * depth + 1` batches is taken. `fit` and `train` find the tensors where they need them, and copy nothing again.

    The position of a training counts the batches that it was given, not those on their way, so `fit(..., resume=...)` goes on bit for bit.
    That is so where a dataset draws random numbers too: in `fit` each batch is made from a seed of its own, of the epoch and its number.
    (Workers draw from seeds of theirs, which begin anew in the middle of an epoch that is resumed, as they do without `Prefetched`.)

    On the CPU it *is* the loader: iterating gives the loader's own batches, unchanged, and nothing is fetched ahead. On a device without
    streams (MPS) a batch is moved when it is asked for.

    Args:
        loader: what gives batches that are mappings from variables to tensors, like a `DataLoader`.
        device: where they go. `"cuda"` is the current CUDA device at the time of iterating, which is each process's own under DDP.
        depth: how many batches are on their way while one is trained on.
        names: the variables that the tensors of a batch are, where it is a tuple or a list.
        streams: the calls of the device, if not its own; with these, batches go ahead on the CPU too.

    Attributes:
        position: how many batches of this pass were given out.

    Raises:
        KindError: for what is no loader, a device that is not there, or, while iterating, a batch that is no mapping and has no names.
        ShapeError: while iterating, for a batch of another number of tensors than names.

    Examples:
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> loader = DataLoader(TensorDataset(torch.arange(6.0)), batch_size=2)
        >>> batches = Prefetched(loader, "cpu", names=["x"])
        >>> [values["x"].tolist() for values in batches]
        [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
        >>> print(batches)
        Prefetched(DataLoader of 3 batches): on the CPU it is the loader; on a GPU, 2 batches would be on their way while one is trained on
    """

    def __init__(
        self,
        loader: Iterable[Any],
        device: torch.device | str | int,
        depth: int = 2,
        *,
        names: Sequence[str] | None = None,
        streams: Streams | None = None,
    ) -> None:
        if isinstance(loader, (Mapping, Tensor)) or (isinstance(loader, Dataset) and not isinstance(loader, IterableDataset)):
            raise KindError(
                f"Prefetched takes a loader, which gives batches; a {type(loader).__name__} has rows. "
                "Give DataLoader(dataset, batch_size=64)."
            )
        if not isinstance(loader, Iterable):
            raise KindError(f"Prefetched takes a loader, which gives batches; got a {type(loader).__name__}.")
        if not is_whole(depth) or depth < 1:
            raise KindError(f"Prefetched: depth is how many batches are on their way, at least 1; got {depth!r}.")
        if isinstance(names, str):
            raise KindError(f"Prefetched: names is a list of variables, like [{names!r}]; got the text {names!r}.")
        self.loader = loader
        self.device = _device(device)
        self.depth = depth
        self.names = names
        self.position = 0
        self._streams = streams
        self._side: dict[torch.device, Any] = {}
        self._state: Any = None
        if streams is None:
            _need_device(self.device)

    def __iter__(self) -> Iterator[Any]:
        self.position, self._state = 0, None
        yield from self.ahead(self._mappings())

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        """What else the loader has: its `dataset`, `batch_size` or `sampler`."""
        if name.startswith("__") or "loader" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.loader, name)

    @property
    def fetches_ahead(self) -> bool:
        """Whether batches are on their way before they are asked for: not on a device without streams, such as the CPU."""
        return self._streams is not None or Streams.are_there(self.device)

    def ahead(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches, moved, each while the one before it is trained on.

        `fit` gives those that are still to come of an epoch in an order of its own.
        """
        if not self.fetches_ahead:
            for batch in batches:
                self.position += 1
                yield batch if self.device.type == "cpu" else _each_tensor(batch, lambda t: t.to(self.device))
        else:
            for batch, state in self._flight().run(batches, self._snapshot):
                self.position += 1
                self._state = state
                yield batch

    def state_dict(self) -> Any:
        """The state of a loader that has one, as it was when the last batch that was given out was fetched.

        Raises:
            AttributeError: if the loader has none; `fit` knows the position of any loader.
        """
        return self.loader.state_dict() if self._state is None else self._state  # type: ignore[attr-defined]

    def load_state_dict(self, state: Any) -> None:
        """Goes on from what `state_dict` gave, with the next pass.

        Raises:
            AttributeError: if the loader has no state.
        """
        self.loader.load_state_dict(state)  # type: ignore[attr-defined]
        self._state = None

    def __str__(self) -> str:
        with suppress(TypeError, NotImplementedError):
            count = len(self)
            return f"Prefetched({type(self.loader).__name__} of {count} batch{'es' * (count != 1)}): {self._how}"
        return f"Prefetched({type(self.loader).__name__}): {self._how}"

    __repr__ = __str__

    @property
    def _how(self) -> str:
        some = f"{self.depth} batch{'es' * (self.depth != 1)}"
        if self.fetches_ahead:
            verb = "is" if self.depth == 1 else "are"
            return f"{some} {verb} on the way to {self.device} while one is trained on, from pinned memory, on a stream of their own"
        if self.device.type == "cpu":
            return f"on the CPU it is the loader; on a GPU, {some} would be on their way while one is trained on"
        return f"{self.device} has no streams, so a batch is moved when it is asked for"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_side": {}}  # a stream belongs to its process

    def _flight(self) -> "_Flight":
        streams = self._streams or Streams(_indexed(self.device))
        # One stream for all passes: the allocator keeps memory for each stream apart.
        if streams.device not in self._side:
            self._side[streams.device] = streams.new()
        return _Flight(streams, self._side[streams.device], self.depth)

    def _mappings(self) -> Iterator[Any]:
        for batch in self.loader:
            yield self._mapping(batch)

    def _mapping(self, batch: Any) -> Any:
        if isinstance(batch, Mapping):
            return batch
        who = type(self.loader).__name__
        if self.names is None:
            raise KindError(
                f'Prefetched: a batch is a mapping from variables to tensors, like {{"x": x}}; the {who} gave {_said(batch)}. '
                'Say which variables its tensors are: Prefetched(loader, device, names=["x", "y"]).'
            )
        parts = [batch] if isinstance(batch, Tensor) else [*batch]
        if len(parts) != len(self.names):
            raise ShapeError(f"Prefetched: the {who} gave {_said(batch)}, but the names are {[*self.names]}. Give one name for each.")
        return dict(zip(self.names, parts, strict=True))

    def _snapshot(self) -> Any:
        state_dict = getattr(self.loader, "state_dict", None)
        return None if state_dict is None else state_dict()


@dataclass
class _Copied:
    """A batch on its way.

    Attributes:
        batch: the batch, its tensors those on the device.
        moved: the tensors that are copied, there.
        sources: what they are copied from, kept until the copies are done.
        event: happens when they are; None where nothing was copied.
        is_borrowed: whether a source is the loader's own pinned memory, which the loader may fill again.
        state: that of the loader.
        error: what the loader raised in place of a batch.
    """

    batch: Any
    moved: list[Tensor]
    sources: list[Tensor]
    event: Any = None
    is_borrowed: bool = False
    state: Any = None
    error: Exception | None = None


class _Flight:
    """One pass over a loader, some batches ahead."""

    def __init__(self, streams: Streams, side: Any, depth: int) -> None:
        self._streams = streams
        self._side = side
        self._depth = depth

    def run(self, batches: Iterable[Any], snapshot: Any) -> Iterator[tuple[Any, Any]]:
        """Each batch, with the state of the loader when it was fetched."""
        streams, source = self._streams, iter(batches)
        waiting: deque[_Copied] = deque()
        steps: deque[Any] = deque()
        is_at_end = False
        try:
            while True:
                while len(waiting) <= self._depth and not is_at_end:
                    if waiting and waiting[-1].is_borrowed:
                        streams.synchronize(waiting[-1].event)
                    found = self._fetch(source, snapshot)
                    is_at_end = found is None or found.error is not None
                    waiting += [] if found is None else [found]
                if not waiting:
                    return
                first = waiting.popleft()
                if first.error is not None:
                    raise first.error
                self._hand_over(first)
                yield first.batch, first.state
                del first
                # Memory of steps that are not done cannot be taken again, so the host does not run further ahead than this.
                steps.append(streams.record(streams.current()))
                if len(steps) > self._depth:
                    streams.synchronize(steps.popleft())
        finally:
            streams.synchronize(streams.record(self._side))  # nothing is on its way any more
            waiting.clear()
            close = getattr(source, "close", None)
            if close is not None:
                close()

    def _fetch(self, source: Iterator[Any], snapshot: Any) -> _Copied | None:
        """The next batch on its way, or the error that came in its place; None at the end."""
        try:
            batch = next(source)
            copied = _Copied(batch, [], [], state=snapshot())
            copied.batch = _each_tensor(batch, lambda t: self._moved(t, copied))
        except StopIteration:
            return None
        except Exception as error:
            return _Copied(None, [], [], error=error)
        if copied.moved:
            copied.event = self._streams.record(self._side)
        return copied

    def _moved(self, tensor: Tensor, copied: _Copied) -> Tensor:
        streams = self._streams
        if tensor.device.type != "cpu":
            return tensor if tensor.device == streams.device else tensor.to(streams.device)
        if streams.is_pinned(tensor):
            copied.is_borrowed = True
        elif tensor.layout is torch.strided:
            tensor = streams.pin(tensor)
        copied.sources.append(tensor)
        copied.moved.append(moved := streams.copy(tensor, self._side))
        return moved

    def _hand_over(self, copied: _Copied) -> None:
        """From now on the batch is the training's, on the stream where that is."""
        if copied.event is None:
            return
        current = self._streams.current()
        self._streams.wait(current, copied.event)
        for tensor in copied.moved:
            self._streams.hold(tensor, current)


def _each_tensor(value: Any, change: Any) -> Any:
    """The same mappings, lists and tuples with other tensors; what else there is stays."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each_tensor(value[key], change) for key in value.keys()}  # noqa: SIM118 - a TensorDict iterates over its rows
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[_each_tensor(v, change) for v in value])
    return type(value)([_each_tensor(v, change) for v in value]) if type(value) in (list, tuple) else value


def _device(device: object) -> torch.device:
    try:
        return torch.device(device)  # type: ignore[arg-type]
    except (RuntimeError, TypeError) as error:
        accelerator = torch.accelerator.current_accelerator()
        here = ["cpu"] if accelerator is None else ["cpu", accelerator.type]
        raise KindError(
            f'Prefetched: device must be one of torch, like "cpu", "cuda", "cuda:1" or "mps"; got {device!r}. '
            f"Torch finds {' and '.join(here)} here."
        ) from error


def _indexed(device: torch.device) -> torch.device:
    """The device with its number: without one it is the current one."""
    return device if device.index is not None else torch.device(device.type, torch.get_device_module(device.type).current_device())


def _need_device(device: torch.device) -> None:
    if device.type in ("cpu", "meta"):
        return
    try:
        module = torch.get_device_module(device.type)
    except RuntimeError as error:
        raise KindError(
            f'Prefetched: the device is {device}, of which this torch has none. On the CPU, say Prefetched(loader, "cpu").'
        ) from error
    count = module.device_count() if hasattr(module, "device_count") else 1
    is_there = getattr(module, "is_available", lambda: True)()
    if not is_there or (device.index or 0) >= count:
        has = f"{count} such device{'s' * (count != 1)}" if is_there and count else "none here"
        raise KindError(f'Prefetched: the device is {device}, and torch finds {has}. On the CPU, say Prefetched(loader, "cpu").')


def _said(batch: Any) -> str:
    if isinstance(batch, Tensor):
        return f"a tensor of shape {tuple(batch.shape)}"
    if isinstance(batch, (list, tuple)):
        tensors = sum(isinstance(part, Tensor) for part in batch)
        what = "tensor" if tensors == len(batch) else "entry"
        return f"a {type(batch).__name__} of {len(batch)} {what if len(batch) == 1 else 'tensors' if what == 'tensor' else 'entries'}"
    return f"a {type(batch).__name__}"
