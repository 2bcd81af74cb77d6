"""Losses that are scaled before their gradient is taken, so that gradients in float16 do not vanish."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn, optim

from pixyz.core import KindError, ParameterError

_OPTIONS: ContextVar[Mapping[str, Any] | None] = ContextVar("scaled_losses", default=None)
LEAST = 1.0
"""A gradient that is infinite or nan although its loss was scaled by no more than this is no matter of the scale."""


@contextmanager
def scaled_losses(*, enabled: bool = True, **options: Any) -> Iterator[None]:
    r"""Inside, `train` and `fit` scale each loss, take the gradient, and divide it by the scale, for networks in float16.

    Where a scaled gradient overflows, the step is left out and counted in `model.skipped_steps`, and the scale is halved; after many steps
    without an overflow it is doubled. Clipping and the checks of what is not finite see the gradients divided by the scale. A loss that is
    nan or infinite is an error, and so is a gradient that overflows at a scale of 1. Both sides of a game have scales of their own.

    The scale is a state of the model, which `save` writes and `load` reads; it stays with the model when the block ends.

    Args:
        enabled: False ends the scaling of a block around this one.
        options: those of `torch.amp.GradScaler`: `init_scale`, `growth_factor`, `backoff_factor`, `growth_interval`.

    Raises:
        ParameterError: for another option, or a value that `GradScaler` does not take.

    Examples:
        >>> import torch
        >>> from pixyz.distributions import Normal
        >>> from pixyz.models import Model
        >>> p = Normal(var=["x"], loc=torch.nn.Parameter(torch.zeros(2)), scale=1.0)
        >>> model = Model(-p.log_prob().mean(), optimizer=torch.optim.SGD, optimizer_params={"lr": 0.1})
        >>> with scaled_losses(init_scale=2.0**127):  # which overflows in float32 too
        ...     _ = model.train({"x": 100 * torch.ones(3, 2)})
        >>> p.loc.tolist(), model.skipped_steps
        ([0.0, 0.0], 1)

    Source:
        Micikevicius et al. (2018), section 3.2, https://arxiv.org/abs/1710.03740
    """
    _scaler("cpu", options)
    token = _OPTIONS.set(options if enabled else None)
    try:
        yield
    finally:
        _OPTIONS.reset(token)


def scaling_options() -> Mapping[str, Any] | None:
    """What `scaled_losses` around this says; None outside of it."""
    return _OPTIONS.get()


def need_wide(weights: Mapping[str, nn.Parameter]) -> None:
    """Raises an error for weights in float16, whose gradients are rounded before they are divided by the scale.

    Raises:
        KindError: naming the first.
    """
    for name, weight in weights.items():
        if weight.dtype is torch.float16:
            raise KindError(
                f"{name} is in float16, and scaled losses are for weights in float32: autocast rounds them for each call of a network. "
                "Convert the loss with .float()."
            )


class LossScale:
    """The scale of the losses of one player, by torch's `GradScaler`.

    Args:
        options: those of `GradScaler`.
        device: where the losses are.
    """

    def __init__(self, options: Mapping[str, Any], device: torch.device) -> None:
        self._options = options
        self._scaler = _scaler(device.type, options)
        self._scaler.scale(torch.zeros((), device=device))  # makes the scale's tensor
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._found: list[Tensor] = []

    @property
    def tensors(self) -> list[Tensor]:
        """What a step changes: the scale, how many steps ago it changed, and how many steps were left out."""
        return [self._scaler._scale, self._scaler._growth_tracker, self._skipped]  # type: ignore[list-item]

    @property
    def skipped(self) -> int:
        """How many steps were left out so far; on an accelerator, the host waits for it."""
        return int(self._skipped.item())

    @property
    def value(self) -> float:
        """The scale; on an accelerator, the host waits for it."""
        return self._scaler.get_scale()

    def scale(self, loss: Tensor) -> Tensor:
        """The loss times the scale."""
        return self._scaler.scale(loss)  # type: ignore[return-value]

    def unscale(self, optimizers: Iterable[optim.Optimizer]) -> tuple[Tensor, Tensor]:
        """Divides the gradients by the scale.

        Returns:
            Two flags on the device, `()`: 1 if a gradient is not finite, and 1 if that is so at a scale of no more than 1.
        """
        self._found = []
        self._scaler._per_optimizer_states.clear()  # of a step that ended in an error
        for optimizer in optimizers:
            self._scaler.unscale_(optimizer)
            self._found += self._scaler._found_inf_per_device(optimizer).values()
        overflow = self._overflow()
        return overflow, overflow * (self._scaler._get_scale_async() <= LEAST)  # type: ignore[operator]

    def update(self, bad: Tensor | None) -> None:
        """Counts a step that overflowed, and makes the scale of the next step.

        Args:
            bad: a flag, `()`; with 1 the step was left out for another reason, and the scale and all counts stay.
        """
        if not self._found:
            return
        before = [] if bad is None else [t.clone() for t in self.tensors]
        self._skipped += self._overflow().long()
        self._scaler.update()
        for tensor, old in zip(self.tensors, before):
            # Each stays where it is: a CUDA graph writes to its address.
            tensor.copy_(torch.where(bad.to(tensor.device, non_blocking=True) > 0, old, tensor))  # type: ignore[union-attr]

    def on(self, device: torch.device) -> "LossScale":
        """The same on another device."""
        if device == self._skipped.device:
            return self
        moved = LossScale(self._options, device)
        moved.load_state_dict(self.state_dict())
        return moved

    def _overflow(self) -> Tensor:
        overflow = torch.zeros((), device=self._skipped.device)
        for flag in self._found:
            overflow = torch.maximum(overflow, flag.reshape(()).to(overflow.device, non_blocking=True))
        return overflow

    def state_dict(self) -> dict[str, Any]:
        """The scale, how many steps ago it changed, and how many steps were left out, as numbers."""
        state = self._scaler.state_dict()
        return {"scale": float(state["scale"]), "since": int(state["_growth_tracker"]), "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self._scaler.load_state_dict({**self._scaler.state_dict(), "scale": state["scale"], "_growth_tracker": state["since"]})
        self._skipped.fill_(state["skipped"])


def is_scale_state(value: object) -> bool:
    """Whether a value, which may come from anywhere, is a state of `LossScale`."""
    if not isinstance(value, dict) or value.keys() != {"scale", "since", "skipped"}:
        return False
    scale, since, skipped = value["scale"], value["since"], value["skipped"]
    is_counts = all([type(n) is int and 0 <= n < 2**31 for n in (since, skipped)])
    return is_counts and type(scale) is float and 0 < scale <= torch.finfo(torch.float32).max


def _scaler(kind: str, options: Mapping[str, Any]) -> torch.amp.GradScaler:
    known = ("init_scale", "growth_factor", "backoff_factor", "growth_interval")
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ParameterError(f"scaled_losses has no option {unknown[0]}; those of GradScaler are {', '.join(known)}.")
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise ParameterError(f"scaled_losses: {name} must be a positive number; got {value!r}.")
    try:
        return torch.amp.GradScaler(kind, **options)
    except AssertionError as error:
        raise ParameterError(f"scaled_losses: GradScaler does not take {dict(options)}: {error}") from error
