"""Losses and gradients that are not finite: found before the step on the CPU, and on the device elsewhere."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pixyz.core import Loss, NonFiniteLossError

from ._diagnosis import RandomState, name_nonfinite

RUN_AHEAD = 4


class Evaluated(NamedTuple):
    """What it takes to evaluate a loss again, with the same draws."""

    values: Mapping[str, Any]
    options: Mapping[str, Any]
    state: RandomState


class _Pending(NamedTuple):
    flags: Tensor
    event: Any
    evaluated: Evaluated


def reading_is_free(device: torch.device) -> bool:
    """Whether the host may read a number of this device without waiting."""
    return device.type == "cpu"


class HostCheck:
    """On the CPU: an error before the gradients are taken, or before the step.

    Args:
        loss: the loss.
        weights: what is trained, by name.
    """

    def __init__(self, loss: Loss, weights: Mapping[str, nn.Parameter]) -> None:
        self._loss = loss
        self._weights = weights
        self._find = NonFinite(weights.values())

    def see_loss(self, value: Tensor, evaluated: Evaluated) -> None:
        """Raises `NonFiniteLossError` unless the loss is finite."""
        if not math.isfinite(value.item()):
            raise loss_error(self._loss, evaluated, "The optimiser has not stepped.")

    def see_gradients(self) -> Tensor | None:
        """Raises `NonFiniteLossError` unless all gradients are finite."""
        if any([flag.item() for flag in self._find()]):
            self._find.forget()
            raise gradient_error(self._weights, "The optimiser has not stepped.")
        return None

    def end(self, evaluated: Evaluated) -> None:
        """Nothing is on its way."""

    def read(self, *, wait: bool) -> None:
        """Nothing is on its way."""


class DeviceCheck:
    """On an accelerator: flags that stay on the device, where steps are left out from the first bad one until the error is raised.

    So the weights are those before it, and evaluating the loss again shows what was wrong.

    Args:
        loss: the loss.
        weights: what is trained, by name.
        device: where the flags are.
    """

    def __init__(self, loss: Loss, weights: Mapping[str, nn.Parameter], device: torch.device) -> None:
        self._loss = loss
        self._weights = weights
        self._device = device
        self._find = NonFinite(weights.values())
        self._forget()

    def see_loss(self, value: Tensor, evaluated: Evaluated) -> None:
        """Sets the flag if the loss is not finite."""
        self._bad_loss = torch.maximum(self._bad_loss, (~value.detach().isfinite()).float())

    def see_gradients(self) -> Tensor | None:
        """The flag, `()`, which is 1 if a gradient or a loss since the last error was not finite."""
        for flag in self._find():
            self._bad = torch.maximum(self._bad, flag.to(self._device, non_blocking=True))
        self._bad = torch.maximum(self._bad, self._bad_loss)
        return self._bad

    def end(self, evaluated: Evaluated) -> None:
        """Sends the flags to the host, which does not wait for them."""
        flags, event = _send(torch.stack([self._bad_loss, self._bad]))
        self._pending.append(_Pending(flags, event, evaluated))

    def read(self, *, wait: bool) -> None:
        """Raises `NonFiniteLossError` if a step has met what is not finite, as far as is known; with `wait`, all of them are waited for.

        What a step was given is kept until it is known; so the host waits when it is more than a few steps ahead.
        """
        while self._pending:
            flags, event, evaluated = self._pending[0]
            if event is not None and not event.query():
                if not wait and len(self._pending) <= RUN_AHEAD:
                    return
                event.synchronize()
            self._pending.popleft()
            bad_loss, bad = flags.tolist()
            if bad_loss or bad:
                self._forget()
                said = "The weights are those before this step; what was called after it has changed nothing."
                raise loss_error(self._loss, evaluated, said) if bad_loss else gradient_error(self._weights, said)

    def _forget(self) -> None:
        self._find.forget()
        self._bad_loss = torch.zeros((), dtype=torch.float32, device=self._device)
        self._bad = self._bad_loss
        self._pending: deque[_Pending] = deque()


class NonFinite:
    """Looks for gradients that are not finite.

    Args:
        weights: whose gradients.
    """

    def __init__(self, weights: Iterable[nn.Parameter]) -> None:
        self._groups: dict[tuple[torch.device, torch.dtype], list[nn.Parameter]] = {}
        for w in weights:
            self._groups.setdefault((w.device, w.dtype), []).append(w)
        self._ones = {device: torch.ones((), dtype=torch.float32, device=device) for device, _ in self._groups}
        self._flags = {device: torch.zeros((), dtype=torch.float32, device=device) for device, _ in self._groups}

    def forget(self) -> None:
        """Begins anew."""
        for flag in self._flags.values():
            flag.zero_()

    def __call__(self) -> list[Tensor]:
        """For each device a flag, `()`, which is 1 once a gradient there was not finite, until that is forgotten."""
        for (device, dtype), weights in self._groups.items():
            gradients = [g for w in weights if (g := w.grad) is not None]
            if dtype.is_complex:
                gradients = [torch.view_as_real(g) for g in gradients]
            if any([g.is_sparse for g in gradients]):
                gradients = [g.coalesce().values() if g.is_sparse else g for g in gradients]
            # One pass without a copy; what it multiplies the gradients with is 1.
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, self._flags[device], self._ones[device])  # type: ignore[attr-defined]
        return [*self._flags.values()]


def loss_error(loss: Loss, evaluated: Evaluated, said: str) -> NonFiniteLossError:
    """The error that names the term."""
    what, explanation = name_nonfinite(loss, evaluated.values, evaluated.options, evaluated.state)
    error = NonFiniteLossError(f"{what} {said}" + (f"\n\n{explanation}" if explanation else ""))
    error.explanation = explanation
    return error


def gradient_error(weights: Mapping[str, nn.Parameter], said: str) -> NonFiniteLossError:
    """The error that names the gradient, the first in the order of the weights."""
    for name, w in weights.items():
        if w.grad is not None and not bool(w.grad.isfinite().all()):
            kind = "nan" if bool(w.grad.isnan().any()) else "infinite"
            return NonFiniteLossError(f"The loss is finite, but its gradient with respect to {name} is {kind}. {said}")
    return NonFiniteLossError(f"The loss was finite, but a gradient was not. {said}")


def _send(flags: Tensor) -> tuple[Tensor, Any]:
    """The flags on their way to the host, and the event that says when they are there; None on the CPU."""
    if flags.device.type == "cpu":
        return flags, None
    host = torch.empty(flags.shape, pin_memory=flags.device.type == "cuda")
    host.copy_(flags, non_blocking=True)
    event = torch.Event(flags.device)
    event.record()
    return host, event


Check = HostCheck | DeviceCheck


def make_check(loss: Loss, weights: Mapping[str, nn.Parameter], device: torch.device) -> Check:
    """The check for this device."""
    return HostCheck(loss, weights) if reading_is_free(device) else DeviceCheck(loss, weights, device)
