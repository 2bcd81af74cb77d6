"""One step of a model, observed operation by operation."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from . import _operations as operations
from ._obstacles import (
    COPY_FROM_HOST,
    COPY_TO_HOST,
    DATA_DEPENDENT_SHAPE,
    HOST_NUMBER,
    HOST_READ,
    HOST_TENSOR,
    NEW_TENSOR,
    RANDOM_STATE,
    SYNCHRONISATION,
    Obstacle,
)
from ._origins import DEVICE, HOST, NUMBER, OUTSIDE, TOLD, Origins, storage_of
from ._places import Place, Places

NO_MEETING = frozenset(("_to_copy", "lift_fresh", "detach", "copy_", "set_"))
_ONE_DEVICE = frozenset(("cat", "stack", "mm", "bmm", "addmm", "index_select", "gather", "embedding"))


class Operation(NamedTuple):
    """One operation of a step: its name, its numbers, the shapes of its tensors, and its place."""

    name: str
    numbers: tuple[Any, ...]
    shapes: tuple[Any, ...]
    place: Place


class Observation:
    """What one or more calls of `train` have done.

    Attributes:
        obstacles: those that one call shows.
        operations: all operations, in their order.
        read: the numbers that the host has read.
    """

    def __init__(self, origins: Origins, places: Places, generators: set[int]) -> None:
        self.origins = origins
        self.places = places
        self.obstacles: list[Obstacle] = []
        self.operations: list[Operation] = []
        self.read: set[Any] = set()
        self.call = ""
        self._generators = generators
        self._is_quiet = False
        self._filled: set[int] = set()  # masks with which a number of the host was set, which the gradient keeps

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Inside, operations are observed."""
        with ExitStack() as stack:
            for module, name, kind, what in _FUNCTIONS:
                stack.enter_context(mock.patch.object(module, name, self._reporting(getattr(module, name), kind, what)))
            for name in _FROM_MEMORY:
                stack.enter_context(mock.patch.object(torch, name, self._on_host(getattr(torch, name))))
            # What runs inside of a gradient, such as hooks, is to be seen as well.
            stack.enter_context(mock.patch.object(torch.autograd, "has_torch_function", return_value=False))
            stack.enter_context(_Calls(self))
            stack.enter_context(_Kernels(self))
            yield

    def report(self, kind: str, what: str, place: Place) -> None:
        """Adds an obstacle, once for each place."""
        obstacle = Obstacle(kind, what, place.term, place.file, place.line, place.phase)
        if not any([obstacle.is_beside(other) for other in self.obstacles]):
            self.obstacles.append(obstacle)

    def here(self) -> Place:
        """The place of what runs now."""
        return self.places.here(sys._getframe(1))

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Inside, operations belong to a call that has been reported."""
        before, self._is_quiet = self._is_quiet, True
        try:
            yield
        finally:
            self._is_quiet = before

    def operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs an operation, and looks at what it takes and gives."""
        if self._is_quiet:
            return func(*args, **kwargs)
        name, place = func.overloadpacket.__name__, self.here()
        self.places.note(place)
        leaves = _leaves((*args, *kwargs.values()))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        numbers: list[Any] = [leaf for leaf in leaves if isinstance(leaf, (bool, int, float, complex))]
        origins = [DEVICE] * len(tensors) if name == "lift_fresh" else [self.origins.of(t) for t in tensors]
        if not is_trusted(place.actor):
            self._look(func, args, kwargs, tensors, origins, place)
            numbers += [t.item() for t, o in zip(tensors, origins) if o == NUMBER and t.numel() == 1]
        before = {storage_of(t) for t in tensors}
        result = func(*args, **kwargs)
        if name == "_local_scalar_dense":
            self.read.add(result)
        origin = DEVICE if not tensors or DEVICE in origins else NUMBER if NUMBER in origins else HOST
        if name == "lift_fresh":
            origin, before = (NUMBER if self.call == "__setitem__" else DEVICE), set()
        for leaf in _leaves(result if isinstance(result, (list, tuple)) else (result,)):
            if isinstance(leaf, Tensor) and storage_of(leaf) not in before:
                self.origins.born(leaf, origin)
        self.operations.append(Operation(name, tuple(numbers), tuple([tuple(t.shape) for t in tensors]), place))
        return result

    def _look(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor], origins: list[str], place: Place) -> None:
        name, on_device = func.overloadpacket.__name__, DEVICE in origins
        if on_device and (what := operations.reads(func, self.call, args, lambda t: self.origins.of(t) == DEVICE)):
            self.report(HOST_READ, f"{what}.", place)
        elif on_device and (what := operations.shape_from_data(func, args, kwargs)) and not self._sets_a_number(name, args):
            told = f"{what}: the host reads how many numbers there are, and a graph has fixed shapes."
            self.report(DATA_DEPENDENT_SHAPE, told, place)
        node = torch._C._current_autograd_node()  # type: ignore[attr-defined]
        if node is not None and node.name() in operations.GRADIENTS:
            self.report(HOST_READ, f"the gradient of {operations.GRADIENTS[node.name()]} reads whether there is a zero.", place)
        for tensor in tensors:
            known = self.origins.rebound.get(storage_of(tensor))
            if known:
                self.report(
                    NEW_TENSOR, f"{known} is another tensor at each step, and a graph reads the first; write into it, by copy_.", place
                )
        generator = kwargs.get("generator")
        if generator is not None and id(generator) not in self._generators:
            self.report(RANDOM_STATE, "a generator is made within the step, so a graph would draw the same numbers each time.", place)
        if name == "_to_copy" and self.origins.is_real:
            source, to = tensors[0].device.type, torch.device(kwargs.get("device") or tensors[0].device).type
            if source != to:
                kind, there = (COPY_TO_HOST, "host") if to == "cpu" else (COPY_FROM_HOST, "device")
                self.report(kind, f"a tensor is copied to the {there}.", place)
        elif name == "copy_":
            if not _is_asynchronous(args, kwargs):
                self._look_at_copy(origins, tensors, place)
        elif on_device and name not in NO_MEETING:
            for tensor, origin in zip(tensors, origins):
                if origin in (HOST, OUTSIDE) and not (_is_indexing(name) and tensor.numel() == 1 and tensor is args[-1]):
                    self._meets(name, tensor, origin, place, is_index=_is_indexing(name) and any([tensor is i for i in args[1]]))

    def _sets_a_number(self, name: str, args: Any) -> bool:
        """Whether a number of the host is set where a mask says, for which torch fills, and in the gradient with a zero of the host."""
        if name == "index" or not _is_indexing(name) or not operations.is_masked_fill(args):
            return False
        (mask,) = [storage_of(i) for i in args[1] if i is not None]
        node = torch._C._current_autograd_node()  # type: ignore[attr-defined]
        if node is not None and node.name().startswith("IndexPutBackward"):
            return mask in self._filled
        is_of_host = self.origins.of(args[2]) != DEVICE
        (self._filled.add if is_of_host else self._filled.discard)(mask)
        return is_of_host

    def _look_at_copy(self, origins: list[str], tensors: list[Tensor], place: Place) -> None:
        to, source = origins[0] == DEVICE, origins[-1] == DEVICE
        if to and not source and origins[-1] != NUMBER:
            self.report(COPY_FROM_HOST, "copy_ takes a tensor of the host.", place)
        elif source and not to:
            self.report(COPY_TO_HOST, "copy_ writes into a tensor of the host.", place)

    def _meets(self, name: str, tensor: Tensor, origin: str, place: Place, *, is_index: bool) -> None:
        called = self.origins.names.get(storage_of(tensor))
        shown = f"{called}, which is neither a parameter nor a buffer," if called else f"a tensor of the host, {tuple(tensor.shape)},"
        if origin == OUTSIDE and not called:
            shown = f"a tensor from outside of the model, {tuple(tensor.shape)}, which .to() does not move,"
        if is_index:
            self.report(COPY_FROM_HOST, f"{shown} is an index, and is copied to the device.", place)
        elif tensor.ndim or name in _ONE_DEVICE:
            self.report(HOST_TENSOR, f"{shown} meets tensors of the device in {name.strip('_')}.", place)
        else:
            self.report(HOST_NUMBER, f"{shown} gives {name.strip('_')} a number; a graph keeps the one of its capture.", place)

    def _reporting(self, function: Any, kind: str, what: str) -> Any:
        def reporting(*args: Any, **kwargs: Any) -> Any:
            self.report(kind, what, self.here())
            return function(*args, **kwargs)

        return reporting

    def _on_host(self, function: Any) -> Any:
        def made(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            self.origins.born(result, HOST)
            return result

        return made


class _Kernels(TorchDispatchMode):
    """Tells of every operation, also of those that autograd runs."""

    def __init__(self, observation: Observation) -> None:
        super().__init__()
        self._observation = observation

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._observation.operation(func, args, kwargs or {})


class _Calls(TorchFunctionMode):
    """Tells of calls in Python: what is made without `device=`, and what reads without an operation."""

    def __init__(self, observation: Observation) -> None:
        super().__init__()
        self._seen = observation

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        seen, kwargs, name = self._seen, kwargs or {}, getattr(func, "__name__", "")
        before, seen.call = seen.call, name
        try:
            if isinstance(func, torch._ops.OpOverload):
                return func(*args, **kwargs)
            if func is Tensor.backward:
                with self:
                    return _backward(*args, **kwargs)
            if name == "one_hot":
                return self._one_hot(func, args, kwargs)
            if func in operations.FACTORIES:
                return self._make(func, args, kwargs)
            if name in ("cpu", "to", "type_as") and args and isinstance(args[0], Tensor):
                return self._move(func, name, args, kwargs)
            if name == "new_tensor" and seen.origins.of(args[0]) == DEVICE and "device" not in kwargs:
                seen.report(
                    COPY_FROM_HOST, "new_tensor makes a tensor on the host and copies it to the device; new_full does not.", seen.here()
                )
            if name in operations.UNSEEN and args and isinstance(args[0], Tensor) and seen.origins.of(args[0]) == DEVICE:
                seen.report(HOST_READ, f"{operations.CALLS[name]} reads numbers, for which the host waits.", seen.here())
                with seen.quiet():
                    result = func(*args, **kwargs)
                seen.read.update(_numbers(result) if name == "tolist" else ())
                return result
            return func(*args, **kwargs)
        finally:
            seen.call = before

    def _make(self, func: Any, args: Any, kwargs: Any) -> Any:
        seen, device = self._seen, kwargs.get("device")
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor) or (args and result is args[0]):
            return result
        place = seen.here()
        if seen.origins.is_real:
            on_host = result.device.type == "cpu"
        else:
            on_host = device is None or _is_literally_cpu(device)
        if on_host:
            seen.origins.born(result, HOST if place.is_users or result.ndim else NUMBER)
        elif func in operations.FROM_DATA and not isinstance(args[0] if args else None, Tensor):
            seen.report(
                COPY_FROM_HOST,
                f"torch.{func.__name__} makes a tensor on the host and copies it to the device; torch.full does not.",
                place,
            )
        return result

    def _one_hot(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What the CPU checks is not checked on a GPU, which reads only how many classes there are, if nobody says so."""
        seen, count = self._seen, kwargs.get("num_classes", args[1] if len(args) > 1 else -1)
        origin = seen.origins.of(args[0])
        if count == -1 and origin == DEVICE:
            told = "one_hot without num_classes reads the largest index, for which the host waits."
            seen.report(DATA_DEPENDENT_SHAPE, told, seen.here())
        with seen.quiet():
            result = func(*args, **kwargs)
        seen.origins.born(result, origin)
        return result

    def _move(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        seen = self._seen
        before = seen.origins.of(args[0])
        with seen.quiet():
            result = func(*args, **kwargs)
        to_host = self._goes_to_host(name, args, kwargs, result)
        if to_host is None or to_host == (before != DEVICE):
            if result is not args[0]:
                seen.origins.born(result, before)
            return result
        if to_host:
            seen.report(COPY_TO_HOST, f".{name}() copies a tensor to the host, which waits for it.", seen.here())
        else:
            seen.report(COPY_FROM_HOST, f".{name}() copies a tensor of the host to the device.", seen.here())
        if not seen.origins.is_real:
            with seen.quiet():
                result = result.clone()  # on the CPU both would be one tensor
        seen.origins.born(result, TOLD if to_host else DEVICE)
        return result

    def _goes_to_host(self, name: str, args: Any, kwargs: Any, result: Tensor) -> bool | None:
        """Whether a call moves a tensor to the host; None if it moves none."""
        if self._seen.origins.is_real:
            return result.device.type == "cpu"
        if name == "cpu":
            return True
        given = [*args[1:], kwargs.get("device"), kwargs.get("other")]
        for value in given:
            if isinstance(value, Tensor):
                return self._seen.origins.of(value) != DEVICE
            if isinstance(value, (str, torch.device)):
                return _is_literally_cpu(value)
        return None


def _leaves(arguments: Iterable[Any]) -> list[Any]:
    """What an operation is given, or gives, with what lists have."""
    found: list[Any] = []
    for argument in arguments:
        if isinstance(argument, (list, tuple)):
            found += argument
        else:
            found.append(argument)
    return found


def _numbers(nested: Any) -> Iterator[Any]:
    """The numbers in nested lists."""
    for inner in nested if isinstance(nested, list) else ():
        yield from _numbers(inner)
    if not isinstance(nested, list):
        yield nested


def _backward(
    tensor: Tensor, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
) -> None:
    torch.autograd.backward(tensor, gradient, retain_graph, create_graph, inputs=inputs)


def _is_indexing(name: str) -> bool:
    return name == "index" or name.startswith(("index_put", "_index_put"))


def _is_asynchronous(args: Any, kwargs: Any) -> bool:
    """Whether `copy_` is between the device and pinned memory, for which nobody waits."""
    is_asked = kwargs.get("non_blocking", False) or (len(args) > 2 and args[2])
    return bool(is_asked) and any([t.device.type == "cpu" and t.is_pinned() for t in args[:2]])


def _is_literally_cpu(device: Any) -> bool:
    """Whether `"cpu"` is written where the call stands; in a variable, it is where the model is."""
    if not isinstance(device, str) or not device.startswith("cpu"):
        return False
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None and device in frame.f_code.co_consts


def is_trusted(actor: object) -> bool:
    """Whether what an optimiser does can be captured by a setting of torch's: fused, or capturable with its count and rate as tensors.

    What runs the average of the weights gives its share as a tensor, too.
    """
    if actor is None:
        return False
    if not isinstance(actor, torch.optim.Optimizer):
        return True
    groups = actor.param_groups
    if not type(actor).__module__.startswith("torch.optim"):
        return False
    return type(actor) is torch.optim.SGD or all([group.get("fused") or "capturable" in group for group in groups])


_FROM_MEMORY = ("from_numpy", "frombuffer")
_FUNCTIONS = (
    (torch, "manual_seed", RANDOM_STATE, "torch.manual_seed sets the random state, which a graph cannot; its noise would not go on."),
    (torch.cuda, "synchronize", SYNCHRONISATION, "torch.cuda.synchronize waits for the device."),
)
