"""Which raise statements are run is recorded, and the record is judged, on a small package that imports nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RAISED = Path(__file__).parents[1] / "raised"
SOURCE = """\
import os

def positive(x):
    if x < 0: raise ValueError("a") from None
    try:
        return 1 / x
    except ZeroDivisionError:
        raise


class Number:
    def root(self, x):
        match x:
            case -1:
                raise TypeError(
                    "b"
                )
        for y in [x]:
            raise KeyError(y)
"""
NEVER = """\
No test runs these 2 raise statements; give each bad input in the test of its subject:
number/number.py:15 in Number.root: raise TypeError( "b" )
number/number.py:19 in Number.root: raise KeyError(y)"""
IN_A_FORK = """
from pixyz.number.number import *
import pixyz.number.number as module, inspect, traceback
assert inspect.getsource(positive) == "".join(open(module.__file__).readlines()[2:8])
try:
    positive(-1)
except ValueError as error:
    assert traceback.format_exception(error)[-2].count('raise ValueError("a") from None') == 1
child = os.fork()
if not child:
    try:
        positive(0)
    except ZeroDivisionError as error:
        assert [frame.lineno for frame in traceback.extract_tb(error.__traceback__)] == [12, 6]
        os.kill(os.getpid(), 9)
assert os.waitpid(child, 0)[1] == 9
"""
REST = """
from pixyz.number.number import Number
for x in (-1, 2):
    try:
        Number().root(x)
    except (TypeError, KeyError):
        pass
"""


@pytest.fixture
def checkout(tmp_path):
    """A repository of one package, with the programs of this one."""
    shutil.copytree(RAISED, tmp_path / "tests" / "raised", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "raised" / "runs_elsewhere.py").write_text("RUNS_ELSEWHERE = {}", "utf-8")
    package = tmp_path / "packages" / "pixyz-number" / "src" / "pixyz" / "number"
    package.mkdir(parents=True)
    (package / "number.py").write_text(SOURCE, "utf-8")
    return tmp_path


def ran(checkout, program, package="number", ends=True):
    """Runs a program as a session of tests does."""
    record = checkout / f"{package}.txt"
    folders = [checkout / "tests" / "raised", checkout / "packages" / "pixyz-number" / "src"]
    environment = {**os.environ, "PIXYZ_RAISED": str(record), "PYTHONPATH": os.pathsep.join(map(str, folders))}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    if ends:
        record.write_text(record.read_text("utf-8") + "complete\n", "utf-8")


def judged(checkout, *packages):
    """What the gate says."""
    program = checkout / "tests" / "raised" / "every_raise.py"
    environment = {**os.environ, "PIXYZ_RAISED": "", "PYTHONPATH": ""}
    end = subprocess.run([sys.executable, program, checkout, *packages], env=environment, capture_output=True, text=True, check=False)
    assert end.returncode == bool(end.stderr)
    assert "Traceback" not in end.stderr
    return end.stderr.strip()


def test_a_raise_that_nothing_runs_is_named(checkout):
    """Those run in a fork that is killed count, and the bare ones; source and traceback are those of the file."""
    ran(checkout, IN_A_FORK)
    assert judged(checkout, "number") == NEVER
    ran(checkout, REST, "other")
    assert judged(checkout, "number", "other") == ""


def test_an_entry_of_what_runs_elsewhere_is_strict(checkout):
    ran(checkout, IN_A_FORK)
    entries = [("number/number.py", "Number.root", "raise TypeError"), ("number/number.py", "Number.root", "raise KeyError")]
    gone = ("number/number.py", "positive", "raise ValueError")
    elsewhere = dict.fromkeys([*entries, gone], "no CUDA")
    (checkout / "tests" / "raised" / "runs_elsewhere.py").write_text(f"RUNS_ELSEWHERE = {elsewhere}", "utf-8")
    assert judged(checkout, "number") == f"RUNS_ELSEWHERE has {gone}, which is run, or is no more: remove it."


def test_a_record_of_less_than_all_tests_proves_nothing(checkout):
    ran(checkout, IN_A_FORK, ends=False)
    ran(checkout, REST, "early")
    source = next(checkout.glob("packages/*/src/**/number.py"))
    source.write_text(source.read_text("utf-8") + "\n", "utf-8")
    said = judged(checkout, "number", "early", "never")
    assert said.splitlines() == [
        "It is not known which raise statements are run:",
        'nox -s "tests(number, cpu)" has not run to its end, with all tests passed',
        'nox -s "tests(early, cpu)" ran before packages/*/src changed',
        'nox -s "tests(never, cpu)" has not run',
        "Without arguments of pytest, nox -s raises runs all of them first.",
    ]
