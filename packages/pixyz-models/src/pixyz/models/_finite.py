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

from ._counts import Counts
from ._diagnosis import name_nonfinite

Validate = bool | Literal["deferred"]
"""Whether a model checks its steps: True, as is best where it is; "deferred", on the device also where that is the CPU."""


def is_known(validate: object) -> bool:
    """Whether it is one of the words for how a model checks its steps."""
    return isinstance(validate, bool) or validate == "deferred"


RUN_AHEAD = 1
"""How many steps may be on their way when another one begins: one, so that the device is never idle, and an error at most one step late."""


Overflow = tuple[Tensor, Tensor]
"""Whether scaled gradients are not finite, and whether they are so although the scale was at most 1: flags, `()`."""


class Evaluated(NamedTuple):
    """What it takes to evaluate a loss again, with the same draws."""

    values: Mapping[str, Any]
    options: Mapping[str, Any]
    state: RandomState
    counts: Counts | None = None
    """Those before the step, to go back to if it turns out to be bad later on; None where that is known at once."""


Seen = tuple[Tensor | None, list[object]]
"""The loss, and for each checked term 0, or -infinity if its check failed, `(1 + n,)`; and the n terms."""


class _Pending(NamedTuple):
    flags: Tensor
    event: Any
    evaluated: Evaluated
    names: list[object]


class NoCheck:
    """For a model with `validate=False`: nothing is looked at.

    Attributes:
        seen: of the last evaluation, a report that stays on the device, or None; and the terms whose supports were checked there.
    """

    seen: Seen = (None, [])
    is_deferred = False
    """Whether an error is known only after the step."""

    @property
    def flags(self) -> list[Tensor]:
        """All flags on the device that stay from step to step."""
        return []

    def checks(self) -> Checks:
        """None of supports."""
        return NO_CHECKS

    def see_loss(self, value: Tensor, evaluated: Evaluated, checks: Checks, *, gradients_follow: bool) -> None:
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

    def has_met(self, *, wait: bool) -> bool:
        """Whether an earlier call is known to have been bad: none, for its error was raised at once."""
        return False

    @property
    def is_own(self) -> bool:
        """Whether what `has_met` has found is of this player."""
        raise NotImplementedError

    @property
    def met(self) -> Evaluated:
        """What the call was given that `has_met` has found."""
        raise NotImplementedError

    def error(self) -> Exception:
        """The error for it."""
        raise NotImplementedError

    def forget(self) -> None:
        """There is nothing to forget."""


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

    def see_loss(self, value: Tensor, evaluated: Evaluated, checks: Checks, *, gradients_follow: bool) -> None:
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

    is_deferred = True

    def __init__(self, loss: Loss, weights: Mapping[str, nn.Parameter], device: torch.device) -> None:
        self._loss = loss
        self._weights = weights
        self._device = device
        self._find = NonFinite(weights.values())
        self._bad = self._find.on(device)
        self.forget()

    def share(self, other: "DeviceCheck") -> None:
        """Takes the flags of another check in place of its own: what is bad for one player leaves out the steps of both."""
        self._find.share(other._find)
        self._bad = self._find.on(self._device)

    def checks(self) -> Checks:
        """Supports are checked by flags on the device."""
        return DeferredChecks()

    def see_loss(self, value: Tensor, evaluated: Evaluated, checks: Checks, *, gradients_follow: bool) -> None:
        """Keeps the loss, and which supports were missed on the way to it.

        Args:
            value: the loss, `()`.
            evaluated: how it was evaluated.
            checks: the checks of that.
            gradients_follow: whether `see_gradients` comes before `end`, and looks at them as well; else the flag is set here.
        """
        report, names = value.detach().reshape(1), []
        if isinstance(checks, DeferredChecks) and (held := checks.held()) is not None:
            # The logarithm of true is 0, and of false -infinity: one more number that is finite if all is well.
            report, names = torch.cat([report, held.log()]), checks.names
        else:
            # A copy, for what looks for bad numbers writes them where they are.
            report = report.float() if report.dtype in (torch.bfloat16, torch.float16) else report.clone()
        self.seen = (report.to(self._device, non_blocking=True), names)
        if not gradients_follow:
            self._find(self.seen[0], gradients=False)

    def see_gradients(self, overflow: Overflow | None = None) -> Tensor | None:
        """The flag, `()`, which is 1 if a gradient or a loss since the last error was not finite, or scaled gradients have overflowed."""
        flags = self._find(self.seen[0], gradients=overflow is None)
        for flag in flags if overflow is None else overflow[1:]:
            if flag is not self._bad:
                # It stays where it is: a CUDA graph writes to its address.
                self._bad.copy_(torch.maximum(self._bad, flag.to(self._device, non_blocking=True)))
        return self._bad if overflow is None else torch.maximum(self._bad, overflow[0])

    @property
    def is_bad(self) -> Tensor | None:
        """The flag, `()`, which is 1 where something since the last error is no matter of the scale."""
        return self._bad

    @property
    def flags(self) -> list[Tensor]:
        """All flags on the device that stay from step to step."""
        return self._find.flags

    def end(self, evaluated: Evaluated) -> None:
        """Sends the flag and the report to the host, which does not wait for them."""
        report, names = self.seen
        flag = self._bad.reshape(1)
        sent, event = _send(flag.clone() if report is None else torch.cat([flag, report]))
        self._pending.append(_Pending(sent, event, evaluated, names))

    def has_met(self, *, wait: bool) -> bool:
        """Whether an earlier call was bad, as far as is known; with `wait`, all of them are waited for.

        What a step was given is kept until it is known; so the host waits when it is more than one step ahead.
        """
        while self._pending:
            flags, event, _, _ = self._pending[0]
            if event is not None and not event.query():
                if not wait and len(self._pending) <= RUN_AHEAD:
                    return False
                event.synchronize()
            if flags.tolist()[0]:
                return True
            self._pending.popleft()
        return False

    @property
    def is_own(self) -> bool:
        """Whether what was met is of this player: its loss, a support on the way to it, or its gradient."""
        _, *report = self._pending[0].flags.tolist()
        return not all(map(math.isfinite, report)) or any(
            w.grad is not None and not w.grad.isfinite().all() for w in self._weights.values()
        )

    @property
    def met(self) -> Evaluated:
        """What the call was given that `has_met` has found."""
        return self._pending[0].evaluated

    def error(self) -> Exception:
        """The error for it, in the words of the term, which evaluating the loss again on the host finds."""
        flags, _, evaluated, names = self._pending[0]
        _, *report = flags.tolist()
        number = "" if evaluated.counts is None else f", number {evaluated.counts.steps + 1}"
        said = f"The weights are those before this step{number}; what was called after it has changed nothing."
        if all(map(math.isfinite, report)):
            return gradient_error(self._weights, said)
        failed = [number < 0 for number in report[1:]]
        try:
            return loss_error(self._loss, evaluated, said, not_reproduced(names, failed) if any(failed) else None)
        except SupportError as error:
            return SupportError(f"{error} {said}")

    def forget(self) -> None:
        """Begins anew, as if no call were on its way."""
        self._find.forget()
        self.seen = (None, [])
        self._pending: deque[_Pending] = deque()


class NonFinite:
    """Looks for gradients, and other numbers, that are not finite.

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

    def on(self, device: torch.device) -> Tensor:
        """The flag of a device that has weights, `()`, which is always the same tensor."""
        return self._flags[device]

    def forget(self) -> None:
        """Begins anew."""
        for flag in self._flags.values():
            flag.zero_()

    def share(self, other: "NonFinite") -> None:
        """Takes the flags of another one on the devices of both."""
        self._flags.update({device: other._flags[device] for device in self._flags.keys() & other._flags.keys()})

    def __call__(self, more: Tensor | None = None, *, gradients: bool = True) -> list[Tensor]:
        """For each device a flag, `()`, which is 1 once a number there was not finite, until that is forgotten.

        Args:
            more: further numbers, on the device of some weights.
            gradients: whether to look at the gradients.
        """
        found: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for (device, dtype), weights in self._groups.items() if gradients else ():
            grads = [g for w in weights if (g := w.grad) is not None]
            if dtype.is_complex:
                grads = [torch.view_as_real(g) for g in grads]
                dtype = dtype.to_real()
            if any([g.is_sparse for g in grads]):
                grads = [g.coalesce().values() if g.is_sparse else g for g in grads]
            found.setdefault((device, dtype), []).extend(grads)
        if more is not None:
            found.setdefault((more.device, more.dtype), []).append(more)
        for (device, _), numbers in found.items():
            # One pass without a copy; what it multiplies the numbers with is 1.
            torch._amp_foreach_non_finite_check_and_unscale_(numbers, self._flags[device], self._ones[device])  # type: ignore[attr-defined]
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
    host = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=flags.device.type == "cuda")
    host.copy_(flags, non_blocking=True)
    event = torch.Event(flags.device)
    event.record()
    return host, event


def make_check(loss: Loss, weights: Mapping[str, nn.Parameter], device: torch.device, validate: Validate) -> NoCheck:
    """The check for this device."""
    if validate is False:
        return NoCheck()
    return HostCheck(loss, weights) if validate is True and reading_is_free(device) else DeviceCheck(loss, weights, device)


def share_flags(checks: Iterable[NoCheck]) -> None:
    """One flag for the checks of all players."""
    on_device = [check for check in checks if isinstance(check, DeviceCheck)]
    for check in on_device[1:]:
        check.share(on_device[0])
