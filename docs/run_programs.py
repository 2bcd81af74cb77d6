"""Runs the programs that pages show (see `kept_results.py`), two at a time with one thread each.

    python docs/run_programs.py                  all, from nothing; compares with the kept results
    python docs/run_programs.py --keep gmm vae   these; keeps each result as soon as its program ends
    python docs/run_programs.py --smoke          all that are older than their packages, for one epoch or step

Failures are reported together at the end. CPU time is limited, wall-clock time is not: a busy machine makes nothing fail.
"""

import argparse
import ast
import importlib
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import kept_results
from kept_results import ROOT, Program

try:
    import resource
except ImportError:  # Windows
    resource = None

FULL, SMOKE = 3600, 120
"""CPU seconds that a command line may take."""

SHORT = {"--epochs": "1", "--steps": "1", "--seeds": "1", "--repeats": "2"}
"""What a smoke test gives to these options of a command line."""

ENVIRONMENT = {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TQDM_DISABLE": "1"}

RELATIVE, ABSOLUTE = 0.1, 0.05
"""Two printed numbers agree if they differ by this share of the greater, or by this much: another machine rounds otherwise."""

NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?! ?(?:ms|s|seconds)\b)")


@dataclass
class Outcome:
    """What became of a program: what it printed, its pictures, why it failed if it did."""

    program: Program
    folder: Path
    printed: str = ""
    cpu_seconds: float | None = 0.0
    failure: str = ""

    def pictures(self) -> list[Path]:
        return sorted(self.folder.rglob("*.png"))


@dataclass
class _Job:
    outcome: Outcome
    commands: deque[list[str]]
    limit: int
    printed: list[str] = field(default_factory=list)

    def streams(self) -> tuple[Path, Path]:
        return self.outcome.folder / "stdout.txt", self.outcome.folder / "stderr.txt"

    def ended(self, code: int, cpu_seconds: float | None) -> None:
        """Takes note of the command that has ended; a negative code is a signal."""
        command, (printed, errors) = self.commands.popleft(), (path.read_text("utf-8", errors="replace") for path in self.streams())
        self.printed.append(printed)
        self.outcome.printed = tidy("\n".join(self.printed))
        both = (self.outcome.cpu_seconds, cpu_seconds)
        self.outcome.cpu_seconds = None if None in both else sum(both)
        if resource is not None and code == -signal.SIGXCPU:
            self.outcome.failure = f"{_line(command)} used more than {self.limit} CPU seconds.\n{errors[-2000:]}"
        elif code:
            self.outcome.failure = f"{_line(command)} failed with exit status {code}:\n{errors[-4000:]}"


def run(programs: Iterable[Program], folder: Path, limit: int = FULL, smoke: bool = False, at_once: int = 2) -> Iterator[Outcome]:
    """Runs programs from nothing, each in a folder of its own in `folder`, and yields what became of each as soon as it ends."""
    waiting = deque()
    for program in programs:
        commands = [shortened(command) for command in program.commands()] if smoke else program.commands()
        shutil.rmtree(folder / program.name, ignore_errors=True)
        (folder / program.name).mkdir(parents=True)
        waiting.append(_Job(Outcome(program, (folder / program.name).resolve()), deque(commands), limit))
    children = _Forked() if hasattr(os, "fork") else _Started()
    if hasattr(os, "fork"):
        preload(job.outcome.program for job in waiting)
    running: dict[int, _Job] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            job = waiting.popleft()
            running[children.start(job)] = job
        number, code, cpu_seconds = children.next_ended()
        job = running.pop(number)
        job.ended(code, cpu_seconds)
        if job.commands and not job.outcome.failure:
            waiting.appendleft(job)
        else:
            yield job.outcome


def shortened(command: Sequence[str]) -> list[str]:
    """A command line with the fewest epochs and steps."""
    return [SHORT.get(before, word) for before, word in zip(["", *command], command)]


def preload(programs: Iterable[Program]) -> None:
    """Imports what the programs import, once for all of them. What cannot be imported fails in the program."""
    names = set()
    for program in programs:
        for path in program.sources():
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module:
                    names.add(node.module)
                elif isinstance(node, ast.Import):
                    names.update(alias.name for alias in node.names)
        beside = {path.stem for path in program.sources()}
        names -= beside
    for name in sorted(names):
        with suppress(Exception):
            importlib.import_module(name)


class _Forked:
    """Child processes that share what is imported here."""

    def start(self, job: _Job) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        number = os.fork()
        if number == 0:
            os._exit(_in_child(job))
        return number

    def next_ended(self) -> tuple[int, int, float]:
        number, status, usage = os.wait4(-1, 0)
        return number, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime


def _in_child(job: _Job) -> int:
    code = 1
    try:
        for path, stream in zip(job.streams(), (1, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        if resource is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (job.limit, job.limit + 5))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(job.outcome.folder)
        of_module, *rest = job.commands[0]
        if of_module == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = job.commands[0]
            sys.path[0] = str(Path(of_module).parent)
            runpy.run_path(of_module, run_name="__main__")
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


class _Started:
    """Child processes where there is no fork: each imports for itself, and its CPU time is unknown."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen] = []

    def start(self, job: _Job) -> int:
        with job.streams()[0].open("w") as printed, job.streams()[1].open("w") as errors:
            command = [sys.executable, *job.commands[0]]
            process = subprocess.Popen(command, stdout=printed, stderr=errors, cwd=job.outcome.folder)
        self.processes.append(process)
        return process.pid

    def next_ended(self) -> tuple[int, int, None]:
        while True:
            for process in self.processes:
                if process.poll() is not None:
                    self.processes.remove(process)
                    return process.pid, process.returncode, None
            time.sleep(0.05)


def tidy(printed: str) -> str:
    """Without spaces at the ends of lines, which the hooks of the repository would strip."""
    return "\n".join(line.rstrip() for line in printed.splitlines()).strip("\n") + "\n"


def _line(command: Sequence[str]) -> str:
    return " ".join(command).replace(f"{ROOT}{os.sep}", "")


def differences(program: Program, outcome: Outcome) -> list[str]:
    """Where a new result is not like the kept one."""
    found = []
    kept, new = (program.kept / "printed.txt").read_text("utf-8").splitlines(), outcome.printed.splitlines()
    for before, after in zip(kept, new):
        if NUMBER.sub("#", before) != NUMBER.sub("#", after) or not all(map(_near, NUMBER.findall(before), NUMBER.findall(after))):
            found.append(f"kept:   {before}\n  printed: {after}")
    if len(kept) != len(new):
        found.append(f"{len(kept)} lines are kept, {len(new)} were printed")
    pictures = [{path.name for path in paths} for paths in (program.kept.glob("*.png"), outcome.pictures())]
    if pictures[0] != pictures[1]:
        found.append(f"pictures are kept of {sorted(pictures[0])}, and were made of {sorted(pictures[1])}")
    return found


def _near(a: str, b: str) -> bool:
    return abs(float(a) - float(b)) <= max(ABSOLUTE, RELATIVE * max(abs(float(a)), abs(float(b))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="pages, as vae; all, if none is named")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--keep", action="store_true", help="keep the results")
    what.add_argument("--smoke", action="store_true", help="run for one epoch; without names, those older than their packages")
    parser.add_argument("--at-once", type=int, default=2, help="how many run at the same time")
    args = parser.parse_args()
    known = kept_results.programs()
    if unknown := sorted(set(args.names) - set(known)):
        parser.error(f"no page that runs a program is called {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[name] for name in args.names or known]
    if args.smoke and not args.names:
        chosen = [program for program in chosen if kept_results.is_older(program)]
    failures = smoke(chosen, args.at_once) if args.smoke else full(chosen, args.keep, at_once=args.at_once)
    if failures:
        sys.exit("\n\n".join(failures))


def smoke(chosen: Sequence[Program], at_once: int = 2) -> list[str]:
    """Runs programs for one epoch or step; the failures of all of them."""
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        for outcome in run(chosen, Path(folder), SMOKE, smoke=True, at_once=at_once):
            print(f"{outcome.program.name}: {outcome.cpu_seconds or 0:.1f} CPU seconds", flush=True)
            if outcome.failure:
                failures.append(f"{outcome.program.name}: {outcome.failure}")
    return failures


def full(chosen: Sequence[Program], keep: bool, folder: Path = ROOT / "out" / "gallery", limit: int = FULL, at_once: int = 2) -> list[str]:
    """Runs programs from nothing and keeps or compares their results; the failures and differences of all of them."""
    failures, origins = [], {program.name: {"commit": program.commit(), **program.origin()} for program in chosen}
    for outcome in run(chosen, folder, limit, at_once=at_once):
        program = outcome.program
        print(f"{program.name}: {outcome.cpu_seconds or 0:.0f} CPU seconds", flush=True)
        if outcome.failure:
            failures.append(f"{program.name}: {outcome.failure}")
        elif keep:
            kept_results.keep(program, origins[program.name], outcome.printed, outcome.pictures(), outcome.cpu_seconds)
        elif kept_results.is_stale(program):
            failures.append(kept_results.stale_message([program.name]))
        elif found := differences(program, outcome):
            failures.append("\n  ".join([f"{program.name}: the result differs from the kept one", *found]))
    return failures


if __name__ == "__main__":
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    # Installed without bytecode, the packages would be compiled anew in every process.
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / ".nox" / "bytecode"))
    os.environ["PYTHONDONTWRITEBYTECODE"] = ""
    sys.pycache_prefix, sys.dont_write_bytecode = os.environ["PYTHONPYCACHEPREFIX"], False
    main()
