"""The memory of a loss, term by term."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn.parameter import is_lazy

from pixyz.core import KindError, Loss, ParameterError, leaves_of, of_leaves, random_state, set_random_state, sides
from pixyz.models import Model

from ._memory import MemoryReport
from ._memory_of_terms import Allocator, OfAllocator, OfGraph, bytes_of


def memory_report(
    model: Model | Loss, values: Mapping[str, Any] | None = None, *, allocator: Allocator | None = None, **options: Any
) -> MemoryReport:
    """How many bytes each term of a loss takes in a step.

    One evaluation of the formula, not compiled, and on CUDA its backward pass; of a game, one for each player. A term's `live` bytes
    are what it keeps for the backward pass. On the CPU these are the tensors that autograd has saved: each storage is counted once, at
    the term that has saved it first, and those of weights, buffers and values are not counted with the terms. On CUDA they are the
    difference in the allocator's count between the end and the beginning of the term, which has the term's value in it too; the peak is
    the allocator's.

    Weights, buffers, gradients, modes and the random state are left as they were. A model is evaluated in train mode, a loss in the mode
    it is in.

    Args:
        model: a model, or a loss.
        values: `(batch, *features)` for every variable, as for `train` or `estimate`.
        allocator: what counts bytes, if not that of the device; with it, the loss is counted as on CUDA.
        options: those of `Loss.estimate`.

    Raises:
        KindError: for what is no model and no loss.
        ParameterError: if a parameter has no shape before the first step (a lazy module).
        MissingVariableError, BoundVariableError, ShapeError, SupportError: as `estimate`.

    Examples:
        >>> from torch import nn
        >>> from pixyz.models import ML
        >>> from pixyz.distributions import Normal
        >>> net = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 2))
        >>> p = Normal("p(y|x)", loc=net, scale=1.0)
        >>> print(memory_report(ML(p), {"x": torch.zeros(32, 8), "y": torch.zeros(32, 2)}))
        term                   live
        mean(-log p(y|x))   8.2 KiB
          -log p(y|x)       8.2 KiB
            - log p(y|x)    8.2 KiB
        <BLANKLINE>
        parameters          2.8 KiB
        buffers                 4 B
        gradients           2.8 KiB
        optimisers          5.5 KiB
        values              1.2 KiB
        total              20.6 KiB
        <BLANKLINE>
        live: what autograd has saved. On CUDA the allocator counts, peaks too.
    """
    loss = model.loss if isinstance(model, Model) else model
    if not isinstance(loss, Loss):
        raise KindError(f"memory_report takes a model or a loss; got a {type(model).__name__}.")
    modules = [loss, model.test_loss, *model.distributions] if isinstance(model, Model) else [loss]
    weights, buffers = _distinct([w for m in modules for w in m.parameters()]), _distinct([b for m in modules for b in m.buffers()])
    if any([is_lazy(t) for t in (*weights, *buffers)]):
        raise ParameterError("memory_report: a parameter has no shape before the first step. Take one step first.")
    given: Mapping[str, Any] | None = values
    if isinstance(model, Model) and isinstance(values, Mapping):
        steps = {v: float(schedule(model.step_count)) for v, schedule in model.schedules.items() if v not in values}
        given = {**{v: values[v] for v in values.keys()}, **steps}  # noqa: SIM118 - a TensorDict iterates over its rows
    device = next(iter([*weights, *buffers]), torch.empty(0)).device
    if allocator is None and device.type == "cuda":
        allocator = Allocator(device)
    apart = [*weights, *buffers, *[t for t in (given or {}).values() if isinstance(t, Tensor)]] if isinstance(given, Mapping) else []
    roots, peaks = [], []
    with _unnoticed(loss, [*weights, *buffers], device, train=isinstance(model, Model)):
        if loss.needs_start:
            loss.initialize(given, **options)
        for part in _players(loss):
            recorder = OfAllocator(allocator) if allocator is not None else OfGraph(apart)
            roots.append(recorder.run(part, given, options))
            peaks.append(recorder.backward_peak)
    trained = model.trained_parameters if isinstance(model, Model) else [w for w in weights if w.requires_grad]
    return MemoryReport(
        tuple(roots),
        None if allocator is None else max(peaks),
        bytes_of(weights),
        bytes_of(buffers),
        bytes_of(trained) if isinstance(model, Model) else 0,
        _bytes_of_optimizers(model.optimizers) if isinstance(model, Model) else 0,
        bytes_of([t for t in (values or {}).values() if isinstance(t, Tensor)]) if isinstance(values, Mapping) else 0,
        isinstance(model, Model),
    )


class _unnoticed:  # noqa: N801 - a block, as torch.no_grad is
    """Inside, the loss may be evaluated; afterwards tensors, modes and the random state are as before."""

    def __init__(self, loss: Loss, tensors: list[Tensor], device: torch.device, *, train: bool) -> None:
        # Weights change in an evaluation that initialises them, and nowhere else.
        self._tensors = tensors if loss.needs_start else [t for t in tensors if not isinstance(t, nn.Parameter)]
        self._loss, self._device, self._train = loss, device, train

    def __enter__(self) -> None:
        self._kept = [t.detach().clone() for t in self._tensors]
        self._modes = [(m, m.training) for m in self._loss.modules()]
        self._state = random_state(self._device)
        if self._train:
            self._loss.train()

    @torch.no_grad()
    def __exit__(self, *_: object) -> None:
        set_random_state(self._state, self._device)
        for module, mode in self._modes:
            module.training = mode
        for tensor, value in zip(self._tensors, self._kept, strict=True):
            tensor.copy_(value)


def _players(loss: Loss) -> list[Loss]:
    """The loss, or of a game that of those who minimise and that of those who maximise."""
    if not loss.is_game:
        return [loss]
    texts = {leaf: text for text, leaf in loss.named_children()}
    found = []
    for side in sides(loss):
        leaves = [leaf for leaf in leaves_of(loss) if leaf in side and any(w.requires_grad for w in leaf.parameters())]
        if leaves:
            found.append(of_leaves(loss, leaves, " and ".join([texts.get(leaf, "") for leaf in leaves])))
    return found


def _bytes_of_optimizers(optimizers: Iterable[optim.Optimizer]) -> int | None:
    total = 0
    for optimizer in optimizers:
        state = optimizer.state if optimizer.state else _after_a_step(optimizer)
        if state is None:
            return None
        total += bytes_of([t for of in state.values() for t in of.values() if isinstance(t, Tensor)])
    return total


def _after_a_step(optimizer: optim.Optimizer) -> Mapping[Any, Any] | None:
    """What an optimiser keeps after its first step, found by one of the same class that steps without data."""
    try:
        groups = []
        for group in optimizer.param_groups:
            twins = [nn.Parameter(torch.empty_like(w, device="meta")) for w in group["params"] if w.requires_grad]
            for twin in twins:
                twin.grad = torch.empty_like(twin)
            more = {k: v for k, v in group.items() if k in optimizer.defaults and k not in ("fused", "foreach", "capturable", "lr")}
            groups.append({**more, "params": twins, "lr": float(group["lr"])})
        slow: dict[str, Any] = {word: False for word in ("fused", "foreach") if word in optimizer.defaults}
        twin_optimizer = type(optimizer)(groups, **slow)
        twin_optimizer.step()
    except Exception:  # an optimiser of the user's may need anything; then nothing is said of it
        return None
    return twin_optimizer.state


def _distinct(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [*dict.fromkeys(tensors)]
