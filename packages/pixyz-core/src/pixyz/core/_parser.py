"""Reading what papers write: `q(z|x,y)` as a name, variables and conditioning variables."""

import re

from ._errors import FormulaError, KindError

_DENSITY = re.compile(r"\s*(?P<name>([^\s()|,{}]|\{[^{}]*\})+)\s*\(\s*(?P<var>[^()|]*?)\s*(\|\s*(?P<cond>[^()|]*?)\s*)?\)\s*")


def parse_density(text: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The name, the variables and the conditioning variables of a density.

    Raises:
        KindError: if `text` is no string.
        FormulaError: if it does not read as a density.

    Examples:
        >>> parse_density("q(z|x,y)")
        ('q', ('z',), ('x', 'y'))
        >>> parse_density("p(z_{t+1,k}|z_t)")
        ('p', ('z_{t+1,k}',), ('z_t',))
    """
    if not isinstance(text, str):
        raise KindError(
            f'The text of a distribution is a string like "q(z|x)"; got a {type(text).__name__}. Name what it is, as in loc=...'
        )
    match = _DENSITY.fullmatch(text)
    if match is None:
        raise FormulaError(f'{text!r} does not read as a density; write a name and variables, like "q(z|x,y)" or "p(z)".')
    return match["name"], _names(match["var"]), _names(match["cond"])


def _names(listed: str | None) -> tuple[str, ...]:
    """Split at commas, but for those in braces."""
    return tuple(name.strip() for name in re.split(r",(?![^{}]*\})", listed)) if listed else ()
