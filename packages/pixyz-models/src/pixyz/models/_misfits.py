"""Words for what is other in a file than in a model."""

from typing import Any

_SHOWN_LINES = 12
_SHOWN_LENGTH = 1000


def same_as(name: str | None) -> str:
    """Which tensor another one is, if any."""
    return "a tensor of its own" if name is None else f"the same as {printable(name)}"


def count(groups: Any) -> str:
    """How many tensors each group of an optimiser has: `10 + 2 tensors`."""
    sizes = [len(group) for group in groups] if isinstance(groups, list) and all([isinstance(g, list) for g in groups]) else []
    return " + ".join(map(str, sizes)) + " tensors"


def first_other(theirs: Any, ours: list[list[str]]) -> str:
    """The first name that differs."""
    if not isinstance(theirs, list):
        return ""
    for group, mine in zip(theirs, ours):
        for a, b in zip(group if isinstance(group, list) else [], mine):
            if a != b:
                return f", first {printable(str(a))} for {b}"
    return ""


def few(lines: list[str]) -> str:
    """The lines, but not hundreds of them."""
    more = len(lines) - _SHOWN_LINES
    return "\n  ".join([*lines[:_SHOWN_LINES], *([f"… and {more} more"] if more > 0 else [])])


def printable(text: str) -> str:
    """A text from a file, which may come from anywhere."""
    return "".join([c if c.isprintable() else "?" for c in text[:_SHOWN_LENGTH]])
