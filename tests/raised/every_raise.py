"""Fails if a `raise` of the packages was run by no test. The sessions `tests(PACKAGE, cpu)` of nox write what they ran.

    python tests/raised/every_raise.py FOLDER_OF_RECORDS PACKAGE ...

A record without all of its session, or of other sources, proves nothing: it is named, and the program fails.
"""

import sys
from pathlib import Path

from raise_statements import Statement, hash_of_sources, statements
from runs_elsewhere import RUNS_ELSEWHERE

COMPLETE = "complete"
"""The last line of a record, when all tests of its session have passed."""


def unfit(folder: Path, packages: list[str]) -> list[str]:
    """What is wrong with the records."""
    found = []
    for package in packages:
        session = f'"tests({package}, cpu)"'
        path = folder / f"{package}.txt"
        first, *rest = path.read_text("utf-8").splitlines() if path.exists() else [""]
        if not first:
            found.append(f"nox -s {session} has not run")
        elif rest[-1:] != [COMPLETE]:
            found.append(f"nox -s {session} has not run to its end, with all tests passed")
        elif first != f"sources {hash_of_sources()}":
            found.append(f"nox -s {session} ran before packages/*/src changed")
    return found


def not_run(folder: Path, packages: list[str]) -> list[Statement]:
    """The statements that no session ran."""
    lines = {line for package in packages for line in (folder / f"{package}.txt").read_text("utf-8").splitlines()}
    return [s for s in statements() if f"{s.file} {s.line}" not in lines]


def is_exempt(statement: Statement, entry: tuple[str, str, str]) -> bool:
    file, function, text = entry
    return (statement.file, statement.function) == (file, function) and statement.text.startswith(text)


def main(folder: Path, packages: list[str]) -> str:
    """What is wrong, or nothing."""
    if problems := unfit(folder, packages):
        problems.append("Without arguments of pytest, nox -s raises runs all of them first.")
        return "\n".join(["It is not known which raise statements are run:", *problems])
    missing = not_run(folder, packages)
    lines = [str(s) for s in missing if not any(is_exempt(s, entry) for entry in RUNS_ELSEWHERE)]
    if lines:
        lines.insert(0, f"No test runs these {len(lines)} raise statements; give each bad input in the test of its subject:")
    for entry in RUNS_ELSEWHERE:
        if not any(is_exempt(s, entry) for s in missing):
            lines.append(f"RUNS_ELSEWHERE has {entry}, which is run, or is no more: remove it.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]) or None)
