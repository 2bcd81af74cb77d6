"""Losses and gradients that are not finite: found before the step on the CPU, and on the device elsewhere."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from pixyz.core import (
    NO_CHECKS,
    ON_HOST,
    Checks,
    DeferredChecks,
    Loss,
    NonFiniteLossError,
    RandomState,
    SupportError,
    not_reproduced,
    reading_is_free,
)

from ._diagnosis import name_nonfinite

Validate = bool | Literal["deferred"]
"""Whether a model checks its steps: True, as is best where it is; "deferred", on the device also where that is the CPU."""

RUN_AHEAD = 4


Overflow = tuple[Tensor, Tensor]
"""Whether scaled gradients are not finite, and whether they are so although the scale was at most 1: flags, `()`."""


class Evaluated(NamedTuple):
    """What it takes to evaluate a loss again, with the same draws."""

    values: Mapping[str, Any]
    options: Mapping[str, Any]
    state: RandomState


class _Pending(NamedTuple):
    flags: Tensor
    event: Any
    evaluated: Evaluated
    names: list[object]


class NoCheck:
    """For a model with `validate=False`: nothing is looked at.

    Attributes:
        supports: of the last loss, for each check of a support on the device whether it failed, `(n,)`, or None; and the checked terms.
    """

    supports: tuple[Tensor | None, list[object]] = (None, [])

    @property
    def flags(self) -> list[Tensor]:
        """All flags on the device that stay from step to step."""
        return []

    def checks(self) -> Checks:
        """None of supports."""
        return NO_CHECKS

    def see_loss(self, value: Tensor, evaluated: Evaluated, checks: Checks) -> None:
        """Any loss will do."""

    def see_gradients(self, overflow: Overflow | None = None) -> Tensor | None:
        """The flag of an overflow of scaled gradients, if they were scaled; any others will do."""
        return None if overflow is None else overflow[0]

    @property
    def is_bad(self) -> Tensor | None:
        """None: what is bad was raised."""
        return None

    def end(self, evaluated: Evaluated) -> None:
        """Nothing is on its way."""

    def read(self, *, wait: bool) -> None:
        """Nothing is on its way."""


class HostCheck(NoCheck):
    """On the CPU: an error before the gradients are taken, or before the step.

    Args:
        loss: the loss.
        weights: what is trained, by name.
    """

    def __init__(self, loss: Loss, weights: Mapping[str, nn.Parameter]) -> None:
        self._loss = loss
        self._weights = weights
        self._find = NonFinite(weights.values())

    def checks(self) -> Checks:
        """Supports are checked where a value meets them."""
        return ON_HOST

    def see_loss(self, value: Tensor, evaluated: Evaluated, checks: Checks) -> None:
        """Raises `NonFiniteLossError` unless the loss is finite."""
        if not math.isfinite(value.item()):
            raise loss_error(self._loss, evaluated, "The optimiser has not stepped.")

    def see_gradients(self, overflow: Overflow | None = None) -> Tensor | None:
        """Raises `NonFiniteLossError` unless all gradients are finite; a flag, `()`, if they overflowed because they were scaled."""
        if overflow is not None:
            if overflow[1].item():
                raise gradient_error(self._weights, "The loss was not scaled up. The optimiser has not stepped.")
            return overflow[0] if overflow[0].item() else None
        if any([flag.item() for flag in self._find()]):
            self._find.forget()
            raise gradient_error(self._weights, "The optimiser has not stepped.")
        return None


class DeviceCheck(NoCheck):
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
        self._bad_loss = torch.zeros((), dtype=torch.float32, device=device)
        self._bad = self._bad_loss.clone()
        self._forget()

    def checks(self) -> Checks:
        """Supports are checked by flags on the device."""
        return DeferredChecks()

    def see_loss(self, value: Tensor, evaluated: Evaluated, checks: Checks) -> None:
        """Sets the flag if the loss is not finite, or a support was missed on the way to it."""
        bad = ~value.detach().isfinite()
        self.supports = (None, [])
        if isinstance(checks, DeferredChecks) and (failed := checks.failed()) is not None:
            bad, self.supports = bad | failed.any(), (failed, checks.names)
        self._set(self._bad_loss, bad)

    def see_gradients(self, overflow: Overflow | None = None) -> Tensor | None:
        """The flag, `()`, which is 1 if a gradient or a loss since the last error was not finite, or scaled gradients have overflowed."""
        for flag in self._find() if overflow is None else overflow[1:]:
            self._set(self._bad, flag.to(self._device, non_blocking=True))
        self._set(self._bad, self._bad_loss)
        return self._bad if overflow is None else torch.maximum(self._bad, overflow[0])

    @property
    def is_bad(self) -> Tensor | None:
        """The flag, `()`, which is 1 where something since the last error is no matter of the scale."""
        return self._bad

    @property
    def flags(self) -> list[Tensor]:
        """All flags on the device that stay from step to step."""
        return [self._bad_loss, self._bad, *self._find.flags]

    @staticmethod
    def _set(flag: Tensor, bad: Tensor) -> None:
        """Sets a flag, which stays where it is: a CUDA graph writes to its address."""
        flag.copy_(torch.maximum(flag, bad.float()))

    def end(self, evaluated: Evaluated) -> None:
        """Sends the flags to the host, which does not wait for them."""
        flags = torch.stack([self._bad_loss, self._bad])
        failed, names = self.supports
        flags, event = _send(flags if failed is None else torch.cat([flags, failed]))
        self._pending.append(_Pending(flags, event, evaluated, names))

    def read(self, *, wait: bool) -> None:
        """Raises `NonFiniteLossError` if a step has met what is not finite, as far as is known; with `wait`, all of them are waited for.

        What a step was given is kept until it is known; so the host waits when it is more than a few steps ahead.
        """
        while self._pending:
            flags, event, evaluated, names = self._pending[0]
            if event is not None and not event.query():
                if not wait and len(self._pending) <= RUN_AHEAD:
                    return
                event.synchronize()
            self._pending.popleft()
            bad_loss, bad, *failed = flags.tolist()
            if bad_loss or bad:
                self._forget()
                said = "The weights are those before this step; what was called after it has changed nothing."
                raise self._loss_error(evaluated, said, names, failed) if bad_loss else gradient_error(self._weights, said)

    def _loss_error(self, evaluated: Evaluated, said: str, names: list[object], failed: list[float]) -> Exception:
        """The error in the words of the term, which evaluating the loss again on the host finds."""
        otherwise = not_reproduced(names, failed) if any(failed) else None
        try:
            return loss_error(self._loss, evaluated, said, otherwise)
        except SupportError as error:
            return SupportError(f"{error} {said}")

    def _forget(self) -> None:
        self._find.forget()
        self.supports = (None, [])
        self._bad_loss.zero_()
        self._bad.zero_()
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

    @property
    def flags(self) -> list[Tensor]:
        """The flags, one for each device."""
        return [*self._flags.values()]

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
        return self.flags


def loss_error(loss: Loss, evaluated: Evaluated, said: str, otherwise: Exception | None = None) -> Exception:
    """The error that names the term; `otherwise`, if there is one, where evaluating the loss again finds none.

    Raises:
        SupportError: if a number is outside of its support, and is no nan.
    """
    what, explanation = name_nonfinite(loss, evaluated.values, evaluated.options, evaluated.state)
    if what is None and otherwise is not None:
        return otherwise
    what = what or f"{loss} is not finite; none of its terms was, when it was evaluated again."
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


def make_check(loss: Loss, weights: Mapping[str, nn.Parameter], device: torch.device, validate: Validate) -> NoCheck:
    """The check for this device."""
    if validate is False:
        return NoCheck()
    return HostCheck(loss, weights) if validate is True and reading_is_free(device) else DeviceCheck(loss, weights, device)
