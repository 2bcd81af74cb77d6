"""Reproducible draws without touching the process-wide generator for good."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

_ONE_AT_A_TIME = RLock()
"""Torch's generators belong to the process, so one thread at a time may start them from a seed and put them back."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's generators start from `seed`; afterwards they are where they were.

    Another thread that enters meanwhile waits until this one has left, so each draws what its seed says. A thread that draws without
    `seeded` uses the same generators, for they belong to the process: keep such draws out of the time in which another thread is inside.

    Examples:
        >>> import torch
        >>> with seeded(0):
        ...     a = torch.rand(())
        >>> with seeded(0):
        ...     b = torch.rand(())
        >>> bool(a == b)
        True
    """
    with _ONE_AT_A_TIME, torch.random.fork_rng([*range(torch.cuda.device_count())]):  # said, for else torch warns where there are several
        torch.manual_seed(seed)
        yield


RandomState = tuple[torch.Tensor, torch.Tensor | None]
"""The states of the CPU's and of the GPU's generator."""


def random_state(device: torch.device) -> RandomState:
    """The state of the generators from which draws on this device come."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Puts back what `random_state` gave."""
    cpu, cuda = state
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state(cuda, device)
