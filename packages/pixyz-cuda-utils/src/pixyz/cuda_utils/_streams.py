"""The few calls of an accelerator that copies ahead of a training are made of."""

from typing import Any

import torch
from torch import Tensor


class Streams:
    """The streams, events and copies of one device.

    `Prefetched` asks nothing else of a device, so an object with these methods that keeps a log shows, on the CPU, in which order it asks.

    Args:
        device: a CUDA device, or another whose module of torch has `Stream`, `stream` and `Event`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._module: Any = torch.get_device_module(device.type)

    @staticmethod
    def are_there(device: torch.device) -> bool:
        """Whether this kind of device has streams: CUDA, ROCm and XPU do, the CPU and MPS do not."""
        if device.type in ("cpu", "meta"):
            return False
        module = torch.get_device_module(device.type)
        return all([hasattr(module, name) for name in ("Stream", "stream", "Event", "current_stream")])

    def new(self) -> Any:
        """A stream beside the current one."""
        return self._module.Stream(self.device)

    def current(self) -> Any:
        """The stream on which the training is at the moment."""
        return self._module.current_stream(self.device)

    def is_pinned(self, tensor: Tensor) -> bool:
        """Whether the memory of a tensor on the CPU is pinned already, by the loader."""
        return tensor.is_pinned()

    def pin(self, tensor: Tensor) -> Tensor:
        """A copy in pinned memory, from which the device reads without the host."""
        return tensor.pin_memory()

    def copy(self, tensor: Tensor, stream: Any) -> Tensor:
        """The tensor on the device; the copy is queued on the stream, and the host does not wait for it."""
        with self._module.stream(stream):
            return tensor.to(self.device, non_blocking=True)

    def record(self, stream: Any) -> Any:
        """An event that happens when all that is queued on the stream so far is done."""
        event = self._module.Event()
        event.record(stream)
        return event

    def wait(self, stream: Any, event: Any) -> None:
        """What is queued on the stream from now on begins after the event; the host does not wait."""
        stream.wait_event(event)

    def hold(self, tensor: Tensor, stream: Any) -> None:
        """The memory of the tensor is not given to another before what is queued on the stream by then is done."""
        tensor.record_stream(stream)

    def synchronize(self, event: Any) -> None:
        """The host waits for the event."""
        event.synchronize()
