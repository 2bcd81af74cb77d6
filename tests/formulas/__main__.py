"""python -m formulas --examples N [--seed S] [--world NAME ...] [--state PATH] [--case 'REPR']"""

import argparse
import sys
from pathlib import Path

from .run import Run


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description="Tries random formulas, and says which of them the library gets wrong.")
    parser.add_argument("--examples", type=int, default=1_000, help="how many in all, with those of earlier runs of this seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--world", action="append", default=[], help="of these worlds only")
    parser.add_argument("--state", type=Path, help="the file that a later run goes on from; .fuzz/SEED.json if not said")
    parser.add_argument("--quiet", action="store_true", help="without the bar")
    options = parser.parse_args()
    path = options.state or Path(".fuzz") / "-".join([*options.world, f"{options.seed}.json"])
    run = Run(options.seed, tuple(options.world), path)
    run.until(options.examples, quiet=options.quiet)
    print(run.summary())
    return bool(run.state["disagreements"])


if __name__ == "__main__":
    sys.exit(main())
