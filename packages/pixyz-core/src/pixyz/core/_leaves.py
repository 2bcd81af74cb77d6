"""The module tree: how a joint or a loss registers the leaf modules that it is made of.

Each leaf stands once, flat, under its own text, sorted: `q(z|x).fc1.weight`. So a `state_dict` does not depend on the order in which
a formula was written, and `.to()`, `.double()`, `deepcopy` and the optimisers find every parameter exactly once.
"""

from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Any

from torch import nn

from ._errors import FormulaError

CONSTANT = "constant"


def leaves_of(part: nn.Module) -> Iterable[nn.Module]:
    """A part with a `leaf_text` is a leaf; any other has registered its own."""
    return _registered(part).values()


def register_leaves(owner: nn.Module, parts: Iterable[nn.Module]) -> None:
    """Registers the leaves of all parts on `owner`.

    A leaf stands under its `leaf_text`. Constants share the text `constant` and are numbered in the order of the formula.

    Raises:
        FormulaError: for two different modules with one text.
    """
    groups = [_registered(part) for part in parts]
    # A long sum grows term by term: the leaves that it has are copied as they stand, and only those of the new term are looked at.
    base = max(groups, key=len, default={})
    constants = dict.fromkeys([leaf for group in groups for leaf in _constants(group)])
    found = dict(base)
    for _ in _constants(base):
        found.popitem()
    in_order = len(found)
    for group in groups:
        for text, leaf in group.items() if group is not base else ():
            if leaf.leaf_text != CONSTANT and found.setdefault(text, leaf) is not leaf:
                raise FormulaError(
                    f"Two different distributions are both written {text}: a {type(found[text]).__name__} and a {type(leaf).__name__}. "
                    "Tell them apart by giving one another name=."
                )
    # Straight into the dict: add_module's checks, on every node of a long sum, would cost more than the node.
    modules = owner._modules
    modules.update(found if len(found) == in_order else {text: found[text] for text in sorted(found)})
    for i, leaf in enumerate(constants):
        modules[f"{CONSTANT}_{i}"] = leaf


def _registered(part: nn.Module) -> Mapping[str, Any]:
    """The leaves of a part by text, sorted, its constants last."""
    text = part.__dict__.get("leaf_text")
    return {text: part} if text else part._modules


def _constants(group: Mapping[str, Any]) -> list[Any]:
    """The constants among registered leaves."""
    return [*takewhile(lambda leaf: leaf.leaf_text == CONSTANT, reversed(group.values()))][::-1]
