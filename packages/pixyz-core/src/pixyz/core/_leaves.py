"""The module tree: how a joint or a loss registers the leaf modules that it is made of.

Each leaf stands once, flat, under its own text, sorted: `q(z|x).fc1.weight`. So a `state_dict` does not depend on the order in which
a formula was written, and `.to()`, `.double()`, `deepcopy` and the optimisers find every parameter exactly once.
"""

from collections.abc import Iterable

from torch import nn

from ._errors import FormulaError

CONSTANT = "constant"


def leaves_of(part: nn.Module) -> Iterable[nn.Module]:
    """A part with a `leaf_text` is a leaf; any other has registered its own."""
    return [part] if getattr(part, "leaf_text", None) else part._modules.values()  # type: ignore[return-value]


def register_leaves(owner: nn.Module, parts: Iterable[nn.Module]) -> None:
    """Registers the leaves of all parts on `owner`.

    A leaf stands under its `leaf_text`. Constants share the text `constant` and are numbered in the order of the formula.

    Raises:
        FormulaError: for two different modules with one text.
    """
    found: dict[str, nn.Module] = {}
    constants: dict[int, nn.Module] = {}
    for part in parts:
        for leaf in leaves_of(part):
            text: str = leaf.leaf_text  # type: ignore[union-attr, assignment]
            if text == CONSTANT:
                constants[id(leaf)] = leaf
            elif found.setdefault(text, leaf) is not leaf:
                raise FormulaError(
                    f"Two different distributions are both written {text}: a {type(found[text]).__name__} and a {type(leaf).__name__}. "
                    "Tell them apart by giving one another name=."
                )
    # Straight into the dict: add_module's checks, on every node of a long sum, would cost more than the node.
    modules = owner._modules
    for text in sorted(found):
        modules[text] = found[text]
    for i, leaf in enumerate(constants.values()):
        modules[f"{CONSTANT}_{i}"] = leaf
