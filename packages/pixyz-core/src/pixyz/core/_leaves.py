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
    return [leaf for _, leaf in _named_leaves(part)]


def register_leaves(owner: nn.Module, parts: Iterable[nn.Module]) -> None:
    """Registers the leaves of all parts on `owner`.

    A leaf stands under its `leaf_text`. Constants share the text `constant` and are numbered in the order of the formula; so are
    the baselines of one factor, which stand under the texts that their expectation gave them, from the second on.

    Raises:
        FormulaError: for two different modules with one text.
    """
    found: dict[str, nn.Module] = {}
    numbered: dict[str, dict[int, nn.Module]] = {}
    for part in parts:
        for key, leaf in _named_leaves(part):
            text: str | None = getattr(leaf, "leaf_text", None)
            if text is None or text == CONSTANT:
                numbered.setdefault(text or _unnumbered(key), {})[id(leaf)] = leaf
            elif found.setdefault(text, leaf) is not leaf:
                raise FormulaError(
                    f"Two different distributions are both written {text}: a {type(found[text]).__name__} and a {type(leaf).__name__}. "
                    "Tell them apart by giving one another name=."
                )
    # Straight into the dict: add_module's checks, on every node of a long sum, would cost more than the node.
    modules = owner._modules
    for text in sorted(found):
        modules[text] = found[text]
    for text, leaves in numbered.items():
        for i, leaf in enumerate(leaves.values()):
            modules[text if i == 0 and text != CONSTANT else f"{text}_{i}"] = leaf


def _unnumbered(key: str) -> str:
    """`baseline[q(b|x)]` of `baseline[q(b|x)]_1`."""
    return key[: key.rindex("]") + 1]


def _named_leaves(part: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    text = getattr(part, "leaf_text", None)
    return [(text, part)] if text else part._modules.items()  # type: ignore[return-value]
