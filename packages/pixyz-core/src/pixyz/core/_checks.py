"""How an evaluation checks the numbers in its tensors: on the host at once, on the device with a flag, or not at all.

To read a number of an accelerator, the host waits for it, and no CUDA graph can be captured meanwhile. So there a check is a flag that
stays on the device.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ._errors import KindError, SupportError
from ._seeded import random_state, set_random_state

T = TypeVar("T")
Held = bool | Tensor
"""Whether a check holds: known to the host, or `()`, on the device."""


class Checks:
    """Checks on the host: each is read at once, so an error comes from where it arises.

    Attributes:
        on_host: whether the host may read numbers of tensors.
    """

    on_host: bool = True

    def read(self, t: Tensor) -> Any:
        """The number in a tensor of rank 0, or the tensor where the host may not read."""
        return t.item()

    def every(self, t: Tensor) -> Held:
        """Whether all of a boolean tensor is true."""
        return bool(t.all())

    def equal(self, a: Tensor, b: Tensor) -> Held:
        """Whether two tensors of one shape are equal."""
        return torch.equal(a, b)

    def passed(self, held: Held, who: object) -> bool:
        """Whether the evaluation goes on: if the check holds, or if that will only be known later.

        Args:
            held: what `read`, `every` or `equal` gave, or was made of that.
            who: the term of the formula that is checked.
        """
        return bool(held)


class NoChecks(Checks):
    """No number is read, none is checked: under `torch.compile`, in `torch.func.vmap`, with `validate=False`."""

    on_host = False

    def __bool__(self) -> bool:
        return False

    def passed(self, held: Held, who: object) -> bool:
        return True


class DeferredChecks(Checks):
    """Checks on the device: each leaves a flag there, which somebody reads when the evaluation has ended.

    Attributes:
        names: the term of each flag.
    """

    on_host = False

    def __init__(self) -> None:
        self._held: list[Tensor] = []
        self.names: list[object] = []

    def read(self, t: Tensor) -> Any:
        return t

    def every(self, t: Tensor) -> Held:
        return t.all()

    def equal(self, a: Tensor, b: Tensor) -> Held:
        return (a == b).all()

    def passed(self, held: Held, who: object) -> bool:
        if not isinstance(held, Tensor):
            return held
        self._held.append(held.detach())
        self.names.append(who)
        return True

    def failed(self) -> Tensor | None:
        """For each check whether it failed, a boolean vector; None without checks."""
        held = self.held()
        return None if held is None else held.logical_not()

    def held(self) -> Tensor | None:
        """For each check whether it held, a boolean vector; None without checks."""
        if not self._held:
            return None
        away = next((held for held in self._held if held.device.type != "cpu"), None)
        if away is not None:  # a number that stays on the CPU, as a temperature may, is free to read
            self._held = [held if held.device.type != "cpu" else torch.full_like(away, bool(held)) for held in self._held]
        return torch.stack(self._held)


ON_HOST = Checks()
"""Checks on the host, for an evaluation on the CPU."""
NO_CHECKS = NoChecks()
"""An evaluation that checks no numbers."""


def reading_is_free(device: torch.device) -> bool:
    """Whether the host may read a number of this device without waiting."""
    return device.type == "cpu"


def device_of(values: Any, module: torch.nn.Module) -> torch.device | None:
    """Where an evaluation runs: at the values, else at the module's parameters and buffers; None if there is no tensor."""
    if isinstance(values, dict):
        for value in values.values():
            if isinstance(value, Tensor):
                return value.device
    found = _first_tensor(module)
    return None if found is None else found.device


def checked(evaluate: Callable[..., T], validate: object, device: torch.device | None, who: object) -> T:
    """What `evaluate` returns with the checks for this device. On an accelerator, the host reads once, when it has ended.

    Args:
        evaluate: an evaluation, which takes `checks`.
        validate: whether it checks at all; or the checks.
        device: where it runs.
        who: the formula, for the messages.

    Raises:
        KindError: for a `validate` that is neither True nor False.
        SupportError: if a check failed.
    """
    if validate is not True:
        if isinstance(validate, Checks):
            return evaluate(checks=validate)
        if validate is not False:
            raise KindError(f"{who}: validate must be True or False; got {validate!r}.")
        return evaluate(checks=NO_CHECKS)
    if device is None or reading_is_free(device):
        return evaluate(checks=ON_HOST)
    if _is_capturing(device):
        return evaluate(checks=NO_CHECKS)
    checks, before = DeferredChecks(), random_state(device)
    result = evaluate(checks=checks)
    failed = checks.failed()
    if failed is not None and failed.any():
        # The same draws once more, and the check that fails says what it has met.
        set_random_state(before, device)
        evaluate(checks=ON_HOST)
        raise not_reproduced(checks.names, failed.tolist())
    return result


def not_reproduced(names: Iterable[object], failed: Iterable[object]) -> SupportError:
    """The error for checks that failed on the device, and did not when the loss was evaluated again."""
    who = dict.fromkeys(str(name) for name, bad in zip(names, failed) if bad)
    return SupportError(f"{', '.join(who)}: a number was outside of its support, and was inside when it was evaluated again.")


def _is_capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _first_tensor(module: torch.nn.Module) -> Tensor | None:
    """One parameter or buffer, if there is any; `next(parameters())` costs as much as a layer."""
    for held in (module._parameters, module._buffers):
        for tensor in held.values():
            if tensor is not None:
                return tensor
    for inner in module._modules.values():
        found = None if inner is None else _first_tensor(inner)
        if found is not None:
            return found
    return None
