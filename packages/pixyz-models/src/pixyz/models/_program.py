"""What a step of a model computes on its device, apart from what Python does around it."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from pixyz.core import Checks, Loss, NonFiniteLossError, SupportError, Together

from ._ema import AveragedWeights
from ._engine import Engine
from ._finite import Evaluated, share_flags
from ._modes import put_back
from ._turn import Turn


class Phase(NamedTuple):
    """Which part of a step of the optimisers one call of `train` makes."""

    turns: tuple[Turn, ...]
    """The turns that are taken, in their order."""
    begins: bool
    """Whether it is the first call of the step, which forgets the gradients of the last."""
    ends: bool
    """Whether it is the last call of the step, which updates the weights."""


class StepProgram:
    """The losses, gradients, checks, clipping, updates and averages of one call of `train`.

    `compute` is the same sequence of operations at each call of one phase; what differs from call to call is in the values and in `share`.

    Args:
        loss: the loss.
        turns: one for a loss without players; of a game, that of who minimises and that of the discriminators.
        compiled: whether each turn's loss is compiled, so that nothing is computed for two turns at once.
        accumulate: how many calls make one step.
        n_critic: how many steps of the discriminators make one of the others.
        at_once: whether both sides step from the same weights.
        clip_norm: the largest norm of the gradients of a turn.
        clip_value: the largest absolute value of any gradient.
        ema: the average of the weights.

    Attributes:
        calls: how many calls have added to the gradients of a step that is not complete.
    """

    def __init__(
        self,
        loss: Loss,
        turns: Sequence[Turn],
        *,
        compiled: bool,
        accumulate: int,
        n_critic: int,
        at_once: bool,
        clip_norm: float | None,
        clip_value: float | None,
        ema: AveragedWeights | None,
    ) -> None:
        self.loss = loss
        self.turns = tuple(turns)
        self.compiled = compiled
        self.accumulate = accumulate
        self.n_critic = n_critic
        self.at_once = at_once
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.ema = ema
        self.calls = 0

    def settle(self) -> None:
        """Rebuilds what depends on the device, after the parameters were moved."""
        for turn in self.turns:
            turn.settle()
        share_flags([turn.check for turn in self.turns])
        if self.ema is not None:
            self.ema.follow()

    def abandon(self) -> None:
        """Drops the step that is not complete, and all that is on its way to the host."""
        self.calls = 0
        for turn in self.turns:
            turn.check.forget()
            turn.forget_gradients()

    def phase(self, step: int) -> Phase:
        """The phase of the next call, after this many steps."""
        return Phase(self._moving(step), not self.calls, self.calls + 1 == self.accumulate)

    def phases(self) -> list[Phase]:
        """All phases, in the order in which they first come."""
        last = self.accumulate - 1
        parts = dict.fromkeys((call == 0, call == last) for call in range(self.accumulate))
        steps = dict.fromkeys(self._moving(step) for step in range(self.n_critic))
        return [Phase(turns, begins, ends) for turns in steps for begins, ends in parts]

    def _moving(self, step: int) -> tuple[Turn, ...]:
        if len(self.turns) == 1:
            return self.turns
        return self.turns[::-1] if step % self.n_critic == 0 else self.turns[1:]

    def averages(self, phase: Phase) -> bool:
        """Whether the average of the weights goes on in this phase."""
        return self.ema is not None and phase.ends and self.turns[0] in phase.turns

    def compute(
        self,
        evaluated: Evaluated,
        phase: Phase,
        engine: Engine,
        *,
        share: float | Tensor | None = None,
        advance: bool = True,
    ) -> Tensor:
        """Carries out one call.

        Args:
            evaluated: the values and options.
            phase: the phase.
            engine: takes gradients and steps.
            share: the share of the new weights in their average, if it goes on in this phase.
            advance: whether the schedulers take their steps, which compute nothing on the device.

        Returns:
            The losses before the step, detached, `()`; of a game, `(2,)`.
        """
        checks = self.turns[0].check.checks()
        together = None
        if len(self.turns) > 1 and not self.compiled:
            together = Together(self.loss, evaluated.values, checks=checks, **evaluated.options)
        seen: dict[Turn, Tensor] = {}
        for turn in phase.turns:
            is_last = turn is phase.turns[-1]
            # What another player's network counts is its own; but what it ran for this turn may be all that it runs.
            kept = turn.keep_others() if together is None or is_last else []
            loss = self._value(turn, evaluated, together, checks)
            seen[turn] = engine.of_all(loss)
            turn.check.see_loss(seen[turn], evaluated, checks, gradients_follow=phase.ends)
            if phase.begins:
                turn.begin()
                turn.forget_gradients()
            turn.backward(loss, engine, self.accumulate, retain_graph=self.at_once and not is_last)
            if kept:
                put_back(kept)
            if phase.ends:
                self.calls = 0
                if not self.at_once:
                    self._update(turn, engine, advance)
                    if together is not None and not is_last:
                        together.keep(turn.untouched)
        if not phase.ends:
            self.calls += 1
        elif self.at_once:
            # Whatever is bad for one player leaves out the steps of both.
            for turn, flag in [(turn, turn.look()) for turn in phase.turns]:
                bad = turn.check.is_bad
                self._step(turn, flag if flag is None or bad is None or flag is bad else torch.maximum(flag, bad), engine, advance)
        if self.averages(phase):
            self.ema.move(share, self.turns[0].check.is_bad)  # type: ignore[union-attr, arg-type]  # as `averages` says
        return self._stacked(seen)

    def advance(self, phase: Phase, engine: Engine) -> None:
        """What Python does after a call that was carried out without it: the engine counts the steps, and the schedulers take theirs."""
        self.calls = 0 if phase.ends else self.calls + 1
        for turn in phase.turns if phase.begins else ():
            turn.begin()
        for turn in phase.turns if phase.ends else ():
            turn.count_steps(engine)
            turn.advance()

    def _value(self, turn: Turn, evaluated: Evaluated, together: Together | None, checks: Checks) -> Tensor:
        """What the turn minimises, of the same evaluation as the others' if there is one."""
        try:
            if together is not None:
                return together.value(turn.loss)
            with turn.alone() if self.compiled else nullcontext():
                return turn.loss.estimate(evaluated.values, validate=checks, **evaluated.options)
        except SupportError as error:
            if not error.nans:
                raise
            raise NonFiniteLossError(f"{error} So {turn.loss} is not finite. The optimiser has not stepped.") from error

    def _update(self, turn: Turn, engine: Engine, advance: bool) -> None:
        self._step(turn, turn.look(), engine, advance)

    def _step(self, turn: Turn, flag: Tensor | None, engine: Engine, advance: bool) -> None:
        turn.step(flag, engine, clip_norm=self.clip_norm, clip_value=self.clip_value)
        if advance:
            turn.advance()

    def _stacked(self, seen: dict[Turn, Tensor]) -> Tensor:
        if len(self.turns) == 1:
            return seen[self.turns[0]]
        nan = next(iter(seen.values())).new_full((), torch.nan)
        return torch.stack([seen.get(turn, nan) for turn in self.turns])
