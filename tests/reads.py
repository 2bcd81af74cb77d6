"""Host reads: operations for whose result the host would wait, if they ran on an accelerator."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_READS = {
    "_local_scalar_dense",
    "equal",
    "allclose",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "_unique",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
    "_coalesce",
    "_linalg_check_errors",
    "_linalg_eigh",
    "_linalg_svd",
    "linalg_eig",
    "linalg_lstsq",
    "linalg_matrix_exp",
}
_UNSAFE = getattr(torch.Tag, "cudagraph_unsafe", None)
_CALLS = {"tolist", "numpy", "__array__", "__repr__", "__format__", "cpu"}


@contextmanager
def host_reads() -> Iterator[Counter[str]]:
    """Counts host reads, each under its name and the line of Pixyz or of a program that makes it."""
    found: Counter[str] = Counter()
    with _Calls(found), _Kernels(found):
        yield found


class _Kernels(TorchDispatchMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if (
            name in _READS
            or _UNSAFE in func.tags
            or (name.startswith("index") and _has_mask(args))
            or (name == "repeat_interleave" and not (kwargs or {}))
        ):
            self._found[f"{name} at {_line()}"] += 1
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in _CALLS and args and isinstance(args[0], Tensor):
            self._found[f"{name} at {_line()}"] += 1
        return func(*args, **(kwargs or {}))


def _has_mask(args) -> bool:
    return any(isinstance(t, Tensor) and t.dtype == torch.bool for a in args[1:2] if isinstance(a, (list, tuple)) for t in a)


def _line() -> str:
    frame = sys._getframe(2)
    while frame is not None and not ("pixyz" in frame.f_code.co_filename or "gallery" in frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "nowhere"
