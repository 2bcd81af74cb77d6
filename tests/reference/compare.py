"""The rows of the table, computed by the packages of two checkouts: those that differ in any bit, and by how much.

    python tests/reference/compare.py PATH_A PATH_B            all rows, as A defines them
    python tests/reference/compare.py PATH_A PATH_B ELBO flow  those whose names have one of these in them

Values, gradients and changed buffers are compared, each in a process of its own on this machine, so that torch and the processor are the
same. Parameters are compared in their order, whatever their names are.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

Found = dict[str, list[Tensor] | str]
"""For every row its tensors, or the error that it raised."""


def sources(checkout: Path) -> list[str]:
    return [str(path) for path in sorted(checkout.glob("packages/*/src"))]


def compute(definition: Path, checkout: Path, names: list[str], target: Path) -> Found:
    """The rows that one checkout defines, by the packages of another."""
    if not sources(checkout) or not (definition / "tests/reference/rows.py").exists():
        sys.exit(f"{checkout} has no packages/*/src, or {definition} no tests/reference/rows.py")
    path = [str(definition / "tests"), *sources(checkout)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, __file__, "--compute", str(checkout), str(target), *names], env=env, check=True)
    return torch.load(target)


def computed_here(checkout: Path, names: list[str]) -> Found:
    from reference.row import evaluated
    from reference.rows import ROWS

    import pixyz.core

    home = Path(pixyz.core.__file__)
    if not home.is_relative_to(checkout.resolve()):
        sys.exit(f"pixyz.core was imported from {home}, which is not in {checkout}")
    found: Found = {}
    for name in [name for name in ROWS if not names or any(part in name for part in names)]:
        try:
            row = evaluated(ROWS[name])
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
        else:
            found[name] = [row.value, *row.gradients.values(), *row.buffers.values()]
    return found


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def difference(a: list[Tensor] | str, b: list[Tensor] | str) -> str:
    """What differs between two rows, in words; nothing if all bits are the same."""
    if isinstance(a, str) or isinstance(b, str):
        return "" if a == b else f"A {a if isinstance(a, str) else 'has a value'}; B {b if isinstance(b, str) else 'has a value'}"
    if [t.shape for t in a] != [t.shape for t in b]:
        return f"A has the shapes {[tuple(t.shape) for t in a]}, B {[tuple(t.shape) for t in b]}"
    words = []
    for i, (x, y) in enumerate(zip(a, b)):
        if not same_bits(x.reshape(-1), y.reshape(-1)):
            size = ((x - y).norm() / x.norm().clamp(min=torch.finfo(x.dtype).tiny)).item()
            words.append(f"{'value' if i == 0 else f'gradient {i - 1}'} by {size:.1e}")
    return ", ".join(words)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs=2, type=Path, metavar="PATH")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--compute", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compute:
        checkout, target = arguments.checkouts
        torch.save(computed_here(checkout, arguments.names), target)
        return 0
    left, right = (path.resolve() for path in arguments.checkouts)
    with tempfile.TemporaryDirectory() as folder:
        a, b = (compute(left, side, arguments.names, Path(folder) / name) for side, name in ((left, "a"), (right, "b")))
    if not a:
        parser.error(f"no row has {' or '.join(arguments.names)} in its name")
    lines = [f"{name}: {words}" for name in a if (words := difference(a[name], b[name]))]
    failed = [f"{name}: in both, {row}" for name, row in a.items() if isinstance(row, str) and row == b[name]]
    print("\n".join([*lines, *failed, f"{len(a)} rows, {len(lines)} differ"]))
    return bool(lines or failed)


if __name__ == "__main__":
    sys.exit(main())
