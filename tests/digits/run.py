"""The wide grid of digits: many corners of every family, each held against mpmath. Exits with an error if more digits are lost than may be.

python tests/digits/run.py                         all quantities, all families
python tests/digits/run.py --only Gamma Beta       families whose names begin so
python tests/digits/run.py --page                  also renews the tables and the picture of docs/digits.md
    python tests/digits/run.py --write                 and tests/digits/kept: a few rows of each family, and the hardest
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from digits import kept, page
from digits.exemptions import EXEMPTIONS
from digits.grid import rows_of
from digits.judged import Known, Verdict, judged, known, unexcused
from digits.quantities import QUANTITIES
from digits.subjects import subjects

FEW = 8
"""How many rows of each subject are kept besides the hardest."""


def main() -> int:
    arguments = parsed()
    wrong, lines = 0, []
    for quantity in QUANTITIES.values():
        if arguments.quantity and quantity.name not in arguments.quantity:
            continue
        rows = kept.read(quantity.name) if arguments.write else {}
        for subject in subjects().values():
            if not quantity.known(subject) or not any(subject.name.startswith(name) for name in arguments.only):
                continue
            begun = time.process_time()
            every = known(subject, quantity, rows_of(subject, quantity, arguments.combinations))
            verdicts = judged(every, torch.float32)
            bad = unexcused(verdicts, "float32")
            in_double = judged(every, torch.float64, peers=False)
            precise = unexcused(in_double, "float64")
            spent = time.process_time() - begun
            print(
                f"{quantity.name} of {subject.name}: {len(every)} rows, {len(bad)} + {len(precise)} off, {spent:.1f} s",
                flush=True,
            )
            for v in sorted(bad, key=lambda v: -v.units)[: arguments.show]:
                print(f"    {v}")
            for v in sorted(precise, key=lambda v: -v.units)[: arguments.show]:
                print(f"    float64: {v}")
            wrong += len(bad) + len(precise)
            lines.append(page.line_of(subject.name, quantity.name, len(every), verdicts))
            if arguments.write:
                rows[subject.name] = chosen(every, verdicts, in_double)
        if arguments.write:
            kept.write(quantity.name, [row for name in subjects() for row in rows.get(name, [])])
    if arguments.write or arguments.page:
        page.write(lines)
    print(f"{wrong} numbers are off")
    return int(wrong > 0)


def chosen(rows: list[Known], verdicts: list[Verdict], in_double: list[Verdict]) -> list[Known]:
    """A few rows, evenly, those of the greatest error of each number, and those that need an exemption most."""
    names = {str(row) for row, _ in rows[:: max(1, len(rows) // FEW)]}
    worst: dict[str, Verdict] = {}
    for v in verdicts:
        number = v.number.partition("[")[0]
        if number not in worst or v.units > worst[number].units:
            worst[number] = v
    names |= {str(v.row) for v in worst.values()}
    for e in EXEMPTIONS:
        for dtype, each in (("float32", verdicts), ("float64", in_double)):
            excused = [v for v in each if v.is_off and e.holds(v.row, v.number, dtype)]
            names |= {str(max(excused, key=lambda v: v.units).row)} if excused else set()
    return [(row, rights) for row, rights in rows if str(row) in names]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="families whose names begin so")
    parser.add_argument("--quantity", nargs="+", metavar="NAME", help="only these quantities")
    parser.add_argument(
        "--combinations", type=int, default=40, metavar="N", help="of corners of the parameters, each with some seven values"
    )
    parser.add_argument("--show", type=int, default=4, metavar="N", help="of the numbers that are off, for each family")
    parser.add_argument("--write", action="store_true", help="keep a few rows of each family for the ordinary tests")
    parser.add_argument("--page", action="store_true", help="renew the tables and the picture of docs/digits.md, which --write does too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
