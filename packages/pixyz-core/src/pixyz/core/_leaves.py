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


def leaves_of(part: nn.Module) -> Iterable[nn.Module]:
    """A part with a `leaf_text` is a leaf; any other has registered its own."""
    return _registered(part).values()


def parts_need_start(module: nn.Module) -> bool:
    """Whether anything inside of a module waits for data to start from: has an attribute `needs_start` that says so."""
    return any([getattr(m, "needs_start", False) for m in module.modules() if m is not module])


def register_leaves(owner: nn.Module, parts: Iterable[nn.Module]) -> None:
    """Registers the leaves of all parts on `owner`.

    A leaf stands under its `leaf_text`. Constants share the text `constant` and are numbered in the order of the formula; so are
    the baselines of one factor, which stand under the texts that their expectation gave them, from the second on.

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
            numbered.setdefault(_unnumbered(key), {})[leaf] = None
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


def _registered(part: nn.Module) -> dict[str, Any]:
    """The leaves of a part by text, sorted; behind them those with numbers."""
    text = part.__dict__.get("leaf_text")
    return {text: part} if text else part._modules  # type: ignore[return-value]


def _has_number(leaf: nn.Module) -> bool:
    return getattr(leaf, "leaf_text", None) in (None, CONSTANT)


def _numbered(group: dict[str, Any]) -> list[tuple[str, Any]]:
    """The constants and baselines among registered leaves, with their keys."""
    return [*takewhile(lambda item: _has_number(item[1]), reversed(group.items()))][::-1]


def _unnumbered(key: str) -> str:
    """`baseline[q(b|x)]` of `baseline[q(b|x)]_1`."""
    return key[: key.rindex("]") + 1] if "]" in key else CONSTANT
