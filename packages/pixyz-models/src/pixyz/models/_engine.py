"""Who takes the gradient and the step: plain torch, or the trainer that runs the loop."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


class Engine:
    """Plain torch, in one process."""

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return 1

    def backward(self, loss: Tensor, **how: Any) -> None:
        """The gradients of the loss, added to those that are there. `how` is that of `Tensor.backward`."""
        loss.backward(**how)

    def step(self, number: int, take: Callable[[], object]) -> None:
        """The step of an optimiser of the model, by its number."""
        take()

    def of_all(self, loss: Tensor) -> Tensor:
        """The mean of the loss over all processes, detached: not finite if it is so on one of them."""
        return loss.detach()


PLAIN = Engine()
