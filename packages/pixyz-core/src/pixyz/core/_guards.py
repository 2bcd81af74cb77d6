"""What a compiled loss asks before each run: whether that which may have changed has.

The compiler remembers everything that it read while it traced a formula, and compares all of it at every run: on a small model that takes
as long as a layer or two. But a formula is fixed once it is built, and so are this library's functions and classes. What may change is
given to the formula: values, weights, buffers, networks, modes, and what users' own classes keep.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch

_knows_isolation = "isolate_recompiles" in inspect.signature(torch.compile).parameters
CACHE_OF_ITS_OWN: dict[str, Any] = {"isolate_recompiles": True} if _knows_isolation else {}
"""Options of `torch.compile` for what shares its code with others, as all losses share one `forward`: torch gives up on a
function after eight graphs, and with these, where it can, each has a count of its own."""

_OF_A_CLASS = re.compile(r"(?:dict\()?type\((?P<of>.*)\)\.__mro__\[(?P<number>\d+)\]")
_OPEN = ("_modules", "_parameters", "_buffers", "training")
_ARGUMENTS = {"self", "values", "batch_size", "sample_dims", "watch", "starting", "validate"}
"""Those of `Loss.forward`, by which the graph of a whole formula is known."""


def what_may_change(guards: Iterable[Any]) -> list[bool]:
    """For each guard whether it is kept, as `guard_filter_fn` of `torch.compile` says it.

    Where the graph of a formula ends early, as in a network that breaks it, other graphs follow: of functions that many formulas, values
    and batch sizes share. All their guards are kept.
    """
    guards = list(guards)
    arguments = {g.name for g in guards if g.name.isidentifier()}
    if not {"self", "values"} <= arguments <= _ARGUMENTS:
        return [True] * len(guards)
    values = {g.name: g.value for g in guards if g.has_value}
    return [not ("__import_pixyz_dot_" in g.name or (_knows_isolation and _is_fixed(g.name, values))) for g in guards]


def _is_fixed(name: str, values: Mapping[str, Any]) -> bool:
    """Whether this is a class of torch's or ours, or stands in an object of ours that is no network. Only for a graph of one formula.

    Args:
        name: how the compiler came to it, `self._terms[0][1].num_samples`.
        values: all that it read, by name.
    """
    of_class = _OF_A_CLASS.match(name)
    if of_class:
        ancestors = type(values[of_class["of"]]).__mro__ if of_class["of"] in values else ()
        return any(_is_ours(c, "torch.") for c in ancestors[int(of_class["number"]) :][:1])
    owner, _, word = name.rpartition(".")
    word = word.partition("[")[0]
    if owner not in values or word in _OPEN or "._modules[" in name:
        return False
    kind = type(values[owner])
    return _is_ours(kind) or word in getattr(kind, "_reserved", ())


def _is_ours(kind: type, *others: str) -> bool:
    return kind.__module__.startswith(("pixyz.", *others))
