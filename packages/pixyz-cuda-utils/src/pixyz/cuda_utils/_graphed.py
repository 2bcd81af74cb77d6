"""Models whose steps are replays of CUDA graphs."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from torch import Tensor, nn, optim
from torch.nn.parameter import UninitializedParameter

from pixyz.core import KindError, ParameterError, is_whole, random_state, reading_is_free, set_random_state
from pixyz.models import Model
from pixyz.models.steps import Executor

from ._capturable import capturable
from ._graph_error import GraphError
from ._graph_report import GraphReport
from ._graphs import Graphs
from ._replays import Eager, Replays
from ._signature import Signatures
from ._static import Snapshot

M = TypeVar("M", bound=Model)
_ON_CHANGE = ("eager", "raise", "recapture")


def graphed(
    model: M,
    example: Mapping[str, Any],
    *,
    warmup: int = 3,
    on_change: Literal["eager", "raise", "recapture"] = "eager",
    max_graphs: int = 4,
    inspect: bool = True,
    graphs: Graphs | None = None,
) -> M:
    """Captures the step of a model as a CUDA graph, so that each call of `train`, also by `fit`, is one launch.

    The graph has the loss, its gradient, the checks, clipping, the step of the optimisers and the average of the weights; of a game, the
    turns of both players. With `accumulate` and `n_critic`, there is one graph for each kind of call. Values are copied into the tensors
    with which it was captured. Learning rates of schedulers and scheduled numbers of the formula are seen, and so is a rate that you set;
    each replay draws new noise, the same that the step would have drawn without a graph. Python runs while it is captured only: what a
    network prints, counts or logs does not happen at a replay, and hooks are not called.

    Weights, buffers, optimisers, averages and torch's generators are afterwards what they were before, but for data-dependent
    initialisation, which is done with the example if it was not yet. The first step of an optimiser that has no state yet is eager.

    Without a CUDA device the model is returned as it is, and `graph_report(model)` has the reason and what would be captured.

    Args:
        model: the model, on the device where it trains.
        example: `(batch, *features)` for every variable of the loss, like the values that `train` will get.
        warmup: how many steps run before a capture; their effect is undone.
        on_change: what happens if a step differs from the captured ones in keys, shapes, dtypes or devices of values, in modes, in
            `requires_grad`, in settings of an optimiser or in autocast. `"eager"` carries it out operation by operation, `"raise"` raises
            an error, and `"recapture"` captures it as well, unless a value requires a gradient, which no replay would give it.
        max_graphs: how many such kinds of steps are captured; the steps of further kinds are eager, of which a warning tells once.
        inspect: whether `capturable` looks for obstacles first, which takes some steps operation by operation. Without it, an operation
            that waits for the device is an error all the same, but a number that Python computes anew at each step would be repeated.
        graphs: captures and replays; by CUDA, if not given.

    Returns:
        The same model.

    Raises:
        KindError, ParameterError: for an argument that is none.
        GraphError: for what cannot be captured, by its name: an optimiser that computes with numbers of Python, sparse gradients, an
            example that requires a gradient, and what `capturable` finds. From `train`, if the model was moved to another device, and
            with `on_change="raise"`.
        MissingVariableError, ShapeError, SupportError, NonFiniteLossError: for an example that does not fit the model.

    Examples:
        >>> import torch
        >>> from pixyz.distributions import Normal
        >>> p = Normal(var=["x"], loc=torch.nn.Parameter(torch.zeros(2)), scale=1.0)
        >>> model = graphed(Model(-p.log_prob().mean()), {"x": torch.zeros(4, 2)})
        >>> model.train({"x": torch.zeros(4, 2)})
        tensor(1.8379)
    """
    _check_arguments(model, example, warmup, on_change, max_graphs)
    model.executor = Executor()
    graphs = Graphs(model.trained_parameters[0].device) if graphs is None else graphs
    found = [*obstacles(model), *_gradients_of(model, example)]
    if inspect and not found:
        found = [str(obstacle) for obstacle in capturable(model, example)]
    if graphs.unavailable is not None:
        model.executor = Eager(_report_without_graphs(model, example, graphs.unavailable, found))
        return model
    if found:
        raise GraphError(f"{type(model).__name__}: its step cannot be a CUDA graph.\n  " + "\n  ".join(found))
    validate = model.validate
    if validate is True and reading_is_free(model.trained_parameters[0].device):
        model.validate = "deferred"
    try:
        for optimizer in model.optimizers:
            _make_capturable(optimizer)
        replays = Replays(model, graphs, warmup=warmup, on_change=on_change, max_graphs=max_graphs)
        evaluated = model.ready(example, {})
        for turn in model.program.turns:
            turn.begin()
        replays.capture(evaluated)
    except BaseException:
        model.validate = validate
        raise
    model.executor = replays
    return model


def obstacles(model: Model) -> list[str]:
    """What of a model no graph can have, in words."""
    found = []
    for optimizer in model.optimizers:
        found += _obstacles_of(optimizer)
    for module in model.loss.modules():
        if getattr(module, "sparse", False) is True:
            found.append(
                f"{type(module).__name__}(sparse=True) has sparse gradients, whose sizes only the device knows. Leave out sparse=True."
            )
    weights = [*dict.fromkeys([*model.loss.parameters(), *model.trained_parameters])]
    lazy = [name for name, w in model.loss.named_parameters() if isinstance(w, UninitializedParameter)]
    if lazy:
        found.append(f"{', '.join(lazy)} has no shape yet. Run the loss once: model.test(example).")
    devices = dict.fromkeys(str(w.device) for w in weights)
    if len(devices) > 1:
        found.append(f"its parameters are on {' and '.join(devices)}; a graph is of one device.")
    for turn in model.program.turns:
        options = turn.compiling or {}
        if options.get("mode") in ("reduce-overhead", "max-autotune") or (options.get("options") or {}).get("triton.cudagraphs"):
            found.append(f"compile={dict(options)} makes CUDA graphs of its own. Take compile=True, or mode='max-autotune-no-cudagraphs'.")
            break
    return found


def _gradients_of(model: Model, example: Mapping[str, Any]) -> list[str]:
    given = {name: example[name] for name in (*model.loss.input_var, *sorted(model.loss.optional_var)) if name in example}
    names = [name for name, value in given.items() if isinstance(value, Tensor) and value.requires_grad]
    return [f"{name} of the example requires a gradient, which no replay would give it. Give {name}.detach()." for name in names]


def _obstacles_of(optimizer: optim.Optimizer) -> list[str]:
    name, found = type(optimizer).__name__, []
    is_torchs_own = type(optimizer).__module__.startswith("torch.optim")
    for group in optimizer.param_groups:
        if group.get("fused") or group.get("capturable") or (is_torchs_own and "capturable" in group):
            continue
        found.append(
            f"{name} is neither fused nor capturable: its step computes with numbers of Python, which a graph would keep. "
            + (
                "Leave out foreach= and differentiable= from optimizer_params, or choose Adam, AdamW or fused SGD."
                if is_torchs_own
                else "If it takes lr as a tensor and reads nothing from the device, give its groups capturable=True."
            )
        )
        break
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        found.append(f"{name} has hooks on its step, which a replay does not call. Remove them.")
    return found


def _make_capturable(optimizer: optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
    # Steps for which there is no graph run without one, on purpose.
    optimizer._warned_capturable_if_run_uncaptured = True  # type: ignore[attr-defined]


def _report_without_graphs(model: Model, example: Mapping[str, Any], why: str, found: list[str]) -> GraphReport:
    """What would be captured, and whether the example fits the model, which stays as it was."""
    needs_start = model.needs_start
    device = next(iter(model.loss.parameters())).device
    snapshot, before = Snapshot(model), random_state(device)
    try:
        evaluated = model.ready(example, {})
        model.loss.estimate(evaluated.values)
        signature = Signatures(model).of(evaluated.values, {}, is_scaled=False)
    finally:
        snapshot.restore()
        set_random_state(before, device)
        model.needs_start = needs_start
    count = len(model.program.phases())
    would = f"{count} graph{'s' * (count > 1)} for {signature}"
    return GraphReport(unavailable=why, obstacles=found, would_capture=None if found else would)


def _check_arguments(model: object, example: object, warmup: object, on_change: object, max_graphs: object) -> None:
    if not isinstance(model, Model):
        kind = f"the module {type(model).__name__}" if isinstance(model, nn.Module) else f"a {type(model).__name__}"
        raise KindError(f"graphed: model must be a Model of pixyz.models; got {kind}.")
    if not isinstance(example, Mapping):
        raise KindError(f'graphed: example must be a mapping like the values of train, {{"x": x}}; got a {type(example).__name__}.')
    for word, count in (("warmup", warmup), ("max_graphs", max_graphs)):
        if not is_whole(count) or count < 1:  # type: ignore[operator]
            raise ParameterError(f"graphed: {word} must be a whole number of at least 1; got {count!r}.")
    if on_change not in _ON_CHANGE:
        raise ParameterError(f"graphed: on_change must be one of {', '.join(_ON_CHANGE)}; got {on_change!r}.")
