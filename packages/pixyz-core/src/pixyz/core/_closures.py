"""Networks that a function keeps in its closure, where no module finds their parameters.

A function is checked when it is given to a distribution or a loss. Whether the rest of the formula registers the network cannot be known
then, for it is not written yet, and who trains `loss.parameters()` by hand never passes another check. So a network counts as registered
if any module holds it already, as the layer that a discriminator was given before. Modules that a function finds as global names are not
looked for: which of them it calls cannot be told without running it.
"""

import gc
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from torch import nn


def warn_of_networks(function: Callable[..., Any], who: str) -> None:
    """A warning if a function uses a network that has parameters and that no module holds.

    Args:
        function: what was given; of a module all parameters are registered.
        who: what it was given to, for the message.
    """
    if isinstance(function, nn.Module):
        return
    lost = [network for network in networks_in(function) if not _is_held(network)]
    if lost:
        name = getattr(function, "__name__", type(function).__name__).replace("<lambda>", "a lambda")
        kinds = " and ".join(dict.fromkeys([f"a {type(m).__name__}" for m in lost]))
        warnings.warn(
            f"{who}: {name} uses {kinds} whose parameters it cannot register: here they would not be trained, saved or moved. Give the "
            "network itself in place of the function, or a module of your own that has it as an attribute.",
            stacklevel=_outside(),
        )


def networks_in(value: object) -> list[nn.Module]:
    """The modules with parameters that a function keeps: in its closure, its defaults, as arguments of a `partial`, as its object."""
    found: dict[nn.Module, None] = {}
    seen: set[int] = set()
    waiting: list[Any] = [value]
    while waiting:
        x = waiting.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, nn.Module):
            if next(x.parameters(), None) is not None:
                found[x] = None
        elif isinstance(x, FunctionType):
            waiting += [*_contents(x), *(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values()]
        elif isinstance(x, MethodType):
            waiting += [x.__func__, *([x.__self__] if isinstance(x.__self__, nn.Module) else _attributes(x.__self__))]
        elif isinstance(x, partial):
            waiting += [x.func, *x.args, *x.keywords.values()]
        elif isinstance(x, (tuple, list)):
            waiting += x
        elif isinstance(x, Mapping):
            waiting += x.values()
        elif callable(x):
            waiting += _attributes(x)
    return [*found]


def _contents(function: FunctionType) -> list[object]:
    """The values in the closure of a function, without names that are not assigned yet."""
    contents: list[object] = []
    for cell in function.__closure__ or ():
        try:
            contents.append(cell.cell_contents)
        except ValueError:  # the name is assigned further down
            continue
    return contents


def _attributes(x: object) -> list[object]:
    return [] if isinstance(x, type) else [*getattr(x, "__dict__", {}).values()]


def _is_held(network: nn.Module) -> bool:
    """Whether another module registers this one; of a joint or a loss, whether other modules register all its leaves."""
    if hasattr(type(network), "formula") and "leaf_text" not in network.__dict__:
        return all([_is_child(leaf, besides=network) for leaf in network.children()])
    return _is_child(network)


def _is_child(module: nn.Module, besides: nn.Module | None = None) -> bool:
    """Whether a module has this one as a child. The garbage collector finds the parents, for a module does not know them."""
    for children in gc.get_referrers(module):
        if type(children) is dict and all([isinstance(x, (nn.Module, type(None))) for x in children.values()]):
            for owner in gc.get_referrers(children):
                attributes = owner.__dict__ if isinstance(owner, nn.Module) else owner
                is_besides = besides is not None and children is besides._modules
                if type(attributes) is dict and attributes.get("_modules") is children and not is_besides:
                    return True
    return False


def _outside() -> int:
    """How far up the stack the user's line is."""
    level, frame = 1, sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith("pixyz."):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    return level
