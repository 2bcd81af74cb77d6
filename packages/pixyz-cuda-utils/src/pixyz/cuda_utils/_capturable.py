"""What in a step of a model would break a CUDA graph, found on any device."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from pixyz.core import DeferredChecks, KindError, Loss, ParameterError, is_number, need_scalar
from pixyz.models import Model
from pixyz.models.steps import Executor

from ._comparison import compare, same_operations
from ._observation import Observation, is_trusted
from ._obstacles import Obstacle, Obstacles
from ._origins import DEVICE, Origins, storage_of
from ._places import Places
from ._state import State, random_states

COMPARED = 3
UNTIL_STEADY = 8
"""How many calls may be unlike those after them: the first make the state of the optimiser, and some programs look at the first batches."""


def capturable(model: Model | Loss, example: Mapping[str, Any]) -> Obstacles:
    """Lists the operations in a step that a CUDA graph cannot have, or would repeat wrongly. It runs on any device, also on the CPU.

    A CUDA graph is a list of kernels, which `graphed` captures once and then replays. While it is captured the host must not wait for the
    device, all shapes must be known, and nothing may come from the host's memory; and what Python computes (a number, a branch, a new
    tensor in an attribute) is as it was at the capture for ever. Here a few steps are carried out with the example, one operation after
    the other, and are compared.

    The model is as before afterwards: weights, buffers, optimisers, schedulers, modes, random states, counts, and attributes of your own.

    What Python does less often than every few steps is not seen. Not reported is what `graphed` sees to: learning rates, the steps that
    optimisers count, `schedules`, the share of a moving average, accumulation, and both sides of a game.

    Args:
        model: the model; or a scalar loss, of which the value and its gradient are one step.
        example: what `train` is given, `(batch, *features)` for every variable of the loss.

    Returns:
        The obstacles, in the order in which they were met: none if the list is empty. It prints as a table.

    Raises:
        KindError: for what is neither a model nor a loss.
        ShapeError: for a loss that is not a scalar.
        ParameterError: for a loss that has no gradient, or a parameter that has no shape yet.
        MissingVariableError, SupportError: as `train`, for an example that does not fit.

    Examples:
        >>> import torch
        >>> from pixyz.core import Loss
        >>> from pixyz.distributions import Normal
        >>> p = Normal(var=["x"], loc=torch.nn.Parameter(torch.zeros(2)), scale=1.0)
        >>> model = Model(-p.log_prob().mean())
        >>> print(capturable(model, {"x": torch.ones(3, 2)}))
        nothing in this step would break a CUDA graph
        >>> def scaled(x):
        ...     return (x / x.std().item()).sum(-1)
        >>> model = Model(-(p.log_prob() + Loss.from_function(scaled, "f", var=["x"])).mean())
        >>> for obstacle in capturable(model, {"x": torch.tensor([[1.0, 2.0]])}):
        ...     print(obstacle.kind, obstacle.term, obstacle.phase, sep=", ")
        host read, f(x), forward

    Source:
        https://docs.pytorch.org/docs/stable/notes/cuda.html#constraints
    """
    if not isinstance(model, (Model, Loss)):
        raise KindError(f"capturable takes a model of pixyz.models or a scalar loss; got a {type(model).__name__}.")
    loss = model if isinstance(model, Loss) else model.loss
    need_scalar(loss, "capturable")
    for name, weight in loss.named_parameters():
        if is_lazy(weight):
            raise ParameterError(f"capturable: {name} has no shape yet. Evaluate the loss once, with loss.estimate(values).")
    executor = None if isinstance(model, Loss) else model.executor
    if isinstance(model, Model):
        model.check()
        model.executor = Executor()  # a model that is graphed already has another one
    state = State(model)
    try:
        with torch.compiler.set_stance("force_eager"):
            for module in state.modules:
                module._compiled_call_impl = None  # what is compiled is looked at as it is written
            return Obstacles(_steps(model, loss, example))
    finally:
        state.restore()
        if isinstance(model, Model) and executor is not None:
            model.executor = executor


def _steps(model: Model | Loss, loss: Loss, example: Mapping[str, Any]) -> Iterable[Obstacle]:
    """The obstacles of some steps, from the first ones that are alike."""
    trained = [w for w in (loss.parameters() if isinstance(model, Loss) else model.trained_parameters) if w.requires_grad]
    if not trained:
        raise ParameterError(f"capturable: {loss} has no gradient, for it has no parameter that requires one.")
    values = _as_tensors(example, trained[0])
    step: Step = _StepOfLoss(model, values, trained) if isinstance(model, Loss) else _StepOfModel(model, values)
    if not loss.estimate(step.values).requires_grad:
        raise ParameterError(f"capturable: {loss} has no gradient: its value depends on no parameter that requires one.")
    found = State(model, keeps=False)
    given = [t for t in step.values.values() if isinstance(t, Tensor)]
    # A network may be met first where a function keeps it, and be registered elsewhere.
    held = [*loss.parameters(), *loss.buffers(), *trained]
    origins = Origins(trained[0].device, [*found.moved, *held, *given], {storage_of(t): name for name, t in found.names})
    places = Places(_run.__code__, step.actors)
    seen: list[Observation] = []
    # Where Python draws or counts, a branch may be taken now and then.
    is_restless, python = False, None
    while len(seen) < COMPARED + math.ceil(UNTIL_STEADY / step.period):
        seen.append(Observation(origins, places, found.generators))
        for _ in range(step.period):
            step.prepare()
            before = _held(loss)
            _run(step, seen[-1])
            step.finish()
            for tensor in step.kept():
                origins.born(tensor, DEVICE)
            for name, at in _held(loss).items():
                if before.get(name, at) != at:
                    origins.rebound[at] = name
        if len(seen) == COMPARED - 1:
            python = _of_python(loss)
        elif not is_restless and len(seen) >= COMPARED:
            is_restless = _of_python(loss) != python
        if len(seen) >= COMPARED and not is_restless and same_operations(seen[-COMPARED:]):
            break
    last = seen[COMPARED - 1 :] if is_restless else seen[-COMPARED:]
    compare(last)
    return dict.fromkeys(obstacle for each in last for obstacle in each.obstacles)


def _run(step: "Step", observation: Observation) -> None:
    """One call, observed. Places are told of what stands below this function."""
    with observation():
        step()


class _StepOfModel:
    """Calls of `train`; the numbers of schedules are values.

    Args:
        model: the model.
        values: the example.

    Attributes:
        values: the tensors that each call is given.
        period: after how many calls they repeat: those that make a step, and the steps of discriminators between two of the others.
        actors: what computes with numbers of its own, which a graph gets as tensors.
    """

    def __init__(self, model: Model, values: Mapping[str, Any]) -> None:
        self._model = model
        like = model.trained_parameters[0]
        self._scheduled = {v: like.new_zeros(()) for v in model.schedules if v not in values}
        self.values = {**values, **self._scheduled} if self._scheduled else values
        self.period = model.accumulate * model.n_critic
        self.actors = () if model.ema is None else (model.ema,)
        model.validate = "deferred"
        self.prepare()

    def prepare(self) -> None:
        """Sets the numbers of the schedules, and scales at which no step is left out: an optimiser makes its state in a step."""
        for turn in self._model.program.turns:
            if turn.scale is not None:
                turn.scale.tensors[0].fill_(1.0)
        for v, number in self._scheduled.items():
            number.fill_(self._model.schedules[v](self._model.step_count))

    def __call__(self) -> None:
        self._model.train(self.values)

    def finish(self) -> None:
        """Reads the flags of the checks."""
        self._model.check()

    def kept(self) -> Iterable[Tensor]:
        """What optimisers count, which in a graph is on the device."""
        states = [state for o in self._model.optimizers if is_trusted(o) for state in o.state.values()]
        return [t for state in states for t in state.values() if isinstance(t, Tensor)]


class _StepOfLoss:
    """The value of a loss and its gradient."""

    period = 1
    actors = ()

    def __init__(self, loss: Loss, values: Mapping[str, Any], weights: Sequence[Tensor]) -> None:
        self._loss = loss
        self.values = values
        self._weights = weights

    def prepare(self) -> None:
        """Starts what starts from data."""
        self._loss.initialize(self.values)

    def __call__(self) -> None:
        value = self._loss.estimate(self.values, validate=DeferredChecks())
        torch.autograd.grad(value, self._weights, allow_unused=True)

    def finish(self) -> None:
        """Nothing."""

    def kept(self) -> Iterable[Tensor]:
        """Nothing."""
        return ()


Step = _StepOfModel | _StepOfLoss


def _as_tensors(example: Mapping[str, Any], weight: Tensor) -> Mapping[str, Any]:
    """The example, its numbers as tensors, which a graph can be given anew."""
    if not isinstance(example, Mapping):
        return example
    like = next((t for t in example.values() if isinstance(t, Tensor) and t.is_floating_point()), weight.detach())
    return {v: like.new_full((), example[v]) if is_number(example[v]) else example[v] for v in example.keys()}  # noqa: SIM118


def _of_python(loss: Loss) -> tuple[Any, ...]:
    """The random states of Python and numpy, and the numbers that modules have as attributes."""
    _, _, *states = random_states()
    counts = [v for module in loss.modules() for v in module.__dict__.values() if type(v) in (int, float)]
    return repr(states), counts


def _held(loss: Loss) -> dict[str, int]:
    """The tensors that the modules hold, also as plain attributes, by their names: the address of each."""
    found = {}
    for path, module in loss.named_modules():
        for kept in (module._buffers, module.__dict__):
            found.update({f"{path}.{k}": storage_of(t) for k, t in kept.items() if isinstance(t, Tensor)})
    return found
