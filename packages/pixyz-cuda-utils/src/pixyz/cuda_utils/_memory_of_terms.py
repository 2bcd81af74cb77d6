"""Counts the bytes of each term while a loss is evaluated."""

from collections.abc import Iterable, Mapping
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from pixyz.core import Loss, Term

from ._memory import MemoryTerm


class Allocator:
    """What the allocator of a CUDA device says of its memory.

    `memory_report` asks nothing else of a device, so an object with these methods stands in for one on the CPU.

    Args:
        device: the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def allocated(self) -> int:
        """The bytes of all tensors that are there."""
        return torch.cuda.memory_allocated(self.device)

    def peak(self) -> int:
        """The most bytes that were there at once since `restart`."""
        return torch.cuda.max_memory_allocated(self.device)

    def restart(self) -> None:
        """The peak is counted anew; torch's own number is, too."""
        torch.cuda.reset_peak_memory_stats(self.device)


class _Node:
    """A term that is evaluated, or was."""

    def __init__(self, who: object) -> None:
        self.who = who
        self.parts: list[_Node] = []
        self.live = 0
        self.start = 0
        self.top = 0

    def term(self, *, has_peak: bool, sign: int = 1) -> MemoryTerm:
        """What is told of it; a product of one factor, which says itself twice, once."""
        parts = self.parts
        if len(parts) == 1 and not parts[0].parts and str(parts[0].who) == str(self.who):
            parts = []
        signs = self.who.signs() if isinstance(self.who, Loss) else {}
        terms = [p.term(has_peak=has_peak, sign=signs.get(p.who, 1) if isinstance(p.who, Loss) else 1) for p in parts]
        return MemoryTerm(str(self.who), sign, self.live, self.top - self.start if has_peak else None, tuple(terms))


class Recorder:
    """A watcher that counts bytes. It keeps no tensor, which would count."""

    backward_peak: int | None = None

    def __init__(self) -> None:
        self.root = _Node(None)
        self.open = [self.root]

    def enter(self, who: object) -> None:
        node = _Node(who)
        self.open[-1].parts.append(node)
        self.open.append(node)

    def drew(self, draw: Any) -> None:
        """The draws are counted with the expectation itself."""

    def leave(self, who: object, term: Term) -> None:
        self.open.pop()


class OfGraph(Recorder):
    """Counts what autograd has saved.

    Args:
        apart: tensors whose storages do not count.
    """

    def __init__(self, apart: Iterable[Tensor]) -> None:
        super().__init__()
        self._apart = {_address(t) for t in apart if _is_plain(t)}
        self._saved: list[tuple[Any, list[_Node]]] = []

    def run(self, loss: Loss, values: Mapping[str, Any] | None, options: Mapping[str, Any]) -> MemoryTerm:
        """Evaluates the loss."""
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(self._pack, _Saved.tensor_of):
            value = Loss.forward(loss, values, watch=self, **options)
        counted = {*self._apart}
        for holder, nodes in self._saved:
            saved = holder()  # None where the graph that had it is gone
            if saved is None or not _is_plain(saved.inner) or (address := _address(saved.inner)) in counted:
                continue
            counted.add(address)
            for node in nodes:
                node.live += saved.inner.untyped_storage().nbytes()
        del value
        return self.root.parts[0].term(has_peak=False)

    def _pack(self, tensor: Tensor) -> "_Saved":
        saved = _Saved(tensor)
        self._saved.append((ref(saved), [*self.open]))
        return saved


class _Saved:
    """A tensor that the graph has saved; it lives as long as the graph does.

    Attributes:
        tensor: the tensor.
        inner: the tensor within it, where a transform such as `torch.func.jvp` has wrapped it.
    """

    __slots__ = ("__weakref__", "inner", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = self.inner = tensor
        functorch: Any = torch._C._functorch  # type: ignore[attr-defined]
        while functorch.is_functorch_wrapped_tensor(self.inner):
            self.inner = functorch.get_unwrapped(self.inner)

    def tensor_of(self) -> Tensor:
        return self.tensor


class OfAllocator(Recorder):
    """Asks the allocator when a term begins and ends."""

    def __init__(self, allocator: Allocator) -> None:
        super().__init__()
        self._allocator = allocator

    def run(self, loss: Loss, values: Mapping[str, Any] | None, options: Mapping[str, Any]) -> MemoryTerm:
        """Evaluates the loss, and takes its gradient."""
        allocator = self._allocator
        before = allocator.allocated()
        allocator.restart()
        with torch.enable_grad():
            value = Loss.forward(loss, values, watch=self, **options)
        weights = [w for w in loss.parameters() if w.requires_grad]
        allocator.restart()
        if value.requires_grad and weights:
            torch.autograd.grad(value.sum(), weights, allow_unused=True)
        self.backward_peak = allocator.peak() - before
        return self.root.parts[0].term(has_peak=True)

    def enter(self, who: object) -> None:
        self._look()
        super().enter(who)
        self.open[-1].start = self.open[-1].top = self._allocator.allocated()

    def leave(self, who: object, term: Term) -> None:
        self._look()
        node = self.open[-1]
        node.live = self._allocator.allocated() - node.start
        super().leave(who, term)

    def _look(self) -> None:
        """The peak since the last look is one of every term that is open."""
        peak = self._allocator.peak()
        for node in self.open:
            node.top = max(node.top, peak)
        self._allocator.restart()


def _is_plain(tensor: Tensor) -> bool:
    """Whether its storage has bytes of its own: not so where torch writes zeros that nobody stored."""
    return tensor.layout is torch.strided and not tensor.is_meta and not tensor._is_zerotensor()


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Of all storages, each once."""
    storages: dict[Any, int] = {}
    for t in tensors:
        key = id(t) if not _is_plain(t) or not t.numel() else _address(t)
        storages[key] = t.numel() * t.element_size() if not _is_plain(t) else t.untyped_storage().nbytes()
    return sum(storages.values())
