"""Formulas that are nested more deeply than Python can follow.

The parts of a formula are evaluated, written and copied within one another, and Python allows some thousand calls within one another. A sum
or a product of any length is one level.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from ._errors import FormulaError

F = TypeVar("F", bound=Callable[..., Any])
DEEPEST_PICKLE = 1000
"""Pickle calls itself in C, where a stack that is too deep ends the interpreter, whatever the limit of Python's own."""


def too_deep(done: str) -> FormulaError:
    """The error for a formula that cannot be `done`: written, evaluated, copied."""
    return FormulaError(
        f"The formula is nested too deeply to be {done}: Python allows {sys.getrecursionlimit()} calls within one another, and every level "
        "takes some. Write a long sum as a sum, a + b + c, which is one level; write repeated steps as an IterativeLoss, or as a function."
    )


def nested(done: str) -> Callable[[F], F]:
    """A function that walks through a formula, with the library's error in the place of a RecursionError."""

    def decorate(function: F) -> F:
        @wraps(function)
        def walk(*args: Any, **options: Any) -> Any:
            try:
                return function(*args, **options)
            except RecursionError:
                raise too_deep(done) from None

        return walk  # type: ignore[return-value]

    return decorate


def check_pickle(depth: int) -> None:
    """An error for a formula of so many levels that pickle cannot write it here."""
    if depth < 10:
        return
    frame, used = sys._getframe(1), 0
    while frame is not None:
        frame, used = frame.f_back, used + 1  # type: ignore[assignment]
    if depth > DEEPEST_PICKLE or 8 * depth > sys.getrecursionlimit() - used:
        raise too_deep("pickled")
