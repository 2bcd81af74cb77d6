"""Rows of the table on another device: what they come to there beside what they come to on the CPU, with the same noise."""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext

import elsewhere
import torch
from placed import NoiseOfTheCPU

from .row import Evaluated, evaluated
from .rows import LACKING, PARTS, ROWS
from .values import Figures, build_of_torch, difference, figures, read

RELATIVE, ABSOLUTE = 1e-8, 1e-10
"""Another device has other algorithms for sums, products of matrices and special functions."""

LEFT_OUT = {
    "flows: from_transform: data to noise": "the constants of another library's transform stay on the CPU, as from_transform says",
    "flows: from_transform: noise to data": "the constants of another library's transform stay on the CPU, as from_transform says",
}
ELSEWHERE_LEFT_OUT = {"sequences: sequence: a recurrent network": "torch has a GRU for a device, and elsewhere has none"}


def comparable(names: Iterable[str], device: str) -> list[str]:
    """Those of the rows that can be evaluated on such a device here."""
    left_out = {**LEFT_OUT, **LACKING, **(ELSEWHERE_LEFT_OUT if device == elsewhere.NAME else {})}
    return [name for name in names if name not in left_out]


def one_of_each() -> list[str]:
    """A row for each thing that has some, and the draws of each family; its moments are only among all rows, to save time."""
    found: dict[tuple[str, str], str] = {}
    for part, rows in PARTS.items():
        for name in rows:
            thing = name.replace("(", ":").replace(",", ":").partition(":")[0]
            if part == "moments" and ("distributions", thing) in found:
                continue
            found.setdefault((part, thing), f"{part}: {name}")
            if name.endswith(": draws") and part != "flows":
                found.setdefault((part, thing + ": draws"), f"{part}: {name}")
    return [*found.values()]


def differing(names: Iterable[str], device: torch.device, table: Mapping[str, Figures] | None = None) -> list[str]:
    """A line for every row that is another on the device than on the CPU, with the same noise; or than the table, if one is given."""
    lines = []
    for name in names:
        try:
            with NoiseOfTheCPU() if table is None else nullcontext():
                there = evaluated(ROWS[name], device)
                here = evaluated(ROWS[name]) if table is None else None
        except Exception as error:
            lines.append(f"{name}: {type(error).__name__}: {error}")
            continue
        if here is not None:
            line = _difference(here, there)
        else:
            size, where = difference(table[name], figures(there))
            line = where if size > 1 else ""
        if line:
            lines.append(f"{name}: {line}")
    return lines


def differing_elsewhere(names: Iterable[str]) -> list[str]:
    """The same on the device `elsewhere`, which this process has from here on; held against the table, if it is of this build of torch."""
    elsewhere.register()
    build, table = read()
    return differing(names, torch.device(elsewhere.NAME), table if build == build_of_torch() else None)


def _difference(here: Evaluated, there: Evaluated) -> str:
    for what, a, b in (("value", {"": here.value}, {"": there.value}), *zip(("gradient of", "buffer"), here[1:], there[1:])):
        if a.keys() != b.keys():
            return f"{what} of {sorted(a)}, there of {sorted(b)}"
        for k, x in a.items():
            size = ABSOLUTE + RELATIVE * x.abs().max() if x.numel() else 0.0
            if x.shape != b[k].shape or not torch.allclose(x, b[k], rtol=RELATIVE, atol=float(size), equal_nan=True):
                return f"{what} {k} {x.flatten()[:4].tolist()}, there {b[k].flatten()[:4].tolist()}"
    return ""
