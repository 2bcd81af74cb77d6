"""Tensors and texts in one safetensors file: a header in JSON, then the tensors' bytes. Nothing in it can be run.

Source:
    https://huggingface.co/docs/safetensors (the format)
"""

import ctypes
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixyz.core import CheckpointError, KindError

from ._atomic import write_atomically

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Writes the file, atomically and tensor by tensor, without a second copy of all of them in memory.

    Raises:
        KindError: for a tensor that is sparse, sharded or of a dtype that the format has not.
        OSError: if the disk is full; what stood there before is as it was.
    """
    # The larger numbers first, so that each tensor is aligned for its kind.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(texts)}
    end = 0
    for name in names:
        t = tensors[name]
        if t.dtype not in _CODES or t.layout != torch.strided or hasattr(t, "__tensor_flatten__"):
            raise KindError(
                f"{name} is a {type(t).__name__} of {t.dtype} and {t.layout}, which no checkpoint holds: it must be dense, whole and real."
            )
        begin, end = end, end + t.numel() * t.element_size()
        header[name] = {"dtype": _CODES[t.dtype], "shape": [*t.shape], "data_offsets": [begin, end]}
    write_atomically(path, _chunks(header, [tensors[name] for name in names]))


def _chunks(header: Mapping[str, Any], tensors: list[Tensor]) -> Iterator[bytes | memoryview]:
    text = json.dumps(header, ensure_ascii=False, allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for tensor in tensors:
        # By its address: the only other way to a tensor's bytes without a copy is numpy, which torch does not bring.
        held = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        if held.numel():
            yield memoryview((ctypes.c_char * (held.numel() * held.element_size())).from_address(held.data_ptr())).cast("B")


class TensorFile:
    """An open file, whose header has been checked against its size.

    Args:
        path: the file.

    Raises:
        CheckpointError: for a file that is cut off, or of another format.
        OSError: for a file that is not there, or not to be read.

    Attributes:
        texts: the texts of the header.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb"):  # a folder, no permission: Python says so best
            pass
        from safetensors import SafetensorError, safe_open  # needed by a file that is read, and by no training

        try:
            self._file = safe_open(str(path), framework="pt", device="cpu")
            self.texts: dict[str, str] = self._file.metadata() or {}
            self.names = frozenset(self._file.keys())
        except SafetensorError as error:
            raise CheckpointError(f"{path} is no checkpoint, or it is cut off: {error}. Nothing was loaded.") from error

    def kind(self, name: str) -> tuple[tuple[int, ...], torch.dtype | None]:
        """The shape and the dtype of a tensor, by the header; no dtype where torch has none."""
        found = self._file.get_slice(name)
        return tuple(found.get_shape()), DTYPES.get(found.get_dtype())

    def read(self, name: str) -> Tensor:
        """A tensor, on the CPU, of memory of its own."""
        return self._file.get_tensor(name).clone()
