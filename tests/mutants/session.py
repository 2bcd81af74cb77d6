"""The session `mutants`: the coverage, the sample, the decisions and the report. Its state is kept in `.mutants`."""

import argparse
import csv
import difflib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

from . import coverings, forks, known, planting, trees
from .deciding import KILLED, Decider, Decision
from .places import PARTS

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".mutants"
EQUIVALENTS = Path(__file__).with_name("equivalents.tsv")
CHECKED_EVERY = 50
"""After so many decisions, the tests that killed are run without a mutant: one that fails has killed nothing."""


def main() -> None:
    """Reads the arguments and runs the session."""
    parser = argparse.ArgumentParser(prog="nox -s mutants --", description=__doc__)
    parser.add_argument("--sample", type=int, default=600, metavar="N", help="how many mutants are drawn from all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample; with another one, a session of its own begins")
    parser.add_argument("--commit", default="HEAD", help="what is mutated: a commit, since changes that are not committed are not copied")
    parser.add_argument("--again", action="store_true", help="decide anew, on that commit, the mutants that survived")
    parser.add_argument("--cover", action="store_true", help="measure the coverage and stop")
    parser.add_argument("--check", action="store_true", help="decide mutants whose outcome is known, and stop")
    parser.add_argument("--report", action="store_true", help="say what was decided, and show each survivor")
    given = parser.parse_args()
    STATE.mkdir(exist_ok=True)
    session = Session(given.seed)
    if given.report:
        print(session.report(), end="")
        return
    commit = trees.copy_of(ROOT, STATE / "tree", given.commit)
    forks.import_once()
    coverings.cover(STATE / "tree", commit, STATE / "coverage")
    if given.check:
        wrong = known.check(Decider(ROOT, STATE / "tree", commit, coverings.read(STATE / "coverage")), STATE / "tree")
        raise SystemExit("\n".join(wrong) or None)
    if not given.cover:
        session.run(commit, given.sample, given.again)


class Session:
    """The mutants of one seed with their results, in a database of cosmic-ray."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.tree = STATE / "tree"
        self.database = STATE / f"{seed}.sqlite"
        self.facts = STATE / f"{seed}.json"

    def run(self, commit: str, size: int, again: bool) -> None:
        """Draws the sample, or more of it, and decides all mutants that are not decided."""
        drawn_at = json.loads(self.facts.read_text("utf-8"))["commit"] if self.facts.is_file() else commit
        with use_db(str(self.database)) as database:
            if database.num_work_items < size:
                trees.copy_of(ROOT, self.tree, drawn_at)
                counts = planting.draw(self.tree, database, size, self.seed)
                trees.copy_of(ROOT, self.tree, commit)
                self.facts.write_text(json.dumps({"commit": drawn_at, "seed": self.seed, **counts}), encoding="utf-8")
            decider = Decider(ROOT, self.tree, commit, coverings.read(STATE / "coverage"))
            survived = {item.job_id for item, result in database.completed_work_items if result.test_outcome == TestOutcome.SURVIVED}
            pending = list(database.pending_work_items)
            if again:
                pending = [item for item in database.work_items if item.job_id in survived]
            pending.sort(key=lambda item: item.job_id)
            for k, item in enumerate(pending):
                self._decide(database, decider, item, drawn_at)
                if (k + 1) % CHECKED_EVERY == 0 or k + 1 == len(pending):
                    self._revoke(database, decider)

    def _decide(self, database: WorkDB, decider: Decider, item: WorkItem, drawn_at: str) -> None:
        (mutant,) = item.mutations
        path = mutant.module_path.as_posix()
        old = trees.text_at(ROOT, drawn_at, path) or ""
        place = self.tree / path
        new = place.read_text("utf-8") if place.is_file() else ""
        found = planting.found_again(mutant, old, new)
        if found is None:
            text, source, decision = planting.mutated(old, mutant), old, Decision("gone", "its place was changed", 0, 0.0)
            outcome = WorkerOutcome.SKIPPED
        else:
            text, source, outcome = planting.mutated(new, found), new, WorkerOutcome.NORMAL
            assert text is not None
            of_device = "device" in planting.change(new, text).partition(" ⇒ ")[0] and "RemoveArgument" in mutant.operator_name
            decision = decider.decide(path, text, found.start_pos[0], found.end_pos[0], of_device=of_device)
        diff = "\n".join(difflib.unified_diff(source.splitlines(), (text or "").splitlines(), path, path, lineterm="", n=2))
        kept = {
            **decision.asdict(),
            "commit": decider.commit,
            "change": planting.change(source, text or ""),
            "line": (found or mutant).start_pos[0],
        }
        test = TestOutcome(decision.outcome) if found else None
        database.set_result(item.job_id, WorkResult(outcome, json.dumps(kept), test, diff))
        where = f"{place.name}:{kept['line']}"
        print(f"{item.job_id} {decision.outcome:8} {decision.seconds:6.1f} s {decision.tests:4} tests  {where}", flush=True)

    def _revoke(self, database: WorkDB, decider: Decider) -> None:
        """Takes back what was killed by a test that fails without a mutant too."""
        known = STATE / "passed.json"
        passed: dict[str, list[str]] = json.loads(known.read_text("utf-8")) if known.is_file() else {}
        sound = set(passed.get(decider.commit, []))
        killers = {
            row["by"]
            for _, row in self._rows(database)
            if row["outcome"] == KILLED and row["commit"] == decider.commit and row["by"].startswith("tests/")
        }
        failing = decider.fails_without(sorted(killers - sound))
        passed[decider.commit] = sorted(killers | sound - set(failing))
        known.write_text(json.dumps(passed), encoding="utf-8")
        if failing:
            decider.unfit.update(failing)
            print(f"{len(failing)} tests fail without a mutant: {', '.join(failing)}", flush=True)
            drawn_at = json.loads(self.facts.read_text("utf-8"))["commit"]
            for item, row in list(self._rows(database)):
                if row["by"] in failing:
                    self._decide(database, decider, item, drawn_at)

    def _rows(self, database: WorkDB) -> Iterator[tuple[WorkItem, dict[str, Any]]]:
        for item, result in database.completed_work_items:
            yield item, {**json.loads(result.output or "{}"), "diff": result.diff}

    def report(self) -> str:
        """The counts by package, and each survivor as a diff."""
        facts = json.loads(self.facts.read_text("utf-8"))
        equivalent = equivalents()
        counts: dict[str, Counter[str]] = {part: Counter() for part in (*PARTS, "all")}
        survivors: dict[str, list[str]] = {part: [] for part in PARTS}
        with use_db(str(self.database)) as database:
            size = database.num_work_items
            rows = sorted(self._rows(database), key=lambda pair: (pair[0].mutations[0].module_path, pair[1]["line"]))
        for item, row in rows:
            mutant = item.mutations[0]
            path = mutant.module_path.as_posix()
            part = path.split("/")[1].removeprefix("pixyz-")
            outcome = row["outcome"]
            why = equivalent.get((path, mutant.operator_name, row["change"]))
            if outcome == "survived" and why:
                outcome = "equivalent"
            for key in (part, "all"):
                counts[key][outcome] += 1
            if outcome == "survived":
                note = row["by"] or f"{row['tests']} tests let it live"
                survivors[part].append(
                    f"### {item.job_id} {path}:{row['line']} {mutant.operator_name}\n{note}\n\n```diff\n{row['diff']}\n```\n"
                )
        text = f"# Mutants\n\nSeed {facts['seed']}: {size} of {facts['places']} places, drawn at {facts['commit'][:10]}.\n\n"
        text += "| package | decided | killed | survived | equivalent | gone | killed of the rest |\n|---|--:|--:|--:|--:|--:|--:|\n"
        for part, count in counts.items():
            decided = sum(count.values())
            counted = count["killed"] + count["survived"]
            share = f"{100 * count['killed'] / counted:.1f} %" if counted else ""
            text += (
                f"| {part} | {decided} | {count['killed']} | {count['survived']} | {count['equivalent']} | {count['gone']} | {share} |\n"
            )
        everything = sum(counts["all"].values())
        if counts["all"]["equivalent"] > 0.05 * everything:
            text += "\nMore than 5 % are called equivalent: too many.\n"
        for part, found in survivors.items():
            if found:
                text += f"\n## {part}\n\n" + "\n".join(found)
        return text


def equivalents() -> dict[tuple[str, str, str], str]:
    """Why a mutant of a file, an operator and a change of lines is no change of the program, or of none that a user meets."""
    with EQUIVALENTS.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {(row["file"], row["operator"], row["change"]): row["why"] for row in rows}
