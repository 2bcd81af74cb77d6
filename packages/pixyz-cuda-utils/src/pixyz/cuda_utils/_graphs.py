"""The few calls of CUDA that graphs are made of."""

from collections.abc import Callable
from typing import Any

import torch


class Graphs:
    """Captures what functions do on one device, and replays it.

    `graphed` asks nothing else of a device, so an object with these methods that records operations and runs them again shows, on the CPU,
    what a graph would compute.

    All graphs of one object are captured on one stream of their own and share one pool of memory: they never run at the same time, and no
    graph reads what another one has left there. They are released together, for a graph that is released alone may take the workspace of
    cuBLAS along, which belongs to the stream.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: Any = None
        self._pool: Any = None

    @property
    def unavailable(self) -> str | None:
        """Why nothing can be captured here; None where it can."""
        if self.device.type != "cuda":
            return f"the model is on {self.device.type}, and CUDA graphs are for CUDA devices"
        return None if torch.cuda.is_available() else "torch finds no CUDA device"

    def warm_up(self, work: Callable[[], object]) -> None:
        """Runs it on the stream of the captures, after all that is queued and before all that will be: lazy initialisation happens here."""
        stream = self._own_stream()
        current = torch.cuda.current_stream(self.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            work()
        current.wait_stream(stream)

    def capture(self, work: Callable[[], object]) -> Callable[[], None]:
        """Records what it does on the device, which is not done yet.

        Returns:
            What does it, on the current stream, without waiting.

        Raises:
            RuntimeError: for an operation that CUDA cannot capture.
        """
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        failed: list[Exception] = []
        try:
            # Loaders and prefetchers copy in threads of their own meanwhile, which they may.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._own_stream(), capture_error_mode="thread_local"):
                try:
                    work()
                except Exception as error:
                    failed.append(error)
                    raise
        except RuntimeError as error:
            # To end a capture that has failed is an error as well, which says nothing.
            raise (failed[0] if failed else error) from None
        return graph.replay

    def _own_stream(self) -> Any:
        if self._stream is None:
            self._stream = torch.cuda.Stream(self.device)
        return self._stream
