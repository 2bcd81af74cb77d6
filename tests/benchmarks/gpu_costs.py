"""What a step costs on a device: milliseconds, launches, synchronisations, memory; needs nothing but torch."""

import gc
import random
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode

Step = Callable[[Tensor], object]

MEASURED = "the steps that are counted"

HOST_READS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim")
"""Operations whose result the host waits for: a number, or a shape that follows from the data."""


def wait_for(device: torch.device) -> None:
    """Waits until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_steps(step: Step, batches: Sequence[Tensor], count: int) -> None:
    """So many steps, each with the next batch."""
    for x in islice(cycle(batches), count):
        step(x)


def milliseconds(
    steps: Mapping[str, Step], batches: Sequence[Tensor], device: torch.device, *, count: int, rounds: int, until: float = float("inf")
) -> dict[str, list[float]]:
    """Milliseconds a step, one number for each round; in each round all rows take their turns, in a new order.

    On the CPU they are of the process's time, which other processes do not lengthen; a step has one thread there, and never waits.

    Args:
        steps: the rows.
        batches: their data.
        device: where they run; the clock is read when it has nothing left to do.
        count: how many steps a turn has.
        rounds: how many rounds there are at most.
        until: when `time.monotonic()` is past this, no further round begins; there is always one.
    """
    shuffler = random.Random(0)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    taken: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    for _ in range(rounds):
        shuffler.shuffle(order)
        for name in order:
            wait_for(device)
            start = clock()
            run_steps(steps[name], batches, count)
            wait_for(device)
            taken[name].append((clock() - start) / count * 1e3)
        if time.monotonic() > until:
            break
    return taken


class Memory(NamedTuple):
    """The memory of a device before a row is made; None on the CPU, whose allocator does not count."""

    device: torch.device
    before: int | None

    def peak(self) -> float | None:
        """MiB at the most since then, of tensors that have been made since then."""
        return None if self.before is None else (torch.cuda.max_memory_allocated(self.device) - self.before) / 2**20


def memory_from_now(device: torch.device) -> Memory:
    """From now on the allocator looks for the peak."""
    if device.type != "cuda":
        return Memory(device, None)
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return Memory(device, torch.cuda.memory_allocated(device))


def synchronisations(step: Step, batches: Sequence[Tensor], device: torch.device, *, count: int) -> float:
    """How often the host waits in a step: on CUDA what torch's debug mode finds, on the CPU how often the host reads a tensor."""
    if device.type != "cuda":
        with CountedOperations() as counted:
            run_steps(step, batches, count)
        return sum(counted.found[name] for name in HOST_READS) / count
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with sync_warnings():
            run_steps(step, batches, count)
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught) / count


@contextmanager
def sync_warnings() -> Iterator[None]:
    """Inside, torch warns of each operation for which the host waits."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class CountedOperations(TorchDispatchMode):
    """Counts the operations inside by name, but for those that compute nothing: views, and memory that is not filled."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        if func.namespace == "aten" and not is_view and not name.startswith("empty") and name != "_unsafe_view":
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


class Launches(NamedTuple):
    """What a step gives to the device.

    Attributes:
        calls: calls of the host that launch a kernel, a graph, a copy or a fill; on the CPU the operations that are no views.
        kernels: kernels, copies and fills that the device runs; None on the CPU.
        waits: calls with which the host waits for the device, and copies from or to memory that is not pinned; None on the CPU.
    """

    calls: float
    kernels: float | None = None
    waits: float | None = None


def launches(step: Step, batches: Sequence[Tensor], device: torch.device, *, count: int) -> Launches:
    """The launches of a step.

    On CUDA torch's profiler counts them. After that CUDA may stay slower, so times are taken before.

    Raises:
        RuntimeError: if the profiler sees nothing of the device.
    """
    if device.type != "cuda":
        with CountedOperations() as counted:
            run_steps(step, batches, count)
        return Launches(sum(counted.found.values()) / count)
    wait_for(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as watched:
        with record_function(MEASURED):
            run_steps(step, batches, count)
        wait_for(device)
    return launches_in(watched.events() or [], count)


def launches_in(events: Sequence[Any], count: int) -> Launches:
    """The launches of a step, from the profiler's events of several, of which those inside `MEASURED` count."""
    on_device = [e for e in events if e.device_type == DeviceType.CUDA and not e.is_user_annotation and e.name != MEASURED]
    if not on_device:
        raise RuntimeError("The profiler saw no kernel: CUPTI is missing, or may not be used here.")
    on_host = [e for e in events if e.device_type == DeviceType.CPU]
    (inside,) = [e.time_range for e in on_host if e.name == MEASURED]
    calls = [e.name for e in on_host if e.name.startswith("cu") and inside.start <= e.time_range.start <= inside.end]
    launched = sum(any(word in name for word in ("LaunchKernel", "GraphLaunch", "Memcpy", "Memset")) for name in calls)
    waits = sum("Synchronize" in name for name in calls) + sum("Pageable" in e.name for e in on_device)
    return Launches(launched / count, len(on_device) / count, waits / count)
