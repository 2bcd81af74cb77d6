"""Streams that are lists: what is queued on one happens when somebody waits for it, and not before."""

import math
from dataclasses import dataclass, field

import torch

from pixyz.cuda_utils import Streams


@dataclass(eq=False)
class Stream:
    """Copies that were queued, and how many of them are done."""

    name: str
    queued: list = field(default_factory=list)
    done: int = 0

    def run(self, until):
        while self.done < until:
            self.queued[self.done]()
            self.done += 1


class LoggedStreams(Streams):
    """A device with two streams; a copy holds nan until its event was waited for, as memory that nobody has written yet.

    Attributes:
        log: what was asked for, in order.
    """

    def __init__(self, device="cpu", *, loader_pins=False):
        self.device = torch.device(device)
        self.log = []
        self.training = Stream("training")
        self.side = None
        self.copies = []
        self._loader_pins = loader_pins

    def new(self):
        self.log.append("new")
        self.side = Stream("side")
        return self.side

    def current(self):
        return self.training

    def is_pinned(self, tensor):
        return self._loader_pins

    def pin(self, tensor):
        self.log.append("pin")
        return tensor.clone()

    def copy(self, tensor, stream):
        self.log.append(f"copy on {stream.name}")
        copied = torch.full_like(tensor, math.nan if tensor.is_floating_point() else -1, device=self.device)
        stream.queued.append(lambda: copied.copy_(tensor))
        self.copies.append(copied)
        return copied

    def record(self, stream):
        self.log.append(f"record on {stream.name}")
        return stream, len(stream.queued)

    def wait(self, stream, event):
        self.log.append(f"{stream.name} waits for {event[0].name}")
        event[0].run(event[1])

    def hold(self, tensor, stream):
        self.log.append(f"hold for {stream.name}")

    def synchronize(self, event):
        self.log.append(f"host waits for {event[0].name}")
        event[0].run(event[1])

    @property
    def on_their_way(self):
        """How many copies are not done."""
        return len(self.side.queued) - self.side.done
