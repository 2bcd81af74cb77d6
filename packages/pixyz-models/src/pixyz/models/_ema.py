"""An exponential moving average of the weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pixyz.core import ParameterError, is_whole


class AveragedWeights:
    r"""The exponential moving average of the weights that a model trains.

    After step $t$, with the weights $w_1, \dots, w_t$ behind it and the decay $d$,

    $$\bar w_t = \frac{\sum_{s=1}^t d^{t-s} w_s}{\sum_{s=1}^t d^{t-s}}$$

    so that the weights from before training have no part in it, however few the steps. Buffers (running statistics) are not averaged.

    Args:
        weights: what is averaged, by name.
        decay: $d$, at least 0 and below 1.

    Source:
        Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._names = [*weights]
        self._weights: list[Tensor] = [*weights.values()]
        self._averages = [w.detach().clone() for w in self._weights]
        self._inside = False

    @property
    def next_share(self) -> float:
        """The share of the weights in their average after the next step."""
        # The same sum in one pass: at the first step the share of the new weights is 1.
        return (1 - self.decay) / (1 - self.decay ** (self.updates + 1))

    @torch.no_grad()
    def move(self, share: float | Tensor, skipped: Tensor | None = None) -> None:
        """Moves the averages towards the weights; `updates` does not count it.

        Args:
            share: by which share of the difference, a number or `()`.
            skipped: `()`, on the device; where it is 1, the averages stay as they are.
        """
        if skipped is None and not isinstance(share, Tensor):
            torch._foreach_lerp_(self._averages, self._weights, share)  # type: ignore[attr-defined]
            return
        shares: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        for average, weight in zip(self._averages, self._weights, strict=True):
            kind = (average.device, average.dtype)
            if kind not in shares:
                one = torch.ones((), dtype=average.dtype, device=average.device)
                taken = one if skipped is None else one - skipped.to(one)
                shares[kind] = taken * (share.to(one) if isinstance(share, Tensor) else share)
            average.lerp_(weight, shares[kind])

    @property
    def averages(self) -> list[Tensor]:
        """The averages, in the order of the weights."""
        return self._averages

    @averages.setter
    def averages(self, averages: list[Tensor]) -> None:
        self._averages = averages

    def follow(self) -> None:
        """The averages go where the weights are, which may have been moved."""
        self._averages = [a.to(w.device) for a, w in zip(self._averages, self._weights, strict=True)]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the weights are their averages; afterwards they are what they were. Inside of itself it does nothing."""
        if self._inside or not self.updates:
            yield
            return
        kept = [w.detach().clone() for w in self._weights]
        self._inside = True
        self._set(self._weights, self._averages)
        try:
            yield
        finally:
            self._set(self._weights, kept)
            self._inside = False

    @property
    def is_in_place(self) -> bool:
        """Whether the weights are their averages at the moment."""
        return self._inside

    def state_dict(self) -> dict[str, Any]:
        """`updates`, how many steps were averaged, and `weights`, the averages by name."""
        return {"updates": self.updates, "weights": dict(zip(self._names, self._averages, strict=True))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` gave.

        Raises:
            ParameterError: if the names or the shapes are others; nothing is changed.
        """
        given: Mapping[str, Tensor] = state["weights"]
        if set(given) != set(self._names):
            differ = sorted(set(given) ^ set(self._names))
            raise ParameterError(f"The average of the weights is of other weights: {', '.join(differ)} stands on one side only.")
        for name, average in zip(self._names, self._averages, strict=True):
            if given[name].shape != average.shape:
                raise ParameterError(
                    f"The average of {name} must have the shape {tuple(average.shape)}; the one that came has {tuple(given[name].shape)}."
                )
        if not is_whole(state["updates"]) or state["updates"] < 0:
            raise ParameterError(f"The average of the weights is of a whole number of steps; the one that came is of {state['updates']!r}.")
        self._set(self._averages, [given[name] for name in self._names])
        self.updates = state["updates"]

    @staticmethod
    @torch.no_grad()
    def _set(old: list[Tensor], new: list[Tensor]) -> None:
        torch._foreach_copy_(old, new)  # type: ignore[attr-defined]
