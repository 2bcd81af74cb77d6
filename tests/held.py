"""What a process holds in memory after more and more steps of a training."""

import ctypes
import ctypes.util
import gc
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from lightning.pytorch import Callback
from trainings import Training

from pixyz.models import Model

EPOCH = 500
"""Batches of an epoch where many steps are taken: `fit` keeps a few numbers of each epoch, which are meant to stay."""


class Held(NamedTuple):
    """What is alive; of a growth, the difference of two of these."""

    tensors: float
    """Tensors that Python knows."""
    blocks: float
    """Blocks of Python's allocator: an entry of a list or a dict that stays takes one or two."""
    allocated: float
    """Bytes that C and C++ have allocated: tensors' data, graphs of gradients. 0 where the C library does not say."""
    resident: float
    """Bytes of the process that are in memory; 0 where the system does not say."""

    def __sub__(self, other: "Held") -> "Held":  # type: ignore[override]
        return Held(*(a - b for a, b in zip(self, other, strict=True)))

    def per(self, steps: float) -> "Held":
        """The same for each of so many steps."""
        return Held(*(a / steps for a in self))


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
if _LIBC is not None and hasattr(_LIBC, "mallinfo2"):
    _LIBC.mallinfo2.restype = _Mallinfo


def held() -> Held:
    """What is alive now, after the garbage has been collected. Call `gc.freeze()` before the first time, or it takes long."""
    gc.collect()
    tensors = sum([issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()])
    allocated = 0
    if _LIBC is not None and hasattr(_LIBC, "mallinfo2"):
        info = _LIBC.mallinfo2()
        allocated = info.uordblks + info.hblkhd
    resident = 0
    if sys.platform == "linux":
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Held(tensors, sys.getallocatedblocks(), allocated, resident)


class _Looking(Callback):
    """Looks at what is held when the model has made certain numbers of steps."""

    def __init__(self, model: Model, at: Collection[int]) -> None:
        self.model, self.at = model, {*at}
        self.seen: list[Held] = []

    def on_train_batch_end(self, *args: object) -> None:
        if self.model.step_count in self.at:
            self.at.discard(self.model.step_count)
            self.seen.append(held())


def held_by_fit(training: Training, at: Collection[int]) -> list[Held]:
    """What is held after these numbers of steps of `fit`, or of the loop by hand, which save every thousand steps."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        model = training.model()
        looking = _Looking(model, at)
        calls = max(at) * training.calls
        batches = min(calls, EPOCH)
        training.run(model, Path(folder), epochs=-(-calls // batches), callbacks=[looking], batches=batches, save_every=1000)
    return looking.seen


def held_by_train(training: Training, at: Collection[int]) -> list[Held]:
    """What is held after these numbers of steps of `model.train`, for ten batches over and over."""
    model, batches = training.model(), [training.batch(number) for number in range(10)]
    looking = _Looking(model, at)
    with training.around():
        for call in range(max(at) * training.calls):
            model.train(batches[call % len(batches)])
            looking.on_train_batch_end()
    return looking.seen


def growth(hold: Callable[[Training, Collection[int]], list[Held]], training: Training, first: int, last: int) -> Held:
    """What is held in addition after each step from the first to the last of these numbers."""
    gc.collect()
    gc.freeze()
    try:
        before, after = hold(training, [first, last])
    finally:
        gc.unfreeze()
    return (after - before).per(last - first)
