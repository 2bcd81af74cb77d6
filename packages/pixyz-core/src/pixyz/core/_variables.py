"""What users write: names of variables, how they are spelt, what a wrong one was meant to be; and what counts as a number."""

import difflib
import math
import re
from collections.abc import Iterable
from typing import TypeGuard

from ._errors import FormulaError, KindError

# A word, which may end in an index like _{t+1}, and primes. No dots and no brackets: names stand in keys of modules and in p(...|...).
_LEGAL = re.compile(r"[^\W\d]\w*((?<=_)\{[\w+\-*/:,<>=]+\})?'*")
_PART = re.compile(r"\{.*\}|[^_{}]+")
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
            raise FormulaError(f"{name!r} in {role} is no name of a variable: use letters, digits, _ and ', and indices like z_{{t+1}}.")
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


def misspelt(name: str, options: Iterable[str]) -> str | None:
    """The option that `name` was meant to be: it is one slip away, a letter too many, too few, another or two exchanged.

    Names of fewer than four letters, and names that differ in an index alone, as x_u and x_v or label1 and label2, are different on
    purpose.
    """
    return next((o for o in options if min(len(name), len(o)) > 3 and _is_slip(name, o)), None)


def _is_slip(a: str, b: str) -> bool:
    if abs(len(a) - len(b)) > 1 or _stem(a) == _stem(b) != "":
        return False
    if a.lower() == b.lower():
        return True
    shorter = min(len(a), len(b))
    start = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    end = next((i for i in range(shorter - start) if a[-1 - i] != b[-1 - i]), shorter - start)
    rest, other = a[start : len(a) - end], b[start : len(b) - end]
    return max(len(rest), len(other)) == 1 or (len(rest) == 2 and rest == other[::-1])


def _stem(name: str) -> str:
    """The name without its index; nothing where it has none."""
    found = re.fullmatch(r"(.*[^\W\d])(_[^_]+|\d+)'*", name)
    return found[1] if found else ""


def fresh_name(name: str, taken: Iterable[str]) -> str:
    """`name` with as many primes as make it differ from all that are taken."""
    taken = set(taken)
    while name in taken:
        name += "'"
    return name


def unicode_name(name: str) -> str:
    """`theta_u` as `θ_u`, `z_{theta+1}` as `z_{θ+1}`."""
    return re.sub(r"(?<![^\W_])[^\W\d_]+(?=\d*(?![^\W_]))", lambda word: _GREEK.get(word[0], word[0]), name)


def latex_name(name: str) -> str:
    r"""`theta_u` as `\theta_{u}`, `p_prior` as `p_{\mathrm{prior}}`, `z_{t+1}` as itself, `x1` as `x_{1}`."""
    stem, primes = name.rstrip("'"), name.count("'")
    numbered = re.match(r"([^\W\d_]+?)(\d+)(?=_|$)", stem)
    if numbered and (len(numbered[1]) == 1 or numbered[1] in _GREEK):
        stem = f"{numbered[1]}_{numbered[2]}{stem[numbered.end() :]}"
    head, _, rest = stem.partition("_")
    text = _latex_word(head) or "\\_"
    parts = _PART.findall(rest)
    if parts:
        text += "_{" + ",".join(_latex_index(part) for part in parts) + "}"
    return text + "'" * primes


def _latex_index(part: str) -> str:
    """A word, or what stands in braces, of which every word is a name."""
    return re.sub(r"\w+", lambda word: latex_name(word[0]), part[1:-1]) if part.startswith("{") else _latex_word(part)


def _latex_word(word: str) -> str:
    if word in _GREEK:
        return "\\" + word
    return word if len(word) <= 1 or word.isdigit() else r"\mathrm{" + word + "}"


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a Python number; a bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a Python whole number; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def need_finite(value: object, option: str, who: object) -> None:
    """An error unless an option is a finite number.

    Raises:
        KindError: naming the option.
    """
    if not is_number(value) or not math.isfinite(value):
        raise KindError(f"{who}: {option} must be a finite number; got {value!r}.")
