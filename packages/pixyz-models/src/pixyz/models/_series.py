"""Numbered files: `runs/step_{step}.safetensors`."""

import re
from pathlib import Path
from string import Formatter

from pixyz.core import ParameterError


def numbered(path: Path, step: int) -> Path:
    """The file of this step; a path without `{step}` is the file itself.

    Raises:
        ParameterError: for another field than `{step}`, or for two.
    """
    return path.with_name(path.name.format(step=step)) if is_series(path) else path


def newest(path: Path) -> Path:
    """The file with the greatest number; a path without `{step}` is the file itself.

    Raises:
        FileNotFoundError: if the series has no file.
    """
    found = find(path)
    if found is None and is_series(path):
        raise FileNotFoundError(f"There is no checkpoint {path} yet, for no {{step}}.")
    return found or path


def find(path: Path) -> Path | None:
    """The same, or None if there is no such file."""
    if not is_series(path):
        return path if path.exists() else None
    found = _members(path)
    return found[max(found)] if found else None


def prune(path: Path, step: int, keep: int) -> None:
    """Removes all but the last `keep` files up to this step. Those of later steps are another run's, and stay."""
    found = _members(path)
    for number in sorted(n for n in found if n <= step)[:-keep]:
        found[number].unlink(missing_ok=True)


def check_keep(path: Path, keep: int | None) -> None:
    """
    Raises:
        ParameterError: for a `keep` that is no positive integer, or without a numbered name.
    """
    if keep is None:
        return
    if type(keep) is not int or keep < 1:
        raise ParameterError(f"keep must be a positive integer; got {keep!r}.")
    if not is_series(path):
        example = path.with_name(f"{path.stem}_{{step}}{path.suffix}")
        raise ParameterError(
            f"keep={keep} keeps the last {keep} of numbered files, but {path} has no {{step}} in its name. Write {str(example)!r}."
        )


def is_series(path: Path) -> bool:
    """Whether the name has `{step}` in it.

    Raises:
        ParameterError: for another field, or for two.
    """
    try:
        fields = [(name, spec) for _, name, spec, _ in Formatter().parse(path.name) if name is not None]
    except ValueError as error:
        raise ParameterError(f"The name of {path} is not to be read: {error}.") from error
    if fields and (len(fields) > 1 or fields[0][0] != "step" or not re.fullmatch(r"(0?\d*d)?", fields[0][1] or "")):
        raise ParameterError(f"The name of {path} may have one field, {{step}} or {{step:06d}}.")
    return bool(fields)


def _members(path: Path) -> dict[int, Path]:
    parts = [re.escape(text) + ("" if field is None else r"(\d+)") for text, field, *_ in Formatter().parse(path.name)]
    pattern = re.compile("".join(parts))
    files = path.parent.iterdir() if path.parent.is_dir() else ()
    return {int(m[1]): f for f in files if (m := pattern.fullmatch(f.name))}
