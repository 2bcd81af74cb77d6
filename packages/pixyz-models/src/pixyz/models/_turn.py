"""The turns of a step: each side of a game takes one; a loss without players has one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import LRScheduler

from pixyz.core import Loss, ParameterError, leaves_of, of_leaves, sides

from ._engine import Engine
from ._finite import NoCheck, Validate, make_check
from ._scaling import LossScale, need_wide, scaling_options
from ._stepping import MaskedStep, make_step
from ._training import Training


class Turn:
    """What some optimisers do in a step: they minimise a loss.

    Args:
        loss: the loss.
        weights: what they train, by name.
        optimizers: the optimisers, by their numbers in the model.
        schedulers: their schedulers.
        others: the buffers of the players whose turn it is not, which are as before when it ends.
        trains_all: whether no other parameters have a gradient of this loss.
        compiling: None, or the options of `torch.compile`.

    Attributes:
        untouched: the modules of the loss that are as before when it ends.
        validate: whether it is checked.
        scale: what its loss is scaled by before the gradient is taken; None before the first time.
    """

    scale: LossScale | None = None

    def __init__(
        self,
        loss: Loss,
        weights: Mapping[str, nn.Parameter],
        optimizers: Mapping[int, optim.Optimizer],
        schedulers: Sequence[LRScheduler],
        *,
        others: Sequence[Tensor] = (),
        trains_all: bool,
        compiling: Mapping[str, Any] | None,
    ) -> None:
        self.loss = loss
        self.weights = weights
        self.optimizers = optimizers
        self.schedulers = schedulers
        self.compiling = compiling
        self.trained = [*weights.values()]
        self._others = others
        self._trains_all = trains_all
        if compiling is not None:
            loss.compile(**{"fullgraph": True, **compiling})
        self._steps = {n: make_step(o, compiling=compiling is not None, options=compiling or {}) for n, o in optimizers.items()}
        self._masked = {n: MaskedStep(o, self._steps[n]) for n, o in optimizers.items()}
        self.validate: Validate = True
        self.is_scaled = False
        self._checks: dict[object, NoCheck] = {}
        self.settle()

    def settle(self) -> None:
        """Sees to what stands where the weights are, which may have been moved."""
        # The check of before, if there was one of this kind: its flags are on their way, and a CUDA graph may know them.
        kind = (self.validate, *dict.fromkeys((w.device, w.dtype) for w in self.trained))
        if kind not in self._checks:
            self._checks[kind] = make_check(self.loss, self.weights, self.trained[0].device, self.validate)
        self.check = self._checks[kind]
        self.scale = None if self.scale is None else self.scale.on(self.trained[0].device)
        mine = {*self.trained}
        apart = [leaf for leaf in leaves_of(self.loss) if mine.isdisjoint(leaf.parameters())]
        self._not_trained = [w for w in self.loss.parameters() if w.requires_grad and w not in mine]
        self.untouched = frozenset(module for leaf in apart for module in leaf.modules())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, nothing requires a gradient but what it trains: of a compiled loss, all that are required are taken."""
        try:
            for weight in self._not_trained:
                weight.requires_grad_(False)
            yield
        finally:
            for weight in self._not_trained:
                weight.requires_grad_(True)

    def begin(self) -> None:
        """Decides for a whole step whether its loss is scaled."""
        options = scaling_options()
        self.is_scaled = options is not None
        if options is not None and self.scale is None:
            need_wide(self.weights)
            self.scale = LossScale(options, self.trained[0].device)

    def forget_gradients(self) -> None:
        """Sets all gradients to None."""
        for weight in self.trained:
            weight.grad = None

    def load_scale(self, state: Mapping[str, Any] | None) -> None:
        """Scales the loss as that of which `LossScale.state_dict` gave the state; with None, as a model that was never scaled."""
        self.scale = None if state is None else LossScale(scaling_options() or {}, self.trained[0].device)
        if self.scale is not None and state is not None:
            self.scale.load_state_dict(state)

    def keep_others(self) -> list[tuple[Tensor, Tensor]]:
        """The buffers of the other players, with copies."""
        return [(b, b.clone()) for b in self._others]

    def backward(self, loss: Tensor, engine: Engine, share: int, **how: Any) -> None:
        """Adds the gradient of a share of the loss to those that are there."""
        # What another player or another model trains gets no gradient from here.
        only = None if self._trains_all else [w for w in self.trained if w.requires_grad]
        if self.is_scaled and self.scale is not None:
            loss = self.scale.scale(loss)
        engine.backward(loss, gradient=None if share == 1 else torch.full_like(loss, 1 / share), inputs=only, **how)

    def look(self) -> Tensor | None:
        """The flag, `()`, by which the step is left out on the device; None where there is none."""
        return self.check.see_gradients(self.scale.unscale(self.optimizers.values()) if self.is_scaled and self.scale is not None else None)

    def step(self, flag: Tensor | None, engine: Engine, *, clip_norm: float | None, clip_value: float | None) -> None:
        """The step of the optimisers, unless the flag is set."""
        scale = self.scale if self.is_scaled else None
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trained, clip_norm)
        if clip_value is not None:
            nn.utils.clip_grad_value_(self.trained, clip_value)
        for number, step in self._steps.items():
            engine.step(number, step if flag is None else partial(self._masked[number], flag))
        if scale is not None:
            scale.update(self.check.is_bad)

    def advance(self) -> None:
        """The schedulers take their steps."""
        for scheduler in self.schedulers:
            scheduler.step()

    def count_steps(self, engine: Engine) -> None:
        """The engine counts steps of the optimisers that were taken without it."""
        for number, optimizer in self.optimizers.items():
            optimizer._opt_called = True  # type: ignore[attr-defined]  # what a scheduler asks for
            engine.step(number, _nothing)


def make_turns(loss: Loss, training: Training, who: str, *, compiling: Mapping[str, Any] | None) -> list[Turn]:
    """The turns: of who minimises, and, if there are such, of who maximises games in the loss.

    Raises:
        ParameterError: for an optimiser of both sides, or a side that nobody trains.
    """
    against = {*sides(loss)[1]}
    of_side: dict[bool, list[int]] = {}
    for number, (_, leaves) in enumerate(training.choices):
        trained = [leaf for leaf in leaves.values() if any(w.requires_grad for w in leaf.parameters())]
        found = {leaf in against for leaf in trained}
        if len(found) > 1:
            raise ParameterError(
                f"{who}: optimiser {number + 1} trains {', '.join(leaves)}, which stand on both sides of {loss}. Give each side its own."
            )
        of_side.setdefault(found.pop(), []).append(number)
    turns = []
    for side in (False, True):
        if side not in of_side:
            if side and not against:
                continue
            raise ParameterError(
                f"{who}: nobody trains the side that {'maximises' if side else 'minimises'} in {loss}. Add an optimiser for it."
            )
        turns.append(_turn(loss, training, of_side[side], bool(against), compiling))
    return turns


def _turn(loss: Loss, training: Training, numbers: list[int], is_game: bool, compiling: Mapping[str, Any] | None) -> Turn:
    leaves = dict.fromkeys(leaf for n in numbers for leaf in training.choices[n][1].values())
    own = of_leaves(loss, leaves, " and ".join(text for n in numbers for text in training.choices[n][1])) if is_game else loss
    mine = {w for leaf in leaves for w in leaf.parameters()}
    optimizers = {n: training.optimizers[n] for n in numbers}
    return Turn(
        own,
        {name: w for name, w in training.weights.items() if w in mine},
        optimizers,
        [s for s in training.schedulers if s.optimizer in optimizers.values()],
        others=[b for leaf in leaves_of(own) if leaf not in leaves for b in leaf.buffers()] if is_game else [],
        trains_all=mine.issuperset(own.parameters()) and not is_game,
        compiling=compiling,
    )


def _nothing() -> None:
    """A step that was taken already."""
