"""The state of optimisers, taken apart into tensors and JSON, and put together again: no pickle, so nothing that could be run.

A tree is made of None, bools, numbers, texts, lists, tuples, dicts, counters and tensors; what JSON has not is marked,
`{"tuple": [...]}`. Floats are written so that every bit comes back.
"""

import math
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any

import torch
from torch import Tensor

from pixyz.core import CheckpointError, KindError

_NUMBERS = (bool, int, float)


def take_apart(value: Any, where: str, tensors: MutableMapping[str, Tensor]) -> Any:
    """The JSON of a tree, whose tensors go into `tensors` under names that begin with `where`.

    Raises:
        KindError: for what is no part of a tree, such as a function.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (str, *_NUMBERS)):
        return value
    if isinstance(value, Tensor):
        if where in tensors:
            raise KindError(f"Two tensors would be called {where}; a checkpoint needs keys without '/'.")
        tensors[where] = value
        return {"tensor": where}
    if isinstance(value, (list, tuple)):
        parts = [take_apart(v, f"{where}/{i}", tensors) for i, v in enumerate(value)]
        return parts if isinstance(value, list) else {"tuple": parts}
    if isinstance(value, dict):
        pairs = [[_key(k, where), take_apart(v, f"{where}/{k}", tensors)] for k, v in value.items()]
        return {"counter" if isinstance(value, Counter) else "dict": pairs}
    raise KindError(f"{where} is a {type(value).__name__}, which no checkpoint holds: numbers, texts, tensors, and lists of them do.")


def put_together(tree: Any, read: Callable[[str], Tensor]) -> Any:
    """The value of a tree's JSON, which may come from anywhere.

    Raises:
        CheckpointError: for anything that `take_apart` does not write.
    """
    if tree is None or isinstance(tree, (str, *_NUMBERS)):
        return tree
    if isinstance(tree, list):
        return [put_together(v, read) for v in tree]
    if isinstance(tree, dict) and len(tree) == 1:
        ((mark, content),) = tree.items()
        if mark == "tensor" and isinstance(content, str):
            return read(content)
        if mark == "float" and content in ("inf", "-inf", "nan"):
            return float(content)
        if mark == "tuple" and isinstance(content, list):
            return tuple([put_together(v, read) for v in content])
        if mark in ("dict", "counter") and isinstance(content, list) and all([_is_pair(p) for p in content]):
            return (dict if mark == "dict" else Counter)({k: put_together(v, read) for k, v in content})
    raise CheckpointError(f"it has {str(tree)[:60]!r} where a state is expected")


def fit(value: Any, own: Any) -> Any:
    """A value that was read, as it may stand where `own` stands: numbers for numbers, lists of as many, mappings without strange keys.

    Raises:
        TypeError: if it may not.
    """
    if own is None and not isinstance(value, dict):
        return value
    if isinstance(own, Tensor) and own.ndim:
        if isinstance(value, Tensor) and value.shape == own.shape and value.dtype == own.dtype:
            return value
    elif isinstance(own, (*_NUMBERS, Tensor)):
        if isinstance(value, _NUMBERS) or (isinstance(value, Tensor) and value.ndim == 0):
            if isinstance(own, Tensor):  # a learning rate on the device
                return torch.as_tensor(value, dtype=own.dtype, device=own.device)
            return value.item() if isinstance(value, Tensor) else value
    elif isinstance(own, (list, tuple)):
        if type(value) is type(own) and len(value) == len(own):
            return type(own)([fit(v, o) for v, o in zip(value, own)])
    elif isinstance(own, Counter):
        if type(value) is Counter and all([type(k) is int and type(v) is int for k, v in value.items()]):
            return value
    elif isinstance(own, dict):
        if isinstance(value, dict) and value.keys() <= own.keys():
            return {k: fit(v, own[k]) for k, v in value.items()}
    elif type(value) is type(own):
        return value
    raise TypeError(f"a {type(value).__name__} cannot stand for a {type(own).__name__}")


def _key(key: Any, where: str) -> str | int:
    if type(key) in (str, int):
        return key
    raise KindError(f"{where} has the key {key!r}, a {type(key).__name__}, which no checkpoint holds: keys are texts and integers.")


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and type(pair[0]) in (str, int)
