"""All that a step of a model changes, kept and put back."""

import random
import sys
from collections import deque
from collections.abc import Iterable
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, Dataset, Sampler

_LEFT = (
    type,
    ModuleType,
    str,
    bytes,
    int,
    float,
    complex,
    bool,
    torch.dtype,
    torch.device,
    BuiltinFunctionType,
    Dataset,
    DataLoader,
    Sampler,
)

_OTHERS = frozenset(("torch", "numpy", "builtins", "lightning", "weakref", "threading", "_thread", "io", "logging"))


class State:
    """Tensors, and what Python objects hold, as they are now, from these objects on.

    Tensors are those of modules, optimisers and all else that can be reached; data sets are left alone. So are the generators of torch and
    Python, and numpy's where it is imported.

    Args:
        roots: a model, a loss.
        keeps: whether values are copied, so that they can be put back; else tensors are only found.

    Attributes:
        moved: the tensors that follow the model to another device: its parameters and buffers, and what pixyz and optimisers keep.
        names: the tensors that modules hold as plain attributes, with the name of each.
        generators: the identities of the generators that were found.
        modules: all modules that were found.
    """

    def __init__(self, *roots: Any, keeps: bool = True) -> None:
        self._keeps = keeps
        self.moved: list[Tensor] = []
        self.names: list[tuple[str, Tensor]] = []
        self.generators: set[int] = set()
        self.modules: list[nn.Module] = []
        self._held: list[tuple[Tensor, Tensor, Tensor, bool, Tensor | None]] = []
        self._contents: list[tuple[Any, Any]] = []
        self._states: list[tuple[torch.Generator, Tensor]] = []
        self._seen: set[int] = set()
        self._alive: list[Any] = []
        self._walk([(root, True) for root in roots])
        self._random = random_states()

    def restore(self) -> None:
        """Puts all of it back."""
        for container, content in self._contents:
            _refill(container, content)
        with torch.no_grad():
            for tensor, data, values, requires_grad, grad in self._held:
                if tensor.data.data_ptr() != data.data_ptr() or tensor.shape != data.shape:
                    tensor.data = data
                tensor.data.copy_(values)
                if tensor.is_leaf and tensor.requires_grad != requires_grad:
                    tensor.requires_grad_(requires_grad)
                if tensor.is_leaf:
                    tensor.grad = grad
        for generator, state in self._states:
            generator.set_state(state)
        set_random_states(self._random)

    def _walk(self, waiting: list[tuple[Any, bool]]) -> None:
        """Visits what waits, each with whether it follows the model to another device."""
        while waiting:
            found, moves = waiting.pop()
            if found is None or isinstance(found, _LEFT) or id(found) in self._seen:
                continue
            self._seen.add(id(found))
            self._alive.append(found)
            if isinstance(found, Tensor):
                self._keep(found, moves)
            elif isinstance(found, torch.Generator):
                self.generators.add(id(found))
                self._states.append((found, found.get_state()))
            elif isinstance(found, dict):
                self._contents.append((found, dict(found)))
                waiting += [(inner, moves) for inner in (*found.keys(), *found.values())]
            elif isinstance(found, (list, set, deque)):
                self._contents.append((found, [*found]))
                waiting += [(inner, moves) for inner in found]
            elif isinstance(found, (tuple, frozenset)):
                waiting += [(inner, moves) for inner in found]
            elif isinstance(found, MethodType):
                waiting += [(found.__func__, moves), (found.__self__, moves)]
            elif isinstance(found, partial):
                waiting += [(inner, moves) for inner in (found.func, found.args, found.keywords)]
            elif isinstance(found, FunctionType):
                waiting += [(inner, moves and found.__module__.startswith("pixyz.")) for inner in _closure(found)]
            elif _is_looked_at(found):
                waiting += self._attributes(found, moves)

    def _keep(self, tensor: Tensor, moves: bool) -> None:
        grad = tensor.grad if tensor.is_leaf else None
        for t in (tensor,) if grad is None else (tensor, grad):
            if self._keeps:
                self._held.append((t, t.data, t.data.clone(), t.requires_grad, grad if t is tensor else None))
            if moves:
                self.moved.append(t)

    def _attributes(self, found: Any, moves: bool) -> Iterable[tuple[Any, bool]]:
        held = dict(getattr(found, "__dict__", {}))
        if held:
            self._contents.append((found.__dict__, held))
        slots = [name for cls in type(found).__mro__ for name in getattr(cls, "__slots__", ()) if name != "__weakref__"]
        every = {**held, **{name: getattr(found, name, None) for name in slots}}
        every.pop("_compiled_call_impl", None)
        if not isinstance(found, nn.Module):
            follows = moves and (_is_of_pixyz(type(found)) or isinstance(found, (optim.Optimizer, optim.lr_scheduler.LRScheduler)))
            return [(inner, follows) for inner in every.values()]
        self.modules.append(found)
        self.names += [(f"{type(found).__name__}.{name}", t) for name, t in every.items() if isinstance(t, Tensor)]
        own = {"_parameters", "_buffers", "_modules"}
        return [(inner, moves and (name in own or type(found).__module__.startswith("pixyz."))) for name, inner in every.items()]


def random_states() -> tuple[Any, ...]:
    """The states of the generators that draws use: torch's, Python's, and numpy's where it is imported."""
    numpy = sys.modules.get("numpy")
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return torch.get_rng_state(), cuda, random.getstate(), None if numpy is None else numpy.random.get_state()


def set_random_states(states: tuple[Any, ...]) -> None:
    """What `random_states` gave, put back."""
    cpu, cuda, python, numpy = states
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)
    random.setstate(python)
    if numpy is not None:
        sys.modules["numpy"].random.set_state(numpy)


def _is_looked_at(found: Any) -> bool:
    """Whether an object's attributes are looked at: those of models, modules and optimisers, and of what users have written."""
    if isinstance(found, (nn.Module, optim.Optimizer, optim.lr_scheduler.LRScheduler)):
        return True
    return type(found).__module__.split(".")[0] not in _OTHERS


def _is_of_pixyz(cls: type) -> bool:
    return any([each.__module__.startswith("pixyz.") for each in cls.__mro__])


def _closure(function: FunctionType) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # empty
            continue
    return found


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, dict):
        if not _is_same(container, content):
            container.clear()
            container.update(content)
    elif isinstance(container, set):
        container.clear()
        container.update(content)
    elif isinstance(container, deque):
        container.clear()
        container.extend(content)
    else:
        container[:] = content


def _is_same(a: dict[Any, Any], b: dict[Any, Any]) -> bool:
    """Whether two dicts hold the same objects, in the same order."""
    return len(a) == len(b) and all(k is m and v is w for (k, v), (m, w) in zip(a.items(), b.items()))
