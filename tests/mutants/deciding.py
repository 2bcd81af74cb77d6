"""Whether a mutant is killed: the tests of its lines are run with it, in a forked process, in the private copy."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from . import coverings, selection
from .forks import Ended, Send, Watch, in_child, run_pytest

ELSEWHERE = "tests/all/test_another_device.py::test_values_and_gradients_elsewhere_are_those_on_the_cpu"
"""The test of another device, in a child process, where no coverage is measured: it is run for a mutant that changes a device."""

PASSED, KILLED, SURVIVED = "passed", "killed", "survived"


@dataclass(frozen=True)
class Decision:
    """What became of a mutant: by which test or in which way it was killed, how many tests were run, and in how many CPU seconds."""

    outcome: str
    by: str
    tests: int
    seconds: float

    def asdict(self) -> dict[str, object]:
        return asdict(self)


class Decider:
    """Decides mutants in a copy of the repository, of which a covering is known."""

    def __init__(self, root: Path, tree: Path, commit: str, tests: list[coverings.Test]) -> None:
        self.root, self.tree, self.commit, self.tests = root, tree, commit, tests
        self._moved: dict[str, list[selection.Covering]] = {}
        self.unfit: set[str] = set()

    def decide(self, path: str, text: str, first: int, last: int, *, of_device: bool = False) -> Decision:
        """Whether the text in place of a file, which differs in the lines `first` to `last`, is noticed.

        Args:
            path: the file, from the root of the copy.
            text: what stands there instead.
            first: the first line that differs.
            last: the last one.
            of_device: whether it is on another device that it differs.
        """
        source = (self.tree / path).read_text("utf-8")
        lines = selection.lines_of(source, first, last)
        tests = [test for test in selection.ordered(self._tests_of(path, source), path, lines) if test.name not in self.unfit]
        stages = selection.stages(tests)
        if not stages:
            return Decision(SURVIVED, "no test runs it", 0, 0.0)
        limit = 50 + 100 * of_device + 3 * sum(test.seconds for stage in stages for test in stage)
        with _in_place(self.tree / path, text):
            ended = in_child(self.tree, limit, _run, [[test.name for test in stage] for stage in stages], [ELSEWHERE] * of_device)
        return _decision(ended)

    def fails_without(self, names: list[str]) -> list[str]:
        """Those of the tests, or files that are to be imported, that fail without a mutant: they kill nothing."""
        names = [name for name in names if (self.tree / name.split("::")[0]).is_file()]
        if not names:
            return []
        ended = in_child(self.tree, 600, _run_all, names)
        passed = {m["test"] for m in ended.sent if isinstance(m, dict) and m["outcome"] == PASSED}
        failed = {m["test"] for m in ended.sent if isinstance(m, dict) and m["outcome"] == "failed"}
        return [name for name in names if (name not in passed if "::" in name else name in failed)]

    def _tests_of(self, path: str, source: str) -> list[selection.Covering]:
        """The tests with the lines of a file as the copy has it, which may be younger than their covering."""
        if path not in self._moved:
            from .trees import text_at

            old: dict[str, str] = {}
            found: list[selection.Covering] = []
            for test in self.tests:
                if path in test.lines:
                    if test.commit not in old:
                        old[test.commit] = text_at(self.root, test.commit, path) or ""
                    bits = selection.moved(test.lines[path], old[test.commit], source)
                    found.append(coverings.Test(test.name, test.seconds, {**test.lines, path: bits}, self.commit))
            self._moved[path] = found
        return self._moved[path]


def _decision(ended: Ended) -> Decision:
    ran = [m for m in ended.sent if isinstance(m, dict)]
    failed = next((m for m in ran if m["outcome"] == "failed"), None)
    seconds = round(ended.seconds, 2)
    if failed is not None:
        return Decision(KILLED, failed["test"], len(ran), seconds)
    if ended.code or "done" not in ended.sent:
        return Decision(KILLED, f"the process ended with {ended.code}", len(ran), seconds)
    return Decision(SURVIVED, "", len(ran), seconds)


def _run(send: Send, stages: list[list[str]], last: list[str]) -> None:
    """Runs the stages up to the first test that fails, then their functions with other arguments, and the tests that come last."""
    sys.dont_write_bytecode = True
    every = [name for names in stages for name in names]
    plan = [*((names, False) for names in stages), (every, True), *([(last, False)] if last else [])]
    for names, siblings in plan:
        watch = Watch(send, wanted=names, siblings=siblings)
        run_pytest(watch, dict.fromkeys(name.split("::")[0] for name in names), "-x")
        if watch.failed:
            break
    send("done")


def _run_all(send: Send, names: list[str]) -> None:
    watch = Watch(send, wanted=names)
    run_pytest(watch, dict.fromkeys(name.split("::")[0] for name in names))
    send("done")


@contextlib.contextmanager
def _in_place(path: Path, text: str) -> Iterator[None]:
    """Writes the text in place of a file for a while, with a time of its own, so that no bytecode of another text is taken for it."""
    before, times = path.read_bytes(), path.stat()
    try:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, 10**18 + time.time_ns() % 10**17 // 10**9 * 10**9))
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
