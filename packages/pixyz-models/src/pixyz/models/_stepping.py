"""The step of an optimiser: fused or compiled, and left out on the device where a gradient is not finite."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn, optim

from pixyz.core import CACHE_OF_ITS_OWN

Step = Callable[[], object]


def make_optimizer(
    make: Callable[..., optim.Optimizer], weights: list[nn.Parameter], options: Mapping[str, Any], *, compiling: bool, sparse: bool
) -> optim.Optimizer:
    """The optimiser: fused if torch has it so, for its default on the CPU is a Python loop over the weights; else as it is, or, where its
    step is to be compiled, ready for that.

    What the user says about fused, foreach, capturable or differentiable rules. No fused step takes sparse gradients.
    """
    known = inspect.signature(make).parameters
    said = {"fused", "foreach", "capturable", "differentiable"}.intersection(options)
    if said or not is_torchs_own(make):
        return make(weights, **options)
    if "fused" in known and not sparse:
        try:
            return make(weights, **{**options, "fused": True})
        except RuntimeError:  # torch has none for this device or dtype
            pass
    if not compiling:
        return make(weights, **options)
    device = weights[0].device
    more: dict[str, Any] = {"capturable": True} if "capturable" in known and device.type != "cpu" else {}
    lr = options.get("lr", known["lr"].default)
    if isinstance(lr, float):
        # A number would be a constant of the graph: a scheduler would have each step compiled anew.
        more["lr"] = torch.tensor(lr, dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)
    return make(weights, **{**options, **more})


def is_torchs_own(made: object) -> bool:
    """Whether a class, or the class of an optimiser, is one of `torch.optim`."""
    module = getattr(made, "__module__", None) or type(made).__module__
    return module.split(".")[:2] == ["torch", "optim"]


def needs_closure(optimizer: optim.Optimizer) -> bool:
    """Whether its step evaluates the loss itself, as that of LBFGS: it takes a function, and cannot do without."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def make_step(optimizer: optim.Optimizer, *, compiling: bool, options: Mapping[str, Any]) -> Step:
    """`optimizer.step`, compiled unless it is fused, which is one call already, or not torch's own."""
    if not compiling or not is_torchs_own(type(optimizer)) or optimizer.param_groups[0].get("fused"):
        return PlainStep(optimizer)
    return CompiledStep(optimizer, options)


class PlainStep:
    """The step of an optimiser. A copy of the model copies it with the optimiser."""

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self._optimizer = optimizer

    def __call__(self) -> None:
        # Looked up at each step: a scheduler that the user makes later puts a function of its own there.
        self._optimizer.step()


class CompiledStep:
    """The step of an optimiser, compiled. A copy of the model compiles that of its own optimiser."""

    def __init__(self, optimizer: optim.Optimizer, options: Mapping[str, Any]) -> None:
        self._optimizer = optimizer
        self._options = options
        self._compiled = torch.compile(optimizer.step, **{**CACHE_OF_ITS_OWN, **options})

    def __call__(self) -> None:
        self._compiled()
        self._optimizer._opt_called = True  # type: ignore[attr-defined]  # what a scheduler's own function would say

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledStep, (self._optimizer, self._options)


class MaskedStep:
    """A step that changes nothing if a flag on the device is set, without asking the device for it.

    Args:
        optimizer: whose step.
        step: what takes it.
    """

    def __init__(self, optimizer: optim.Optimizer, step: Step) -> None:
        self._optimizer = optimizer
        self._step = step
        self._has_stepped = False
        self._keeps_state = False

    @property
    def _is_first(self) -> bool:
        """Whether the step makes the optimiser's state: a new one has none, nor one that was given an empty state."""
        return not self._has_stepped or (self._keeps_state and not self._optimizer.state)

    def __call__(self, flag: Tensor) -> None:
        """Takes the step unless `flag`, `()`, is 1.

        The first step makes the optimiser's state, which cannot be unmade on the device: this once, the flag is read.
        """
        if self._is_first:
            if flag.item():
                self._optimizer._opt_called = True  # type: ignore[attr-defined]  # a scheduler goes on with a step that was left out
                return
            self._step()
            self._has_stepped, self._keeps_state = True, bool(self._optimizer.state)
        elif getattr(self._optimizer, "_step_supports_amp_scaling", False):
            # What torch's own GradScaler does with the fused optimisers.
            self._optimizer.grad_scale, self._optimizer.found_inf = None, flag  # type: ignore[attr-defined]
            try:
                self._step()
            finally:
                del self._optimizer.grad_scale, self._optimizer.found_inf  # type: ignore[attr-defined]
        else:
            tensors = [*self._tensors(flag.device)]
            kept = [t.clone() for t in tensors]
            self._step()
            skipped = flag.bool()
            with torch.no_grad():
                for tensor, before in zip(tensors, kept, strict=True):
                    tensor.copy_(torch.where(skipped, before, tensor))

    def _tensors(self, device: torch.device) -> Iterable[Tensor]:
        """All that a step changes: weights and state."""
        for group in self._optimizer.param_groups:
            for weight in group["params"]:
                yield weight.detach()
                yield from [s for s in self._optimizer.state[weight].values() if isinstance(s, Tensor) and s.device == device]
