"""The module tree: how a joint or a loss registers the leaf modules that it is made of.

Each leaf stands once, flat, under its own text, sorted: `q(z|x).fc1.weight`. So a `state_dict` does not depend on the order in which
a formula was written, and `.to()`, `.double()`, `deepcopy` and the optimisers find every parameter exactly once.
"""

from collections.abc import Iterable
from itertools import takewhile
from typing import Any

from torch import nn

from ._errors import FormulaError

CONSTANT = "constant"


class Own(nn.Module):
    """The parameters, buffers and networks that a loss has itself, beside those of its parts: what other losses register of it.

    The dicts of tensors are the loss's, so a parameter that is replaced in one place is replaced in both.

    Args:
        owner: the loss.
    """

    def __init__(self, owner: nn.Module) -> None:
        super().__init__()
        self.shared_text = type(owner).__name__
        shared = ("_parameters", "_buffers", "_non_persistent_buffers_set")
        self.__dict__.update({name: owner.__dict__[name] for name in shared})
        self._modules.update(_own_networks(owner))


def leaves_of(part: nn.Module) -> Iterable[nn.Module]:
    """A part with a `leaf_text` is a leaf; any other has registered the leaves of its parts, and may have tensors and networks itself."""
    return _registered(part).values()


def parts_in(value: object) -> list[nn.Module]:
    """The distributions, losses and leaves in an attribute: itself, or what a tuple, a list or a dict holds of them."""
    if isinstance(value, nn.Module):
        return [value] if "leaf_text" in value.__dict__ or hasattr(type(value), "formula") else []
    if isinstance(value, (tuple, list)):
        return [part for item in value for part in parts_in(item)]
    return [part for item in value.values() for part in parts_in(item)] if isinstance(value, dict) else []


def parts_need_start(module: nn.Module) -> bool:
    """Whether anything inside of a module waits for data to start from: has an attribute `needs_start` that says so."""
    return any([getattr(m, "needs_start", False) for m in module.modules() if m is not module])


def register_leaves(owner: nn.Module, parts: Iterable[nn.Module]) -> None:
    """Registers the leaves of all parts on `owner`.

    A leaf stands under its `leaf_text`. Constants share the text `constant` and are numbered in the order of the formula. So are,
    from the second on, the baselines of one factor, which stand under the texts that their expectation gave them, and what losses of
    one class have themselves, under the name of the class.

    Raises:
        FormulaError: for two different modules with one text.
    """
    groups = [_registered(part) for part in parts]
    # A long sum grows term by term: the leaves that it has are copied as they stand, and only those of the new term are looked at.
    base = max(groups, key=len, default={})
    found = dict(base)
    for _ in _numbered(base):
        found.popitem()
    in_order = len(found)
    numbered: dict[str, dict[nn.Module, None]] = {}
    for group in groups:
        for key, leaf in _numbered(group):
            numbered.setdefault(_unnumbered(key, leaf), {})[leaf] = None
        for text, leaf in group.items() if group is not base else ():
            if not _has_number(leaf) and found.setdefault(text, leaf) is not leaf:
                raise FormulaError(
                    f"Two different distributions are both written {text}: a {type(found[text]).__name__} and a {type(leaf).__name__}. "
                    "Tell them apart by giving one another name=."
                )
    # Straight into the dict: add_module's checks, on every node of a long sum, would cost more than the node.
    modules = owner._modules
    modules.update(found if len(found) == in_order else {text: found[text] for text in sorted(found)})
    for text, leaves in numbered.items():
        for i, leaf in enumerate(leaves):
            modules[text if i == 0 and text != CONSTANT else f"{text}_{i}"] = leaf


def add_leaves(owner: nn.Module, parts: Iterable[nn.Module]) -> None:
    """Registers the leaves of further parts on an owner that has some already."""
    known = {*owner._modules.values()}
    lacking = [part for part in parts if not known.issuperset(leaves_of(part))]
    if not lacking:
        return
    own = _own_networks(owner)
    before = nn.Module()
    before._modules.update({name: leaf for name, leaf in owner._modules.items() if name not in own})
    owner._modules.clear()
    register_leaves(owner, [before, *lacking])
    owner.__dict__["_leaf_count"] = len(owner._modules)
    owner._modules.update(own)


def _registered(part: nn.Module) -> dict[str, Any]:
    """The leaves of a part by text, sorted; behind them those with numbers."""
    text = part.__dict__.get("leaf_text")
    if text:
        return {text: part}
    modules: dict[str, Any] = part._modules  # type: ignore[assignment]
    count = part.__dict__.get("_leaf_count")
    if count is None or not (part._parameters or part._buffers or len(modules) != count):
        return modules
    own = part.__dict__.get("own")
    if own is None:
        own = part.__dict__["own"] = Own(part)
    return {**{name: leaf for name, leaf in modules.items() if name not in own._modules}, own.shared_text: own}


def _own_networks(owner: nn.Module) -> dict[str, Any]:
    """The networks that are attributes of `owner`: the names of leaves have brackets or numbers, and leaves have texts."""
    return {
        name: module
        for name, module in owner._modules.items()
        if name.isidentifier() and not (hasattr(module, "leaf_text") or hasattr(module, "shared_text"))
    }


def _has_number(leaf: nn.Module) -> bool:
    return getattr(leaf, "leaf_text", None) in (None, CONSTANT)


def _numbered(group: dict[str, Any]) -> list[tuple[str, Any]]:
    """The constants and baselines among registered leaves, with their keys."""
    return [*takewhile(lambda item: _has_number(item[1]), reversed(group.items()))][::-1]


def _unnumbered(key: str, leaf: nn.Module) -> str:
    """`baseline[q(b|x)]` of `baseline[q(b|x)]_1`."""
    return getattr(leaf, "shared_text", key[: key.rindex("]") + 1] if "]" in key else CONSTANT)
