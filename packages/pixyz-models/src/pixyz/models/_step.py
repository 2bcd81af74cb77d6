"""The step of a model: the loss, its gradient, the optimisers."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, optim

from pixyz.core import (
    NO_CHECKS,
    ON_HOST,
    KindError,
    Loss,
    ParameterError,
    Together,
    is_whole,
    random_state,
)

from ._counts import Counts
from ._ema import AveragedWeights
from ._engine import PLAIN, Engine
from ._executor import Executor
from ._finite import Evaluated, Validate, is_known
from ._modes import evaluating, train_mode
from ._optimisation import Optimizer
from ._optimizer_state import move_states
from ._options import need_positive
from ._program import StepProgram
from ._scaling import LossScale
from ._schedules import Schedule, scheduled
from ._training import arrange
from ._turn import make_turns

M = TypeVar("M", bound="Steps")


class Steps:
    """What a model does with a loss and its optimisers: `train`, `test`, `check`, `averaged`."""

    loss: Loss
    test_loss: Loss
    schedules: Mapping[str, Schedule]

    def _limit(self, clip_grad_norm: float | None, clip_grad_value: float | None, accumulate: int) -> None:
        """Checks and keeps what is done with the gradients before a step."""
        name = type(self).__name__
        for word, limit in (("clip_grad_norm", clip_grad_norm), ("clip_grad_value", clip_grad_value)):
            if limit is not None:
                need_positive(limit, name, word)
        if not is_whole(accumulate) or accumulate < 1:
            raise ParameterError(f"{name}: accumulate is how many calls of train make one step, at least 1; got {accumulate!r}.")
        self.clip_grad_norm = clip_grad_norm
        self.clip_grad_value = clip_grad_value
        self.accumulate = accumulate

    def _arrange(
        self,
        loss: Loss,
        one: Mapping[str, Any],
        several: Iterable[Optimizer] | None,
        *,
        ema: float | None,
        compile: bool | Mapping[str, Any],
        n_critic: int,
        at_once: bool,
        validate: Validate,
    ) -> None:
        """Makes what the steps need.

        Args:
            loss: the loss.
            one: what was said of one optimiser, by word.
            several: several optimisers.
            ema: the decay of the average.
            compile: whether to compile, or the options.
            n_critic: how many steps of the discriminators make one of the others.
            at_once: whether both sides of a game step from the same weights.
            validate: whether the steps are checked.
        """
        who = type(self).__name__
        if ema is not None and not (isinstance(ema, (int, float)) and not isinstance(ema, bool) and 0 <= ema < 1):
            raise ParameterError(f"{who}: ema is the decay of the average, at least 0 and below 1, such as 0.999; got {ema!r}.")
        if not is_whole(n_critic) or n_critic < 1:
            raise ParameterError(
                f"{who}: n_critic is how many steps of the discriminators make one of the others, at least 1; got {n_critic!r}."
            )
        self.compiled = compile is not False
        self.step_count = 0
        training = arrange(loss, one, several, compiling=self.compiled, who=who)
        self.optimizers = training.optimizers
        self.schedulers = training.schedulers
        self.distributions = list(dict.fromkeys(leaf for _, leaves in training.choices for leaf in leaves.values()))
        self.trained_parameters = [*training.weights.values()]
        self._choices = training.choices
        options = dict(compile) if isinstance(compile, Mapping) else {}
        self._turns = make_turns(loss, training, who, compiling=options if self.compiled else None)
        if len(self._turns) == 1 and (n_critic > 1 or at_once):
            raise ParameterError(f"{who}: {'n_critic' if n_critic > 1 else 'at_once'} is for games, and {loss} has no discriminator.")
        if len(self._turns) > 1 and self.accumulate > 1 and not at_once:
            raise ParameterError(
                f"{who}: with accumulate={self.accumulate} the sides of a game step from the same weights; say so with at_once=True. In "
                "turns, only the last of the calls that make a step would see what the discriminators have become."
            )
        self.n_critic = n_critic
        self.at_once = at_once
        self.ema = None if ema is None else AveragedWeights(self._turns[0].weights, ema)
        self.program = StepProgram(
            loss,
            self._turns,
            compiled=self.compiled,
            accumulate=self.accumulate,
            n_critic=n_critic,
            at_once=at_once,
            clip_norm=self.clip_grad_norm,
            clip_value=self.clip_grad_value,
            ema=self.ema,
        )
        self.executor = Executor()
        self.validate = validate
        self._settle()
        self.needs_start = loss.needs_start

    def _settle(self) -> None:
        """Sees to what stands where the weights are, which may have been moved."""
        self._device = self.trained_parameters[0].device
        self.program.settle()

    @property
    def validate(self) -> Validate:
        """Whether steps are checked: supports, and whether losses and gradients are finite."""
        return self._validate

    @validate.setter
    def validate(self, validate: Validate) -> None:
        if not is_known(validate):
            raise KindError(f'{type(self).__name__}: validate must be True, False or "deferred"; got {validate!r}.')
        self._read(wait=True)  # while the flags of the steps so far are there
        self._validate: Validate = validate
        for turn in self._turns:
            turn.validate = validate
        self.program.settle()

    def to(self: M, device: torch.device | str | int) -> M:
        """Moves the losses, p and q, the states of the optimisers and the averages of the weights to a device.

        Args:
            device: `"cuda"`, `"cuda:1"`, `"cpu"`.

        Returns:
            The model itself.

        Raises:
            NonFiniteLossError: if an earlier step was not finite.
        """
        self._read(wait=True)
        for module in (self.loss, self.test_loss, getattr(self, "p", None), getattr(self, "q", None)):
            if module is not None:
                module.to(device)
        move_states(self.optimizers)
        self._settle()
        return self

    def initialize(self, values: Mapping[str, Any], **options: Any) -> None:
        """Starts what starts from data, such as activation normalisation in a flow. `train` and `fit` call it with their first batch.

        Args:
            values: as for `train`.
            options: those of `Loss.estimate`.

        Raises:
            MissingVariableError: if a variable of the loss has no value.
        """
        self.loss.initialize(scheduled(values, self.schedules, self.step_count), **options)
        self.needs_start = False

    @property
    def optimizer(self) -> optim.Optimizer:
        """The optimiser, of a model that has one."""
        if len(self.optimizers) > 1:
            raise ParameterError(f"{type(self).__name__} has {len(self.optimizers)} optimisers; take one of model.optimizers.")
        return self.optimizers[0]

    def train(self, values: Mapping[str, Any], **options: Any) -> Tensor:
        """One step of the optimisers, in train mode.

        With `accumulate=n`, every n-th call takes the step, and the others only add to its gradient. The schedulers and the average of the
        weights go on with the step.

        Of a game, both sides step: the discriminators first, then, unless the model is made with `at_once=True`, the others against what
        these have become. With `n_critic=n` the others step in the first of every n steps. What one side draws serves the other, too.

        On an accelerator nothing waits for the device: where a loss or a gradient is not finite, this step and those after it are left out
        there, and the error comes from a later call, of `train`, `test` or `check`.

        Args:
            values: `(batch, *features)` for every variable of the loss.
            options: those of `Loss.estimate`, but for `validate`, which the model has.

        Returns:
            The loss before the step, `()`, detached. Of a game, `(2,)`: what the others minimise, and what the discriminators minimise;
            nan for the side whose turn it is not.

        Raises:
            NonFiniteLossError: if the loss or a gradient is nan or infinite; it names the term, and the optimisers have not stepped.
        """
        return self._train(values, options, PLAIN)

    def _train(self, values: Mapping[str, Any], options: Mapping[str, Any], engine: Engine) -> Tensor:
        """One step, whose gradient and update the engine carries out; the mean of the loss over all processes."""
        evaluated = self.ready(values, options)
        phase = self.program.phase(self.step_count)
        losses = self.executor.run(self.program, evaluated, phase, engine)
        self.step_count += phase.ends
        for turn in phase.turns:
            turn.check.end(evaluated)
        return losses

    def ready(self, values: Mapping[str, Any], options: Mapping[str, Any]) -> Evaluated:
        """Prepares a call of `train`: reads what earlier steps have met, sets train mode, and initialises layers that start from data.

        Args:
            values: as for `train`.
            options: those of `Loss.estimate`.

        Returns:
            The values with those of the schedules, the options, and the random state.

        Raises:
            ParameterError: inside of `averaged()`.
            NonFiniteLossError: if an earlier step on an accelerator was not finite.
        """
        if "validate" in options:
            who = type(self).__name__
            raise KindError(f"{who}.train takes no validate; say it of the model, {who}(..., validate=False) or model.validate = False.")
        has_moved = self.trained_parameters[0].device != self._device
        self._read(wait=has_moved)
        if has_moved:
            self._settle()
        if self.ema is not None and self.ema.is_in_place:
            raise ParameterError(f"{type(self).__name__}: train would train the averages. Leave the block of averaged() first.")
        train_mode(self.loss)
        if self.needs_start:
            self.initialize(values, **options)
        counts = Counts.of(self.step_count, self.ema, self.schedulers) if self._turns[0].check.is_deferred else None
        return Evaluated(scheduled(values, self.schedules, self.step_count), options, random_state(self._device), counts)

    def losses_by_name(self, losses: Tensor, step: int) -> dict[str, Tensor]:
        """What `train` has returned at a step: `loss`, and of a game `discriminator`, for those that had a turn."""
        if len(self._turns) == 1:
            return {"loss": losses}
        least, most = losses.unbind()
        return {"loss": least, "discriminator": most} if step % self.n_critic == 0 else {"discriminator": most}

    def check(self) -> None:
        """Waits for the device, and raises what the steps so far have met there. On the CPU there is nothing to wait for.

        Raises:
            NonFiniteLossError: if a loss or a gradient was not finite; the weights are those before that step.
        """
        self._read(wait=True)

    def _read(self, *, wait: bool) -> None:
        """Raises the error of an earlier step on the device, if it is known, after the model was set to the counts before that step."""
        found = [turn.check for turn in self._turns if turn.check.has_met(wait=wait)]
        if not found:
            return
        found = [turn.check for turn in self._turns[::-1] if turn.check.has_met(wait=True)]
        check = next((check for check in found if check.is_own), found[0])
        error, counts = check.error(), check.met.counts
        self.program.abandon()
        if counts is not None:
            self.step_count = counts.steps
            counts.put_back(self.ema)
        raise error

    def test(self, values: Mapping[str, Any], **options: Any) -> Tensor:
        """The test loss, `()`, in evaluation mode and without gradients; every module's mode is as before afterwards.

        Of a game, `(2,)`, what both sides minimise, as `train` returns it. With `ema`, it is that of the averaged weights, those that
        one would keep.
        """
        self.check()
        values = scheduled(values, self.schedules, self.step_count)
        with evaluating(self.test_loss), self.with_averages():
            if len(self._turns) == 1 or self.test_loss is not self.loss:
                return self.test_loss.estimate(values, validate=self._validate is not False, **options)
            together = Together(self.loss, values, checks=ON_HOST if self._validate else NO_CHECKS, **options)
            return torch.stack([together.value(turn.loss) for turn in self._turns])

    def with_averages(self) -> AbstractContextManager[None]:
        """Inside, the weights are those that one would keep: their averages, if there are such."""
        return nullcontext() if self.ema is None else self.ema.in_place()

    @property
    def is_between_steps(self) -> bool:
        """Whether no gradient waits for the rest of its step, which `accumulate` makes of several calls."""
        return not self.program.calls

    @property
    def skipped_steps(self) -> int:
        """How many steps were left out because the gradient of a loss that `scaled_losses` had scaled overflowed; of a game, of both sides.

        They count in `step_count` too. On an accelerator the host waits for the number.
        """
        return sum([scale.skipped for scale in self._loss_scales if scale is not None])

    @property
    def _loss_scales(self) -> list[LossScale | None]:
        """The scale of the loss, of a game of those who minimise and of those who maximise; None where it was never scaled."""
        return [turn.scale for turn in self._turns]

    def _load_scales(self, states: Iterable[Mapping[str, Any] | None]) -> None:
        for turn, state in zip(self._turns, states):
            turn.load_scale(state)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the trained weights are their averages; afterwards they are what they were.

        Raises:
            ParameterError: for a model without an average.

        Examples:
            >>> import torch
            >>> from pixyz.distributions import Normal
            >>> from pixyz.models import Model
            >>> p = Normal(var=["x"], loc=torch.nn.Parameter(torch.zeros(1)), scale=1.0)
            >>> model = Model(-p.log_prob().mean(), optimizer=torch.optim.SGD, optimizer_params={"lr": 0.5}, ema=0.5)
            >>> for _ in range(2):
            ...     _ = model.train({"x": torch.ones(4, 1)})
            >>> with model.averaged():
            ...     print(f"{p.loc.item():.4f}")
            0.6667
            >>> print(f"{p.loc.item():.4f}")
            0.7500
        """
        if self.ema is None:
            raise ParameterError(f"{type(self).__name__} has no average of its weights; make it with ema=0.999.")
        with self.ema.in_place():
            yield
