"""Operations that a CUDA graph cannot have, by their names in torch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NAMES = {
    "_local_scalar_dense": ".item()",
    "_unique": "torch.unique",
    "_unique2": "torch.unique",
    "unique_dim": "torch.unique",
    "unique_dim_consecutive": "torch.unique_consecutive",
    "_coalesce": "a sparse tensor (of an embedding with sparse=True)",
    "_to_sparse": ".to_sparse()",
    "_to_sparse_csr": ".to_sparse_csr()",
    "_to_sparse_csc": ".to_sparse_csc()",
    "_to_sparse_bsr": ".to_sparse_bsr()",
    "_to_sparse_bsc": ".to_sparse_bsc()",
    "_sparse_sparse_matmul": "a product of two sparse matrices",
}
"""What a user calls, where it is not `torch.` and the name of the operation."""

CHECKS = {
    "_linalg_check_errors": "torch.linalg",
    "_linalg_eigh": "torch.linalg.eigh",
    "_linalg_eigvals": "torch.linalg.eigvals",
    "_linalg_svd": "torch.linalg.svd",
    "linalg_eig": "torch.linalg.eig",
    "linalg_lstsq": "torch.linalg.lstsq",
    "linalg_matrix_exp": "torch.linalg.matrix_exp",
    "linalg_pinv": "torch.linalg.pinv",
    "embedding_renorm_": "an embedding with max_norm",
    "_ctc_loss": "ctc_loss",
}
"""On a GPU, the host reads whether they have succeeded, or how many steps they need."""

_SPARSE = ("_to_sparse", *(f"_to_sparse_{layout}" for layout in ("csr", "csc", "bsr", "bsc")))
_SHAPES = frozenset(("_coalesce", "bincount", "unique_consecutive", "_sparse_sparse_matmul", *_SPARSE))
"""Their shapes depend on data, though torch does not tag them so."""

_PRODUCTS = frozenset(("mm", "addmm", "mv", "addmv", "_sparse_addmm", "_sparse_mm"))
"""Products of a sparse matrix, which add up what it has twice first."""

_UNSAFE = getattr(torch.Tag, "cudagraph_unsafe", None)

GRADIENTS = {"ProdBackward0": "torch.prod", "ProdBackward1": "torch.prod", "CumprodBackward0": "torch.cumprod"}
"""Their gradients read whether there is a zero; while operations are observed, torch takes another way, without a read."""

CALLS = {
    "__bool__": "bool(tensor)",
    "__float__": "float(tensor)",
    "__int__": "int(tensor)",
    "__index__": "a tensor as an index of Python",
    "__complex__": "complex(tensor)",
    "__contains__": "x in tensor",
    "__array__": "numpy.asarray(tensor)",
    "__repr__": "a tensor as text",
    "__format__": "a tensor as text",
    "item": ".item()",
    "tolist": ".tolist()",
    "numpy": ".numpy()",
}
"""How a call that reads is written."""

UNSEEN = frozenset(("tolist", "numpy", "__array__", "__repr__", "__format__"))
"""Calls that read a tensor on the CPU without an operation."""

FACTORIES = frozenset(
    getattr(torch, name)
    for name in [
        "arange",
        "asarray",
        "as_tensor",
        "blackman_window",
        "empty",
        "empty_strided",
        "eye",
        "full",
        "hamming_window",
        "hann_window",
        "kaiser_window",
        "linspace",
        "logspace",
        "normal",
        "ones",
        "rand",
        "randint",
        "randn",
        "randperm",
        "range",
        "scalar_tensor",
        "tensor",
        "tril_indices",
        "triu_indices",
        "zeros",
    ]
)
"""They make a tensor where `device=` says."""

FROM_DATA = frozenset((torch.tensor, torch.as_tensor, torch.asarray))
"""They copy from the host, where `device=` is another."""


def reads(func: Any, call: str, args: tuple[Any, ...], is_on_device: Callable[[Tensor], bool]) -> str | None:
    """What the host reads of an operation, in words; None if nothing.

    Args:
        func: the operation.
        call: the function that was called in Python.
        args: the arguments.
        is_on_device: whether a tensor is.
    """
    name = func.overloadpacket.__name__
    if torch.Tag.data_dependent_output in func.tags:
        return f"{CALLS.get(call) or called(name)} reads a number, for which the host waits"
    if name in CHECKS:
        return f"{CHECKS[name]} checks its result on the host, which waits for it"
    if _UNSAFE is not None and _UNSAFE in func.tags:
        return f"{name} computes on the host"
    if name == "normal" and any([isinstance(t, Tensor) for t in args[1:2]]):
        return "torch.normal checks its standard deviations on the host, which waits for them"
    if name == "histc" and _has_no_range(*args[2:]):
        return "torch.histc without a range reads the smallest and the largest number, for which the host waits"
    if name in ("linspace", "logspace") and any([isinstance(t, Tensor) and is_on_device(t) for t in args[:2]]):
        return f"torch.{name} reads its ends, for which the host waits"
    if name in ("masked_fill", "masked_fill_") and isinstance(args[2], Tensor) and is_on_device(args[2]):
        return f"{name} with a tensor reads its number, for which the host waits; torch.where does not"
    return None


def shape_from_data(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """What has a shape that depends on data, in words; None if nothing has."""
    name = func.overloadpacket.__name__
    if name == "repeat_interleave":
        return "torch.repeat_interleave without output_size" if kwargs.get("output_size") is None else None
    if name == "index" and _has_mask(args[1]):
        return "indexing with a mask"
    if name in ("index_put", "index_put_", "_index_put_impl_") and _has_mask(args[1]):
        return "setting the numbers under a mask"
    if name in _PRODUCTS and any([isinstance(t, Tensor) and t.layout is torch.sparse_coo and not t.is_coalesced() for t in args]):
        return "a product with a sparse tensor that is not coalesced"
    if name != "index" and (name in _SHAPES or torch.Tag.dynamic_output_shape in func.tags):
        return called(name)
    return None


def called(name: str) -> str:
    """What a user calls an operation."""
    return NAMES.get(name, f"torch.{name}")


def _has_no_range(low: float = 0, high: float = 0) -> bool:
    return low == high


def is_masked_fill(args: tuple[Any, ...]) -> bool:
    """Whether `index_put` sets one number where one mask says: torch fills then, if the number is the host's."""
    indices = [i for i in args[1] if i is not None]
    return len(indices) == 1 and _has_mask(indices) and args[2].numel() == 1 and not (len(args) > 3 and args[3])


def _has_mask(indices: Any) -> bool:
    return any([t is not None and t.dtype in (torch.bool, torch.uint8) for t in indices])
