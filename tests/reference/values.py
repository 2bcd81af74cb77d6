"""The table of reference values: what every row comes to, as values.tsv has it.

    python tests/reference/values.py                     compares all rows with the table
    python tests/reference/values.py ELBO                those whose names have ELBO in them
    python tests/reference/values.py --write [ELBO ...]  writes them into the table, and says which changed, and by how much

Numbers are those of one build of torch, which the head of the table names: another may draw other samples from the same seed.
"""

import argparse
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from reference.row import SEED, Evaluated, evaluated, wave
from reference.rows import ROWS

TABLE = Path(__file__).with_name("values.tsv")
COLUMNS = ("row", "value of each datum", "slope", "norms of the gradients", "norms of the buffers that changed")
RELATIVE = 1e-12
ABSOLUTE = 1e-14
"""The rounding of some fifty numbers of the size 1, which data, parameters and terms are: where such terms cancel, the rest has this error.
It counts for numbers below 0.01, most of all for gradients that are 0."""


class Figures(NamedTuple):
    """What the table has of a row.

    Attributes:
        value: that of each datum.
        slope: the derivative of the weighted sum of the values along a fixed direction in all that is differentiated, which knows signs.
        gradients: the norms of the gradients, for the parameters in their order, then for the data.
        buffers: the norms of the buffers that changed, in their order.
    """

    value: tuple[float, ...]
    slope: tuple[float, ...]
    gradients: tuple[float, ...]
    buffers: tuple[float, ...]


def figures(found: Evaluated) -> Figures:
    every = [g.reshape(-1) for g in found.gradients.values()]
    slope = (torch.cat(every) @ wave(sum(g.numel() for g in every))).item() if every else 0.0
    return Figures(tuple(found.value.tolist()), (slope,), _norms(found.gradients), _norms(found.buffers))


def _norms(tensors: Mapping[str, Tensor]) -> tuple[float, ...]:
    return tuple(t.norm().item() for t in tensors.values())


def build_of_torch() -> str:
    """What decides which samples a seed gives."""
    mkl = "with MKL" if torch.backends.mkl.is_available() else "without MKL"
    return f"torch {torch.__version__} {mkl} on {platform.system()} {platform.machine()}"


def read(path: Path = TABLE) -> tuple[str, dict[str, Figures]]:
    """The build of torch that the table is of, and its rows."""
    build, _, *lines = path.read_text("utf-8").splitlines()
    rows = {}
    for line in lines:
        name, *columns = line.split("\t")
        rows[name] = Figures(*(tuple(float(x) for x in column.split()) if column != "-" else () for column in columns))
    return build.removeprefix("# ").removesuffix(f"; seed {SEED}"), rows


def write(rows: Mapping[str, Figures], path: Path = TABLE) -> None:
    lines = [f"# {build_of_torch()}; seed {SEED}", "# " + "\t".join(COLUMNS)]
    for name in sorted(rows):
        lines.append("\t".join([name, *(" ".join(map(repr, column)) or "-" for column in rows[name])]))
    path.write_text("\n".join(lines) + "\n", "utf-8")


def difference(old: Figures, new: Figures) -> tuple[float, str]:
    """By how much a row differs, in units of what is allowed, and where most; 0 and nothing if it is the same."""
    worst = (0.0, "")
    for column, a, b in zip(("value", "slope", "gradient", "buffer"), old, new):
        if len(a) != len(b):
            return float("inf"), f"{len(a)} numbers in the column {column}, now {len(b)}"
        for i, (x, y) in enumerate(zip(a, b)):
            if x != y and not (x != x and y != y):
                size = abs(x - y) / (RELATIVE * abs(x) + ABSOLUTE)
                size = size if size == size else float("inf")
                if size > worst[0]:
                    worst = (size, f"{column} {i}: {x!r}, now {y!r}, a relative difference of {abs(x - y) / (abs(x) or 1):.1e}")
    return worst


def changed(names: Iterable[str], table: Mapping[str, Figures]) -> list[str]:
    """A line for every row that is not what the table has, within what is allowed."""
    lines = []
    for name in names:
        if name not in table:
            lines.append(f"{name}: is not in the table")
            continue
        size, where = difference(table[name], figures(evaluated(ROWS[name])))
        if size > 1:
            lines.append(f"{name}: {where}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="rows whose names have one of these in them; all, if not given")
    parser.add_argument("--write", action="store_true", help="write them into the table")
    arguments = parser.parse_args()
    chosen = [name for name in ROWS if not arguments.names or any(part in name for part in arguments.names)]
    if not chosen:
        parser.error(f"no row has {' or '.join(arguments.names)} in its name")
    build, table = read() if TABLE.exists() else (build_of_torch(), {})
    if build != build_of_torch() and (arguments.names or not arguments.write):
        parser.error(f"the table is of {build}, here is {build_of_torch()}: other samples. Write all rows, or use that build.")
    if not arguments.write:
        lines = changed(chosen, table)
        print("\n".join(lines) or f"{len(chosen)} rows are what the table has")
        return bool(lines)
    kept = {} if build != build_of_torch() else {name: row for name, row in table.items() if name in ROWS}
    said = [f"{name}: gone" for name in table if name not in ROWS]
    for name in chosen:
        new = figures(evaluated(ROWS[name]))
        size, where = difference(table[name], new) if name in table else (float("inf"), "new")
        if size > 1:
            said.append(f"{name}: {where}")
        if size > 1 or name not in kept:  # the last digits, which depend on the processor, stay as they are
            kept[name] = new
    write(kept)
    print("\n".join(said) or f"{len(chosen)} rows are what the table has")
    return 0


if __name__ == "__main__":
    sys.exit(main())
