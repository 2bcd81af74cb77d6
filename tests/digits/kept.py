"""Right values that are kept, so that tests need not compute them: one file for each quantity, one line for each row."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .rows import Right, Row, mp

FOLDER = Path(__file__).parent / "kept"


def path_of(quantity: str) -> Path:
    return FOLDER / f"{quantity.replace(' ', '_')}.tsv"


def written(row: Row, rights: dict[str, Right]) -> str:
    """The line of a row: subject, inputs, and for each number its value, its condition and, where there is one, the other end."""
    numbers = {
        name: [mp.nstr(r.value, 25), mp.nstr(r.condition, 5), *([mp.nstr(r.other, 25)] if r.other is not None else [])]
        for name, r in rights.items()
    }
    return "\t".join([row.subject, json.dumps(row.point), json.dumps(numbers)])


def read(quantity: str) -> dict[str, list[tuple[Row, dict[str, Right]]]]:
    """The rows of a quantity, by subject."""
    found: dict[str, list[tuple[Row, dict[str, Right]]]] = {}
    path = path_of(quantity)
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        subject, point, numbers = line.split("\t")
        rights = {name: Right(*map(mp.mpf, parts)) for name, parts in json.loads(numbers).items()}
        row = Row(subject, quantity, {name: _tuples(v) for name, v in json.loads(point).items()})
        found.setdefault(subject, []).append((row, rights))
    return found


def write(quantity: str, rows: Iterable[tuple[Row, dict[str, Right]]]) -> None:
    """Writes the file of a quantity anew."""
    FOLDER.mkdir(exist_ok=True)
    path_of(quantity).write_text("".join(sorted(written(row, rights) + "\n" for row, rights in rows)), "utf-8")


def _tuples(v: Any) -> Any:
    return tuple(map(_tuples, v)) if isinstance(v, list) else v
