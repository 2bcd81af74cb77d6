"""Steps that are replays of a graph."""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pixyz.core import KindError, random_state, set_random_state
from pixyz.models import Model
from pixyz.models.steps import Engine, Evaluated, Executor, Phase, StepProgram

from ._graph_error import GraphError
from ._graph_report import CapturedSteps, GraphReport
from ._graphs import Graphs
from ._signature import Signature, Signatures
from ._static import LearningRates, Snapshot, StaticInputs, StaticState

_IN_TORCH = Engine()


class Eager(Executor):
    """Carries out steps operation by operation, and counts them, where there are no graphs.

    Args:
        report: where they are counted.
    """

    def __init__(self, report: GraphReport) -> None:
        self.report = report

    def run(self, program: StepProgram, evaluated: Evaluated, phase: Phase, engine: Engine) -> Tensor:
        self.report.eager["there are no graphs"] += 1
        return super().run(program, evaluated, phase, engine)


@dataclass
class _Graph:
    """A graph of one phase, what it adds to, and what it writes."""

    replay: Callable[[], None]
    losses: Tensor
    added_to: Mapping[nn.Parameter, Tensor]
    gradients: list[tuple[nn.Parameter, Tensor | None]]
    seen: list[tuple[Any, tuple[Tensor | None, list[object]]]]


@dataclass
class _Captured:
    """The graphs of one signature."""

    inputs: StaticInputs
    graphs: Mapping[Phase, _Graph]
    steps: CapturedSteps


class Replays(Executor):
    """Carries out each call of `train` as one replay, and those for which there is no graph operation by operation.

    A graph writes to the tensors that it was captured with. Values are copied into static inputs; learning rates and the share of the
    weights in their average are tensors that are filled before the replay.

    Args:
        model: the model.
        graphs: captures and replays.
        warmup: how many steps run before a capture.
        on_change: what happens to a step for which there is no graph.
        max_graphs: how many kinds of steps are captured.
    """

    def __init__(self, model: Model, graphs: Graphs, *, warmup: int, on_change: str, max_graphs: int) -> None:
        self.report = GraphReport()
        self._model = model
        self._graphs = graphs
        self._warmup = warmup
        self._on_change = on_change
        self._max_graphs = max_graphs
        self._signatures = Signatures(model)
        self._rates = LearningRates(model.optimizers)
        device = model.trained_parameters[0].device
        self._share = torch.zeros((), dtype=torch.float64, device=device)
        self._gradients: dict[nn.Parameter, Tensor] = {}
        self._captured: dict[Signature, _Captured] = {}
        self._last: Signature | None = None
        self._state: StaticState | None = None

    def __reduce__(self) -> tuple[type[Executor], tuple[()]]:
        # A copy of the model has tensors of its own, of which no graph knows.
        return Executor, ()

    def run(self, program: StepProgram, evaluated: Evaluated, phase: Phase, engine: Engine) -> Tensor:
        if engine.processes > 1:
            raise KindError(
                f"{type(self._model).__name__}: a graphed model trains in one process, and this is one of {engine.processes}. "
                "Train the model without graphed on several devices."
            )
        if self._state is not None:
            self._state.need_device()
        if phase.begins:
            for turn in program.turns:
                turn.begin()
        signature = self._signature(evaluated)
        captured = self._captured.get(signature)
        if captured is None:
            reason = self._changed(signature, evaluated)
            if reason is not None:
                return self._eager(reason, program, evaluated, phase, engine)
            captured = self._captured[signature]
        self._last = signature
        if not self._state.adopt():  # type: ignore[union-attr]  # something was captured
            return self._eager("the first step of an optimiser, which makes its state", program, evaluated, phase, engine)
        if more := self._not_added_to(captured.graphs[phase], phase):
            reason = f"an earlier call has given {more} a gradient, and in this kind of step it has none"
            return self._eager(reason, program, evaluated, phase, engine)
        return self._replay(captured, program, evaluated, phase, engine)

    def capture(self, evaluated: Evaluated) -> None:
        """Captures the graphs of all phases for values like these; the model and torch's generators are as before afterwards.

        Raises:
            GraphError: for an operation that cannot be captured.
            NonFiniteLossError: if the loss of these values, or its gradient, is not finite.
        """
        model, program = self._model, self._model.program
        model.check()
        phases = program.phases()
        if self._state is not None:
            self._state.adopt()
        began = time.perf_counter()
        signature = self._signature(evaluated)
        device = model.trained_parameters[0].device
        inputs = StaticInputs(evaluated.values, self._signatures.inputs, device)
        static = Evaluated(inputs.tensors, evaluated.options, evaluated.state)
        snapshot, before = Snapshot(model, self._gradients.values()), random_state(device)
        try:
            with self._rates.in_place():
                if self._state is not None:
                    self._state.complete()
                self._share.fill_(0.5)
                self._warm_up(phases, static, evaluated)
                state = StaticState(model)
                graphs = {phase: self._capture(phase, static) for phase in phases}
        finally:
            snapshot.restore()
            set_random_state(before, device)
            torch.clear_autocast_cache()
        self._state = state
        steps = CapturedSteps(str(signature), len(graphs), time.perf_counter() - began)
        self.report.captured.append(steps)
        self._captured[signature] = _Captured(inputs, graphs, steps)
        self._last = signature

    def _signature(self, evaluated: Evaluated) -> Signature:
        is_scaled = any(turn.is_scaled for turn in self._model.program.turns)
        return self._signatures.of(evaluated.values, evaluated.options, is_scaled=is_scaled)

    def _changed(self, signature: Signature, evaluated: Evaluated) -> str | None:
        """Why a step has no graph; None if it has one now."""
        assert self._last is not None
        different = self._last.differences(signature, self._signatures.names)
        self.report.changes[different] += 1
        who = type(self._model).__name__
        if self._on_change == "raise":
            raise GraphError(f'{who}: there is no graph for this step: {different}. on_change="eager" or "recapture" goes on.')
        if self._on_change == "eager":
            return different
        if signature.require_gradients:
            return f"{different}, which no replay would give"
        if self._model.program.turns[0].check.checks().on_host:
            return f"{different}, so that the host checks the step"
        if len(self._captured) >= self._max_graphs:
            full = f"max_graphs={self._max_graphs} kinds of steps are captured"
            if not any(reason.endswith(full) for reason in self.report.eager):
                said = f"{who}: {full}, and this step is another: {different}. It has no graph, nor has any later kind."
                warnings.warn(said, stacklevel=5)
            return f"{different}; {full}"
        self.capture(evaluated)
        return None

    def _eager(self, reason: str, program: StepProgram, evaluated: Evaluated, phase: Phase, engine: Engine) -> Tensor:
        self.report.eager[reason] += 1
        return super().run(program, evaluated, phase, engine)

    @torch.no_grad()
    def _replay(self, captured: _Captured, program: StepProgram, evaluated: Evaluated, phase: Phase, engine: Engine) -> Tensor:
        graph = captured.graphs[phase]
        ema = program.ema if program.averages(phase) else None
        captured.inputs.fill(evaluated.values)
        self._rates.fill()
        if ema is not None:
            self._share.fill_(ema.next_share)
        if not phase.begins:
            self._take_over_gradients(phase, graph.added_to)
        graph.replay()
        # The next replay writes to the same place.
        losses = graph.losses.clone()
        for weight, gradient in graph.gradients:
            if weight.grad is not gradient:
                weight.grad = gradient
        for check, seen in graph.seen:
            check.seen = seen
        program.advance(phase, engine)
        if ema is not None:
            ema.updates += 1
        captured.steps.replays += 1
        return losses

    def _warm_up(self, phases: list[Phase], static: Evaluated, given: Evaluated) -> None:
        def cycle() -> None:
            for phase in phases:
                self._compute(phase, static)

        for turn in self._model.program.turns:
            if turn.scale is not None and turn.is_scaled:
                turn.scale.tensors[0].fill_(1.0)  # a step that overflows would make no state of the optimiser
        for number in range(self._warmup):
            self._graphs.warm_up(cycle)
            if number == 0:
                for turn in self._model.program.turns:
                    turn.check.end(given)
                self._model.check()

    def _capture(self, phase: Phase, static: Evaluated) -> _Graph:
        found: list[Tensor] = []
        weights = [] if phase.begins else [w for turn in phase.turns for w in turn.trained]
        added_to = {w: w.grad for w in weights if w.grad is not None}
        try:
            replay = self._graphs.capture(lambda: found.append(self._compute(phase, static)))
        except RuntimeError as error:
            raise GraphError(
                f"{type(self._model).__name__}: {self._model.loss} cannot be captured: {str(error).strip().splitlines()[0]}. "
                "capturable(model, example) finds the operation."
            ) from error
        gradients = [(w, w.grad) for turn in phase.turns for w in turn.trained]
        return _Graph(replay, found[0], added_to, gradients, [(turn.check, turn.check.seen) for turn in phase.turns])

    def _compute(self, phase: Phase, static: Evaluated) -> Tensor:
        # What autocast has kept of the weights is of another step.
        torch.clear_autocast_cache()
        losses = self._model.program.compute(static, phase, _IN_TORCH, share=self._share, advance=False)
        if self._model.program.accumulate > 1:
            self._take_over_gradients(phase)
        torch.clear_autocast_cache()
        return losses

    @staticmethod
    def _not_added_to(graph: _Graph, phase: Phase) -> str:
        """The weights that have gradients of earlier calls of the step, to which the graph would not add."""
        named = [] if phase.begins else [(name, w) for turn in phase.turns for name, w in turn.weights.items()]
        return ", ".join([name for name, w in named if w.grad is not None and w not in graph.added_to])

    @torch.no_grad()
    def _take_over_gradients(self, phase: Phase, added_to: Mapping[nn.Parameter, Tensor] | None = None) -> None:
        """Gradients that the graphs of several calls add up are in the same place for all of them.

        Args:
            phase: the phase.
            added_to: where the graph adds to, of each weight: the place of one that has no gradient yet is set to zero.
        """
        for turn in phase.turns:
            for weight in turn.trained:
                gradient = weight.grad
                if gradient is None:
                    if added_to is not None and weight in added_to:
                        weight.grad = added_to[weight].zero_()
                    continue
                if gradient is self._gradients.get(weight):
                    continue
                if weight not in self._gradients:
                    self._gradients[weight] = torch.empty_like(gradient)
                weight.grad = self._gradients[weight].copy_(gradient)
