"""What stays in one place between the replays of a graph: inputs, learning rates, weights, buffers and the states of optimisers."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn, optim

from pixyz.models import Model

from ._graph_error import GraphError


class StaticInputs:
    """Copies of the values of one step, from which a graph reads those of every step.

    Args:
        values: the values, `(batch, *features)`, and numbers.
        names: those that the loss reads, in its order.
        device: where a number goes if there is no tensor beside it.
    """

    def __init__(self, values: Mapping[str, Any], names: Iterable[str], device: torch.device) -> None:
        given = {name: values[name] for name in names if name in values}
        like = next((v for v in given.values() if isinstance(v, Tensor) and v.is_floating_point()), torch.empty((), device=device))
        self.tensors: dict[str, Tensor] = {
            name: v.detach().clone() if isinstance(v, Tensor) else torch.full((), v, dtype=like.dtype, device=like.device)
            for name, v in given.items()
        }

    def fill(self, values: Mapping[str, Any]) -> None:
        """Takes the values of another step, of the same shapes."""
        for name, static in self.tensors.items():
            value = values[name]
            if isinstance(value, Tensor):
                static.copy_(value, non_blocking=True)
            else:
                static.fill_(value)


class LearningRates:
    """The learning rates of a model as tensors, which are filled with what the optimisers say before each step.

    The optimisers keep theirs as they are: schedulers compute with Python's numbers, and a rate that you set is seen.

    Args:
        optimizers: the optimisers.
    """

    def __init__(self, optimizers: Iterable[optim.Optimizer]) -> None:
        self._optimizers = [*optimizers]
        self._tensors: list[list[Tensor | None]] = [[] for _ in self._optimizers]
        self._last: list[list[object]] = [[] for _ in self._optimizers]

    def _make(self) -> None:
        """Makes tensors for groups that have none yet: all at first, later those that were added."""
        for optimizer, tensors, last in zip(self._optimizers, self._tensors, self._last, strict=True):
            device = optimizer.param_groups[0]["params"][0].device
            # On the CPU as exact as Python's; the kernels of CUDA read float32.
            dtype = torch.float64 if device.type == "cpu" else torch.float32
            for group in optimizer.param_groups[len(tensors) :]:
                tensors.append(torch.zeros((), dtype=dtype, device=device) if "lr" in group else None)
                last.append(None)

    def fill(self) -> None:
        """Takes the rates as they are now."""
        for optimizer, tensors, last in zip(self._optimizers, self._tensors, self._last):
            for i, (group, tensor) in enumerate(zip(optimizer.param_groups, tensors)):
                if tensor is None:
                    continue
                rate = group["lr"]
                if isinstance(rate, Tensor):
                    tensor.copy_(rate, non_blocking=True)
                    last[i] = None
                elif rate != last[i]:
                    tensor.fill_(rate)
                    last[i] = rate

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the optimisers read the tensors."""
        self._make()
        with torch.no_grad():
            self.fill()
        kept = [[group.get("lr") for group in optimizer.param_groups] for optimizer in self._optimizers]
        try:
            self._put(self._tensors)
            yield
        finally:
            self._put(kept)

    def _put(self, rates: Iterable[Iterable[object]]) -> None:
        for optimizer, mine in zip(self._optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, mine, strict=True):
                if "lr" in group:
                    group["lr"] = rate


class StaticState:
    """The tensors of a model that graphs know by their addresses.

    What replaces one of them between two steps (`optimizer.load_state_dict`, `model.load`, `module.to` and back) is copied into it.

    Args:
        model: the model, whose optimisers have the states that they will keep.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.device = model.trained_parameters[0].device
        modules = _modules_of(model)
        weights = dict.fromkeys([*(w for m in modules for w in m._parameters.values() if w is not None), *model.trained_parameters])
        self._weights = [(w, w.data, w.data_ptr()) for w in weights]
        self._buffers = [(m, name, b) for m in modules for name, b in m._buffers.items() if b is not None]
        self._entries = [
            (optimizer, weight, [(name, tensor) for name, tensor in entry.items() if isinstance(tensor, Tensor)])
            for optimizer in model.optimizers
            for weight, entry in optimizer.state.items()
        ]
        self._slot = next((m._parameters, name) for m in modules for name, w in m._parameters.items() if w is not None)
        for optimizer in model.optimizers:
            for entry in optimizer.state.values():
                for name, value in entry.items():
                    if isinstance(value, (int, float)) and not isinstance(value, bool):
                        raise GraphError(
                            f"{type(optimizer).__name__} keeps {name} as a number of Python, which a graph would not count on. "
                            "Keep it as a tensor on the device."
                        )
        self._averages = [] if model.ema is None else [*model.ema.averages]
        self._scales = [turn.scale for turn in model.program.turns]

    @torch.no_grad()
    def adopt(self) -> bool:
        """Copies into the tensors what has replaced them, and puts them back.

        Returns:
            Whether the optimisers have all of their states; else their next step makes them.

        Raises:
            GraphError: if weights are on another device or have another dtype.
        """
        for weight, home, pointer in self._weights:
            if weight.data_ptr() != pointer:
                self._need_kind(weight, home)
                home.copy_(weight.data)
                weight.data = home
        for module, name, home in self._buffers:
            buffer = module._buffers.get(name)
            if buffer is not home and buffer is not None:
                self._need_kind(buffer, home)
                home.copy_(buffer)
                module._buffers[name] = home
        is_complete = True
        for optimizer, weight, homes in self._entries:
            entry = optimizer.state.get(weight, {})
            for name, home in homes:
                tensor = entry.get(name)
                if tensor is None:
                    is_complete = False
                elif tensor is not home:
                    home.copy_(tensor)
                    entry[name] = home
        self._adopt_averages()
        for turn, home in zip(self._model.program.turns, self._scales, strict=True):
            if home is not None and turn.scale is not home and turn.scale is not None:
                home.load_state_dict(turn.scale.state_dict())
                turn.scale = home
        return is_complete

    def complete(self) -> None:
        """Gives optimisers that have no state yet that which the graphs know, so that further graphs write to the same tensors."""
        for optimizer, weight, homes in self._entries:
            for name, home in homes:
                optimizer.state[weight].setdefault(name, home)

    def _adopt_averages(self) -> None:
        ema = self._model.ema
        if ema is not None and any(a is not home for a, home in zip(ema.averages, self._averages, strict=True)):
            for home, average in zip(self._averages, ema.averages, strict=True):
                home.copy_(average)
            ema.averages = [*self._averages]

    def need_device(self) -> None:
        """Raises a `GraphError` if the model has been moved to another device."""
        slots, name = self._slot  # a module that cannot move its parameter makes another one
        first = slots[name]
        devices = [self._model.trained_parameters[0].device, self.device if first is None else first.device]
        device = next((device for device in devices if device != self.device), None)
        if device is not None:
            raise GraphError(
                f"{type(self._model).__name__}: its graphs are on {self.device}, and it has been moved to {device}. "
                "Move it back, or capture graphs there with graphed(model, example)."
            )

    def _need_kind(self, tensor: Tensor, home: Tensor) -> None:
        who = type(self._model).__name__
        self.need_device()
        if tensor.dtype != home.dtype or tensor.shape != home.shape:
            raise GraphError(
                f"{who}: its graphs were captured with {_kind(home)}, which has become {_kind(tensor)}. "
                "Capture graphs of the model as it is now with graphed(model, example)."
            )


class Snapshot:
    """What the steps of a warm-up change: all of it is as before when the block ends.

    Args:
        model: the model.
        gradients: further tensors that are as before.
    """

    def __init__(self, model: Model, gradients: Iterable[Tensor] = ()) -> None:
        self._model = model
        modules = _modules_of(model)
        tensors: dict[Tensor, None] = dict.fromkeys(
            [
                *model.trained_parameters,
                *(t for m in modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None),
                *(t for o in model.optimizers for entry in o.state.values() for t in entry.values() if isinstance(t, Tensor)),
                *([] if model.ema is None else model.ema.averages),
                *(flag for turn in model.program.turns for flag in turn.check.flags),
                *(t for turn in model.program.turns if turn.scale is not None for t in turn.scale.tensors),
                *gradients,
            ]
        )
        with torch.no_grad():
            self._copies = [(t, t.detach().clone()) for t in tensors if not _is_expanded(t)]
        self._gradients = [(w, w.grad) for w in model.trained_parameters]
        self._modes = [(m, m.training) for m in modules]
        self._states = [(o, {w: dict(entry) for w, entry in o.state.items()}) for o in model.optimizers]
        self._updates = 0 if model.ema is None else model.ema.updates
        self._calls = model.program.calls

    def restore(self) -> None:
        """Puts everything back, each tensor where it was."""
        with torch.no_grad():
            for tensor, value in self._copies:
                tensor.copy_(value)
        for weight, gradient in self._gradients:
            weight.grad = gradient
        for module, mode in self._modes:
            module.training = mode
        for optimizer, before in self._states:
            for weight in [w for w in optimizer.state if w not in before]:
                del optimizer.state[weight]
            for weight, entry in before.items():
                now = optimizer.state[weight]
                for name in [name for name in now if name not in entry]:
                    del now[name]
                now.update(entry)
        if self._model.ema is not None:
            self._model.ema.updates = self._updates
        self._model.program.calls = self._calls


def _modules_of(model: Model) -> list[nn.Module]:
    return [*dict.fromkeys(m for part in (model.loss, *model.distributions) for m in part.modules())]


def _is_expanded(tensor: Tensor) -> bool:
    """Whether one number stands in several places, so that no step can have written to it."""
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def _kind(tensor: Tensor) -> str:
    return f"a tensor {tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
