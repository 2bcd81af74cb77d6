"""Which lines of the library each test runs, file of tests by file of tests, kept in `.mutants/coverage`."""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .forks import Send, Watch, in_child, leave_out_children, run_pytest

LEFT_OUT = ("tests/benchmarks/", "tests/site/", "tests/cuda-utils/", "tests/mutants/")
"""Folders whose tests are not used: benchmarks, the site, and tests of a package that is not mutated."""

LEFT_OUT_FILES = ("test_killed.py", "test_mutations.py", "test_device_tests.py", "test_repository.py", "test_mutants.py")
"""Files whose tests are not used: trainings that are killed, thousands of changed checkpoints, tests of the tests and of the texts."""

SECONDS_PER_TEST = 10.0
"""CPU seconds of a test under coverage, above which it is not used."""


@dataclass
class Test:
    """A test, its CPU seconds and, by file of the library, the lines it runs as bits of a number."""

    name: str
    seconds: float
    lines: dict[str, int]
    commit: str

    @property
    def breadth(self) -> int:
        """How many lines of the library it runs."""
        return sum(bits.bit_count() for bits in self.lines.values())


def files_of_tests(tree: Path) -> list[str]:
    """The files whose tests may be used."""
    files = [path.relative_to(tree).as_posix() for path in sorted(tree.glob("tests/*/test_*.py"))]
    return [file for file in files if not file.startswith(LEFT_OUT) and not file.endswith(LEFT_OUT_FILES)]


def cover(tree: Path, commit: str, kept: Path) -> None:
    """Measures each file of tests that has changed since it was measured; an interrupted run continues."""
    kept.mkdir(parents=True, exist_ok=True)
    files = files_of_tests(tree)
    for path in kept.glob("*.json"):
        if path.stem.replace("--", "/") + ".py" not in files:
            path.unlink()
    todo = [file for file in files if _of(kept, file, "text") != _hash(tree / file)]
    for k, file in enumerate(todo):
        ended = in_child(tree, 240, _measure, str(tree), file)
        outcomes = {m["test"]: m for m in ended.sent if "outcome" in m}
        lines = {m["lines"]: m["bits"] for m in ended.sent if "lines" in m}
        tests = {
            name: {"seconds": m["seconds"], "lines": lines[name]}
            for name, m in outcomes.items()
            if m["outcome"] == "passed" and name in lines
        }
        failed = [name for name, m in outcomes.items() if m["outcome"] == "failed"]
        record = {"text": _hash(tree / file), "commit": commit, "code": ended.code, "failed": failed, "tests": tests}
        part = kept / f"{_name(file)}.part"
        part.write_text(json.dumps(record), encoding="utf-8")
        part.replace(kept / f"{_name(file)}.json")
        skipped = sum(m["outcome"] == "skipped" for m in outcomes.values())
        note = f"{len(tests)} tests, {skipped} skipped, {len(failed)} failed" + (f", ended with {ended.code}" if ended.code else "")
        print(f"coverage {k + 1}/{len(todo)} {file}: {note}, {ended.seconds:.1f} s", flush=True)
        if ended.code or failed:
            (kept / f"{_name(file)}.log").write_text(ended.output, encoding="utf-8")


def read(kept: Path) -> list[Test]:
    """All tests that were measured and pass."""
    found = []
    for path in sorted(kept.glob("*.json")):
        record = json.loads(path.read_text("utf-8"))
        for name, test in record["tests"].items():
            lines = {file: int(bits, 16) for file, bits in test["lines"].items()}
            found.append(Test(name, test["seconds"], lines, record["commit"]))
    return found


def _measure(send: Send, tree: str, file: str) -> None:
    import coverage

    sys.dont_write_bytecode = False
    leave_out_children()
    measured = coverage.Coverage(data_file=None, config_file=False, include=[f"{tree}/packages/*/src/*"], messages=False)
    measured.start()
    watch = Watch(send, seconds=SECONDS_PER_TEST, before=measured.switch_context)
    try:
        run_pytest(watch, [file])
    finally:
        measured.stop()
    for name, bits in _bits(measured.get_data(), tree).items():
        send({"lines": name, "bits": {path: hex(b) for path, b in bits.items()}})


def _bits(data: Any, tree: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for path in data.measured_files():
        short = Path(path).relative_to(tree).as_posix()
        for line, contexts in data.contexts_by_lineno(path).items():
            for context in contexts:
                if context:
                    bits = found.setdefault(context, {})
                    bits[short] = bits.get(short, 0) | 1 << line
    return found


def _name(file: str) -> str:
    return file.removesuffix(".py").replace("/", "--")


def _of(kept: Path, file: str, key: str) -> Any:
    path = kept / f"{_name(file)}.json"
    return json.loads(path.read_text("utf-8"))[key] if path.is_file() else None


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
