"""A second device with numbers, for machines that have no other: `elsewhere`, whose tensors are kept on the CPU.

It has the rules of CUDA. An operation on tensors of both devices raises an error, but for numbers (0-dim tensors on the CPU) in elementwise
operations and for indices on the CPU; a generator of the CPU draws nothing there; a tensor there has no `numpy()`. What it computes is what
the CPU computes, and its noise is the CPU's from the same seed, so that a test may compare values bit for bit.

`register` adds it to this process for good, and torch then takes it for the accelerator: only a process of its own may do so.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch

NAME = "elsewhere"

aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default, aten._copy_from.default}
OF_NUMBERS = {
    aten.where.self,
    aten.masked_fill.Tensor,
    aten.masked_fill_.Tensor,
    aten.fill.Tensor,
    aten.fill_.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten.index_fill.int_Tensor,
    aten.index_fill_.int_Tensor,
    aten._fused_adam_.tensor_lr,
    aten._fused_adamw_.tensor_lr,
    aten._fused_sgd_.tensor_lr,
}
"""What takes a number on the CPU on CUDA too, beside elementwise operations: indices, and learning rates."""
INDEXING = {aten.index.Tensor, aten._unsafe_index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
BELOW_PYTHON = (aten.empty.memory_format, aten.empty_strided.default, aten._copy_from.default, aten._efficientzerotensor.default)
"""What torch calls where it asks no subclass: for tensors from Python's numbers, for copies, and for gradients that are 0."""
ENLARGED = ("arange", "eye", "linspace", "logspace", "randperm", "tril_indices", "triu_indices")
"""What torch makes by enlarging an empty tensor, which a tensor of this device cannot follow."""

_LIBRARIES: list[torch.library.Library] = []


def register() -> None:
    """Adds the device to this process."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    if _LIBRARIES:
        return
    _setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("aten", "IMPL")
    of_sizes = [getattr(getattr(aten, name), o) for name in ENLARGED for o in getattr(aten, name).overloads() if "out" not in o]
    for overload in (*BELOW_PYTHON, *of_sizes):
        library.impl(overload, functools.partial(_below_python, overload), "PrivateUse1")
    _LIBRARIES.append(library)
    torch.nn.Module._apply = _apply
    Tensor.is_pinned = lambda self, device=None: self.device.type == "cpu"  # a copy to the CPU is as good as sent at once


_APPLY = torch.nn.Module._apply


def _apply(self: torch.nn.Module, fn: Any, recurse: bool = True) -> torch.nn.Module:
    """`Module._apply`, where a parameter that is moved between the devices stays the same object, as it does between the CPU and CUDA."""
    if recurse:
        for module in self.children():
            module._apply(fn)
    probes = [p.detach().flatten()[:0] for p in self._parameters.values() if p is not None]
    torch.__future__.set_swap_module_params_on_conversion(any([fn(p).device != p.device for p in probes]))
    try:
        return _APPLY(self, fn, recurse=False)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


class Elsewhere(Tensor):
    """A tensor on the device.

    Attributes:
        here: a tensor on the CPU that has its numbers.
    """

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "Elsewhere":
        made = Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype, device=torch.device(NAME, 0)
        )
        made.here = here
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"{self.here!r} on {NAME}"

    @property
    def data(self) -> Tensor:
        return Elsewhere(self.here)  # a version counter of its own, as `data` has

    @data.setter
    def data(self, other: "Elsewhere") -> None:
        Tensor.data.__set__(self, other)
        self.here = other.here

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _unpickled, (self.here, self.requires_grad)


def _unpickled(here: Tensor, requires_grad: bool) -> Tensor:
    return Elsewhere(here).requires_grad_(requires_grad)


def _below_python(func: Any, *args: Any, **kwargs: Any) -> Any:
    return _run(func, args, kwargs)


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Runs an operation on the CPU, if the device would run it."""
    tensors: list[Tensor] = []
    generators: list[torch.Generator] = []

    def on_the_cpu(x: Any) -> Any:
        if isinstance(x, Tensor):
            tensors.append(x)
            return x.here if isinstance(x, Elsewhere) else x
        if type(x) in (list, tuple):
            return type(x)([on_the_cpu(each) for each in x])
        if isinstance(x, torch.Generator):
            generators.append(x)
        return x

    here_args = [on_the_cpu(x) for x in args]
    here_kwargs = {k: on_the_cpu(x) for k, x in kwargs.items()}
    away = any([isinstance(t, Elsewhere) for t in tensors])
    to = kwargs.get("device")
    stays = away if to is None else torch.device(to).type == NAME
    if func is aten._copy_from.default:
        here_args[1].copy_(here_args[0])
        return args[1]
    if away and func not in COPIES:
        _check_devices(func, args, tensors)
    if stays and generators and generators[0].device.type != NAME:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found '{generators[0].device.type}'")
    if to is not None:
        here_kwargs["device"] = torch.device("cpu")
    if func is aten._to_copy.default or func is aten.copy_.default:
        found = func(*here_args, **{**here_kwargs, "non_blocking": False} if "non_blocking" in here_kwargs else here_kwargs)
    else:
        found = (aten.zeros.default if func is aten._efficientzerotensor.default else func)(*here_args, **here_kwargs)
    if torch.Tag.inplace_view in func.tags:  # such as squeeze_, which changes the tensor's own shape
        with no_dispatch():
            func(*args, **kwargs)
    return _returned(func, args, kwargs, found) if stays else found


def _check_devices(func: Any, args: Sequence[Any], tensors: list[Tensor]) -> None:
    first = args[0]
    indices = [*args[1]] if func in INDEXING and isinstance(first, Elsewhere) else []
    for t in tensors:
        if isinstance(t, Elsewhere) or any([t is i for i in indices]):
            continue
        written = t is first and any([r.alias_info is not None and r.alias_info.is_write for r in func._schema.returns])
        if t.ndim or written or not (torch.Tag.pointwise in func.tags or func in OF_NUMBERS):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and {t.device}! ({func})"
            )


def _returned(func: Any, args: Sequence[Any], kwargs: dict[str, Any], found: Any) -> Any:
    """The tensors that an operation wrote into, and new ones on the device."""
    returns = func._schema.returns
    if len(returns) == 1 and returns[0].alias_info is None:
        return _wrapped(found)
    written = {}
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = kwargs[argument.name] if argument.name in kwargs else args[i]
            written |= dict.fromkeys(argument.alias_info.before_set, value)
    results = found if len(returns) > 1 else [found]
    out = []
    for spec, result in zip(returns, results):
        if any([w.shape != w.here.shape for w in written.values() if isinstance(w, Elsewhere)]):
            raise NotImplementedError(f"{NAME} cannot follow {func}, which changes the shape of a tensor that is there.")
        names = [n for n in (spec.alias_info.before_set if spec.alias_info is not None else ()) if n in written]
        out.append(written[names[0]] if names else _wrapped(result))
    return tuple(out) if len(out) > 1 else out[0] if out else None


def _wrapped(found: Any) -> Any:
    if isinstance(found, Tensor):
        return Elsewhere(found)
    if type(found) in (list, tuple):
        return type(found)([_wrapped(each) for each in found])
    return found
