"""A row of the table of reference values: a loss, its data, and what is computed of them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pixyz.core import Loss, seeded

SEED = 0
BATCH = 3


class Row(NamedTuple):
    """A loss at its data.

    Attributes:
        loss: the loss, built in float64; or what is estimated as one is.
        values: its data; those that require a gradient are differentiated as the parameters are.
        batch_size: the batch of a loss without data.
        trained: the part of the loss whose parameters are differentiated; the whole, if not given.
    """

    loss: "Loss | Computed"
    values: Mapping[str, Tensor] = MappingProxyType({})
    batch_size: int | None = None
    trained: nn.Module | None = None


class Computed(nn.Module):
    """Numbers that a function of the data computes, in the place of a loss.

    Args:
        function: takes the data, and returns the numbers.
        parts: the modules that it uses.
    """

    needs_start = False

    def __init__(self, function: Callable[[Mapping[str, Tensor]], Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def estimate(self, values: Mapping[str, Tensor], *, batch_size: int | None = None) -> Tensor:
        return self.function(values)


class Evaluated(NamedTuple):
    """What a row comes to.

    Attributes:
        value: that of the loss, `(N,)`.
        gradients: of the weighted sum of the values, for every parameter and datum that is differentiated, by its name.
        buffers: those that the evaluation changed, by name: running averages and flags.
    """

    value: Tensor
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]


@contextmanager
def in_float64() -> Iterator[None]:
    """Float64 as the default dtype, and one thread, for the order of a sum depends on their number."""
    kind, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_default_dtype(kind)
        torch.set_num_threads(threads)


def evaluated(make: Callable[[], Row], device: torch.device | None = None) -> Evaluated:
    """Builds a row from the seed, moves it to a device, if one is given, and evaluates it from the seed, once. The numbers come back."""
    with in_float64():
        with seeded(SEED):
            row = make()
            if row.loss.needs_start:
                row.loss.initialize(row.values, batch_size=row.batch_size)
        row = row if device is None else _moved(row, device)
        before = {k: b.clone() for k, b in row.loss.named_buffers()}
        with seeded(SEED + 1):
            value = row.loss.estimate(row.values, batch_size=row.batch_size).reshape(-1)
            gradients = _gradients(row, value)
    buffers = {k: b.detach().double().cpu() for k, b in row.loss.named_buffers() if not torch.equal(b, before[k])}
    return Evaluated(value.detach().cpu(), {k: g.cpu() for k, g in gradients.items()}, buffers)


def _moved(row: Row, device: torch.device) -> Row:
    values = {k: v.detach().to(device).requires_grad_(v.requires_grad) for k, v in row.values.items()}
    return row._replace(loss=row.loss.to(device), values=values)


def _gradients(row: Row, value: Tensor) -> dict[str, Tensor]:
    trained = row.loss if row.trained is None else row.trained
    wrt = {**dict(trained.named_parameters()), **{k: v for k, v in row.values.items() if v.requires_grad}}
    wrt = {k: t for k, t in wrt.items() if t.requires_grad}
    if not wrt or not value.requires_grad:
        return {k: torch.zeros_like(t) for k, t in wrt.items()}
    weights = 2.0 ** torch.arange(value.numel(), device=value.device)  # so that data that change places do not go unnoticed
    found = torch.autograd.grad((weights * value).sum(), [*wrt.values()], allow_unused=True)
    return {k: torch.zeros_like(t) if g is None else g for (k, t), g in zip(wrt.items(), found)}


def wave(*shape: int, shift: float = 0.0) -> Tensor:
    """Data between -1 and 1 that need no generator."""
    count = torch.Size(shape).numel()
    return torch.sin(1.7 * torch.arange(count, dtype=torch.float64) + 0.4 + shift).reshape(shape)


def f64(*numbers: object) -> Tensor:
    return torch.tensor(numbers[0] if len(numbers) == 1 else numbers, dtype=torch.float64)


def free(*numbers: object) -> nn.Parameter:
    """Numbers that are trained."""
    return nn.Parameter(f64(*numbers))


def differentiated(t: Tensor) -> Tensor:
    return t.detach().clone().requires_grad_()


class Stacked(nn.Module):
    """A network of several variables, side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.net = nn.Linear(inputs, outputs)

    def forward(self, *given: Tensor, **named: Tensor) -> Tensor:
        return self.net(torch.cat([*given, *named.values()], -1))
