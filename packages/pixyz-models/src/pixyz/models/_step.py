"""The step of a model: the loss, its gradient, the optimisers."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn, optim

from pixyz.core import Loss, NonFiniteLossError, ParameterError, SupportError

from ._diagnosis import random_state
from ._ema import AveragedWeights
from ._engine import PLAIN, Engine
from ._finite import Evaluated, make_check
from ._modes import evaluating, train_mode
from ._optimisation import Optimizer
from ._schedules import Schedule, scheduled
from ._stepping import MaskedStep, make_step
from ._training import arrange


class Steps:
    """What a model does with a loss and its optimisers: `train`, `test`, `check`, `averaged`."""

    loss: Loss
    test_loss: Loss
    schedules: Mapping[str, Schedule]

    def _limit(self, clip_grad_norm: float | None, clip_grad_value: float | None, accumulate: int) -> None:
        """Checks and keeps what is done with the gradients before a step."""
        name = type(self).__name__
        for word, limit in (("clip_grad_norm", clip_grad_norm), ("clip_grad_value", clip_grad_value)):
            if limit is not None and not limit > 0:
                raise ParameterError(f"{name}: {word} must be positive; got {limit}.")
        if not isinstance(accumulate, int) or accumulate < 1:
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
    ) -> None:
        """Makes what the steps need.

        Args:
            loss: the loss.
            one: what was said of one optimiser, by word.
            several: several optimisers.
            ema: the decay of the average.
            compile: whether to compile, or the options.
        """
        if ema is not None and not 0 <= ema < 1:
            who = type(self).__name__
            raise ParameterError(f"{who}: ema is the decay of the average, at least 0 and below 1, such as 0.999; got {ema}.")
        self.compiled = compile is not False
        self.step_count = 0
        training = arrange(loss, one, several, fast=self.compiled, who=type(self).__name__)
        self.optimizers = training.optimizers
        self.schedulers = training.schedulers
        self.distributions = list(dict.fromkeys(leaf for _, leaves in training.choices for leaf in leaves.values()))
        self.trained_parameters = [*training.weights.values()]
        self._choices = training.choices
        self._all_trained = {*self.trained_parameters}.issuperset(loss.parameters())
        options = dict(compile) if isinstance(compile, Mapping) else {}
        if self.compiled:
            loss.compile(**{"fullgraph": True, **options})
        self._steps = [make_step(o, compiling=self.compiled, options=options) for o in self.optimizers]
        self._masked = [MaskedStep(o, step) for o, step in zip(self.optimizers, self._steps, strict=True)]
        self._weights = training.weights
        self.ema = None if ema is None else AveragedWeights(training.weights, ema)
        self._settle()
        self._calls = 0
        self.needs_start = loss.needs_start

    def _settle(self) -> None:
        """Sees to what stands where the weights are, which may have been moved."""
        self._device = self.trained_parameters[0].device
        self._check = make_check(self.loss, self._weights, self._device)
        if self.ema is not None:
            self.ema.follow()

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

        On an accelerator nothing waits for the device: where a loss or a gradient is not finite, this step and those after it are left out
        there, and the error comes from a later call, of `train`, `test` or `check`.

        Args:
            values: `(batch, *features)` for every variable of the loss.
            options: those of `Loss.estimate`.

        Returns:
            The loss before the step, `()`, detached.

        Raises:
            NonFiniteLossError: if the loss or a gradient is nan or infinite; it names the term, and the optimisers have not stepped.
        """
        return self._train(values, options, PLAIN)

    def _train(self, values: Mapping[str, Any], options: Mapping[str, Any], engine: Engine) -> Tensor:
        """One step, whose gradient and update the engine carries out; the mean of the loss over all processes."""
        if self.trained_parameters[0].device != self._device:
            self._settle()
        self._check.read(wait=False)
        if self.ema is not None and self.ema.is_in_place:
            raise ParameterError(f"{type(self).__name__}: train would train the averages. Leave the block of averaged() first.")
        train_mode(self.loss)
        if self.needs_start:
            self.initialize(values, **options)
        values = scheduled(values, self.schedules, self.step_count)
        evaluated = Evaluated(values, options, random_state(self._device))
        try:
            loss = self.loss.estimate(values, **options)
        except SupportError as error:
            if not error.nans:
                raise
            raise NonFiniteLossError(f"{error} So {self.loss} is not finite. The optimiser has not stepped.") from error
        seen = engine.of_all(loss)
        self._check.see_loss(seen, evaluated)
        if not self._calls:
            for weight in self.trained_parameters:
                weight.grad = None
        self._backward(loss, engine)
        self._calls += 1
        if self._calls == self.accumulate:
            self._calls = 0
            self._update(engine)
        self._check.end(evaluated)
        return seen

    def _backward(self, loss: Tensor, engine: Engine) -> None:
        share = None if self.accumulate == 1 else torch.full_like(loss, 1 / self.accumulate)
        # What another model trains gets no gradient from here.
        only = None if self._all_trained else [w for w in self.trained_parameters if w.requires_grad]
        engine.backward(loss, gradient=share, inputs=only)

    def _update(self, engine: Engine) -> None:
        """One step with the gradients that are there."""
        flag = self._check.see_gradients()
        if self.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.trained_parameters, self.clip_grad_norm)
        if self.clip_grad_value is not None:
            nn.utils.clip_grad_value_(self.trained_parameters, self.clip_grad_value)
        for number, step in enumerate(self._steps if flag is None else [partial(step, flag) for step in self._masked]):
            engine.step(number, step)
        for scheduler in self.schedulers:
            scheduler.step()
        if self.ema is not None:
            self.ema.update()
        self.step_count += 1

    def check(self) -> None:
        """Waits for the device, and raises what the steps so far have met there. On the CPU there is nothing to wait for.

        Raises:
            NonFiniteLossError: if a loss or a gradient was not finite; the weights are those before that step.
        """
        self._check.read(wait=True)

    def test(self, values: Mapping[str, Any], **options: Any) -> Tensor:
        """The test loss, `()`, in evaluation mode and without gradients; every module's mode is as before afterwards.

        With `ema`, it is that of the averaged weights, those that one would keep.
        """
        self.check()
        with evaluating(self.test_loss), self.with_averages():
            return self.test_loss.estimate(scheduled(values, self.schedules, self.step_count), **options)

    def with_averages(self) -> AbstractContextManager[None]:
        """Inside, the weights are those that one would keep: their averages, if there are such."""
        return nullcontext() if self.ema is None else self.ema.in_place()

    @property
    def is_between_steps(self) -> bool:
        """Whether no gradient waits for the rest of its step, which `accumulate` makes of several calls."""
        return not self._calls

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
