"""What a formula's text does not show: the constants and options of its parts, read off the parts themselves.

Two losses with one text differ in what their parts were built with: the number of draws, the estimators, what a sequence hands on, a
family, a network without parameters. A part keeps these as attributes, so they are read there, and no class declares them a second time.
What may change as a program runs is left out: tensors (those of the module tree are compared themselves), and the attributes of users' own
classes, of which a module tells its options by `extra_repr`.
"""

import hashlib
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pixyz.core import Distribution, Loss

Facts: TypeAlias = dict[str, dict[str, Any]]

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
# What a loss says of itself follows from its parts.
_DERIVED = frozenset(Loss.__annotations__)
_NOTHING = object()
_LIBRARIES = ("torch", "pixyz")
_SHOWN = 80


def facts_of(loss: Loss, leaves: Iterable[nn.Module]) -> Facts:
    """By the text of each part, its options by name, as JSON has them.

    Args:
        loss: the loss.
        leaves: further leaves that are trained with it.
    """
    found: Facts = {}
    named = dict(loss.named_children())
    standing = {*named.values()}
    named.update({str(getattr(leaf, "leaf_text", "")): leaf for leaf in leaves if leaf not in standing})
    for text, leaf in named.items():
        if not isinstance(leaf, Loss):
            for path, module in leaf.named_modules():
                _put(found, f"{text}.{path}" if path else text, _of_module(module))
    for part in _losses(loss):
        own = _plain_attributes(part) if _is_ours(type(part)) else {}
        _put(found, str(part), {"is": _kind(type(part)), **own} if own else {})
    return found


def _put(found: Facts, text: str, options: dict[str, Any]) -> None:
    if options:
        number = 1
        while (name := text if number == 1 else f"{text} ({number})") in found:
            number += 1
        found[name] = options


def _of_module(module: nn.Module) -> dict[str, Any]:
    """Its nearest class of torch or Pixyz, and its options."""
    kind = _kind(type(module))
    options: dict[str, Any] = {} if kind is None else {"is": kind}
    if any([_is_ours(c) for c in type(module).__mro__]):
        declared = {name for c in type(module).__mro__ if _is_ours(c) for name in getattr(c, "__annotations__", ())}
        own = _plain_attributes(module)
        options |= own if _is_ours(type(module)) else {k: v for k, v in own.items() if k in declared}
        for name in getattr(module, "_non_persistent_buffers_set", ()):
            buffer = module._buffers.get(name)
            if buffer is not None:
                options[name] = described(buffer)
    elif said := module.extra_repr():
        options["options"] = said
    return options


def _plain_attributes(part: nn.Module) -> dict[str, Any]:
    """The attributes that are numbers, texts and structures of them; those with a leading underscore come last."""
    found = {}
    for name in sorted(vars(part), key=lambda name: (name.startswith("_"), name)):
        if name in _OF_EVERY_MODULE or name in _DERIVED or isinstance(getattr(type(part), name, None), cached_property):
            continue
        value = _plain(vars(part)[name])
        if value is not _NOTHING:
            found[name] = value
    return found


def _plain(value: Any) -> Any:
    """A value as JSON has it; `_NOTHING` for a module, a tensor, a function, and a structure of these alone."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, (nn.Module, Tensor, type)):
        return _NOTHING
    if inspect.isroutine(value):
        name, home = getattr(value, "__qualname__", "<"), str(getattr(value, "__module__", ""))
        return name if "<" not in name and home.split(".")[0] in _LIBRARIES else _NOTHING
    if is_dataclass(value):
        said = _each({f.name: getattr(value, f.name) for f in fields(value)})
        return f"{type(value).__name__}({', '.join(f'{k}={v!r}' for k, v in said.items())})"
    if isinstance(value, Mapping):
        return _each(value) or _NOTHING if value else {}
    if isinstance(value, (set, frozenset)):
        return sorted([str(v) for v in value]) if all([isinstance(v, (str, int)) for v in value]) else _NOTHING
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _each(value._asdict()) or _NOTHING  # type: ignore[attr-defined]
    if isinstance(value, (list, tuple)):
        parts = [p for p in map(_plain, value) if p is not _NOTHING]
        return parts if parts or not value else _NOTHING
    return _each(vars(value)) or _NOTHING if _is_ours(type(value)) and hasattr(value, "__dict__") else _NOTHING


def _each(values: Mapping[Any, Any]) -> dict[str, Any]:
    pairs = [(str(k), _plain(v)) for k, v in values.items()]
    return {k: v for k, v in pairs if v is not _NOTHING}


def _losses(loss: Loss) -> Iterator[Loss]:
    """A loss and all that it is made of, each once, from the outside in."""
    seen: set[int] = set()
    waiting: list[Any] = [loss]
    while waiting:
        part = waiting.pop(0)
        if id(part) in seen or isinstance(part, (Tensor, str, Distribution)):
            continue
        seen.add(id(part))
        if isinstance(part, Loss):
            yield part
            waiting += [v for name, v in vars(part).items() if name not in _OF_EVERY_MODULE]
        elif isinstance(part, Mapping):
            waiting += part.values()
        elif isinstance(part, (list, tuple)):
            waiting += part


def _kind(of: type) -> str | None:
    """The name of the nearest class that is torch's or Pixyz's; a user's may be called otherwise tomorrow."""
    found = next(c for c in of.__mro__ if c.__module__.split(".")[0] in _LIBRARIES)
    return None if found is nn.Module else found.__name__


def _is_ours(of: type) -> bool:
    return of.__module__.split(".")[0] == "pixyz"


def described(t: Tensor) -> str:
    """A tensor in a few characters: `float32 (2,) [0, 1]`; of a longer one a digest besides."""
    held = t.detach().cpu().contiguous()
    few = [f"{v:.6g}" if isinstance(v, float) else str(v) for v in held.flatten()[:4].tolist()]
    text = f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)} [{', '.join(few)}{', …' if t.numel() > len(few) else ''}]"
    if t.numel() <= len(few):
        return text
    digest = hashlib.sha256(bytes(held.flatten().view(torch.uint8).tolist())).hexdigest()[:8]
    return f"{text} #{digest}"


def differences(theirs: Mapping[str, Any], ours: Facts, *, all_of_them: bool = True) -> list[tuple[str, str]]:
    """For each part and option that differs, the part and a line that shows both values.

    Args:
        theirs: those of a file, which may come from anywhere.
        ours: those of a model.
        all_of_them: whether what only one side has counts; another version of this library may keep more or less.
    """
    found: list[tuple[str, str]] = []
    for text in dict.fromkeys([*ours, *theirs]):
        if text not in theirs or text not in ours:
            if all_of_them:
                found.append((text, f"{text}: its options are only in {'this model' if text in ours else 'the file'}"))
            continue
        a, b = theirs[text], ours[text]
        names = [name for name in dict.fromkeys([*b, *a]) if a.get(name, _NOTHING) != b.get(name, _NOTHING)]
        names = [name for name in names if all_of_them or (name in a and name in b)]
        # What was given stands before what follows from it.
        first = min([_rank(b.get(name, a.get(name)), name) for name in names], default=0)
        shown = [name for name in names if _rank(b.get(name, a.get(name)), name) == first]
        lines = [line for name in shown for line in _lines(name.lstrip("_"), a.get(name, _NOTHING), b.get(name, _NOTHING))]
        found += [(text, f"{text}: {line}") for line in lines]
    return list(dict.fromkeys(found))


def _rank(value: Any, name: str) -> int:
    return 2 * name.startswith("_") + isinstance(value, (list, dict))


def _lines(name: str, theirs: Any, ours: Any) -> Iterator[str]:
    """What differs in an option, as deep inside of it as both have the same structure."""
    if isinstance(theirs, dict) and isinstance(ours, dict) and theirs.keys() == ours.keys():
        pairs = [(f"{name}.{key}", theirs[key], ours[key]) for key in ours]
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        pairs = [(f"{name}.{i}", a, b) for i, (a, b) in enumerate(zip(theirs, ours))]
    else:
        yield f"{name} {_said(theirs)} in the file, {_said(ours)} in this model"
        return
    for part, a, b in pairs:
        if a != b:
            yield from _lines(part, a, b)


def _said(value: Any) -> str:
    text = "nothing" if value is _NOTHING else value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
