"""What users write: names of variables, how they are spelt, what a wrong one was meant to be; and what counts as a number."""

import difflib
import re
from collections.abc import Iterable
from typing import TypeGuard

from ._errors import FormulaError, KindError

_LEGAL = re.compile(r"[^\W\d]\w*'*")
_LOWER = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega"
_GREEK: dict[str, str] = dict(zip(_LOWER.split(), "αβγδεζηθικλμνξπρστυφχψω", strict=True))
_UPPER = {"Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω"}
_GREEK.update(_UPPER)


def check_names(names: Iterable[str], role: str) -> tuple[str, ...]:
    """The names as a tuple, or an error that says which one is no name.

    Raises:
        KindError: for a bare string or anything that is not a name.
        FormulaError: for an illegal name or one that stands twice.
    """
    if isinstance(names, str):
        raise KindError(f"{role} takes a list of names; got the string {names!r}. Write {role}=[{names!r}].")
    out = tuple(names)
    for name in out:
        if not isinstance(name, str):
            raise KindError(f"{role} takes names; got {name!r} ({type(name).__name__}).")
        if not _LEGAL.fullmatch(name):
            raise FormulaError(f"{name!r} in {role} is no name of a variable: use letters, digits, _ and '.")
    if len(set(out)) < len(out):
        twice = sorted({n for n in out if out.count(n) > 1})
        raise FormulaError(f"{role} {list(out)} names {', '.join(twice)} twice.")
    return out


def suggest(name: str, options: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the option nearest to `name`, or nothing."""
    options = sorted(options)
    folded = [o for o in options if o.lower() == name.lower()]
    near = folded or difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def fresh_name(name: str, taken: Iterable[str]) -> str:
    """`name` with as many primes as make it differ from all that are taken."""
    taken = set(taken)
    while name in taken:
        name += "'"
    return name


def unicode_name(name: str) -> str:
    """`theta_u` as `θ_u`."""
    return "_".join(_GREEK.get(part, part) for part in name.split("_"))


def latex_name(name: str) -> str:
    r"""`theta_u` as `\theta_{u}`, `p_prior` as `p_{\mathrm{prior}}`."""
    stem, primes = name.rstrip("'"), name.count("'")
    head, *rest = stem.split("_")
    text = _latex_word(head) or "\\_"
    if rest:
        text += "_{" + ",".join(_latex_word(r) for r in rest if r) + "}"
    return text + "'" * primes


def _latex_word(word: str) -> str:
    if word in _GREEK:
        return "\\" + word if word != "omicron" else word
    return word if len(word) <= 1 or word.isdigit() else r"\mathrm{" + word + "}"


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a Python number; a bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a Python whole number; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool)
