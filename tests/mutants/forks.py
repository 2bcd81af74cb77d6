"""Tests in forked processes: torch and the other large packages are imported once, by the process that forks."""

import contextlib
import gc
import importlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

IMPORTED = (
    "numpy",
    "scipy.stats",
    "scipy.special",
    "scipy.integrate",
    "mpmath",
    "torch",
    "torch.distributions",
    "torch.optim.lr_scheduler",
    "torch.utils.data",
    "torch.distributed.checkpoint",
    "torch._dynamo",
    "lightning.pytorch",
    "hypothesis.strategies",
    "matplotlib.figure",
    "safetensors.torch",
    "pytest",
)

SECONDS_OF_FUNCTION = 1.5
"""CPU seconds under coverage, after which further arguments of one test function are left out."""

SECONDS_OF_FILE = 15.0
"""CPU seconds under coverage, after which further tests of one file are left out."""

SECONDS_OF_SIBLINGS = 8.0
"""CPU seconds for further arguments of the test functions that run a mutant."""

CRASHED, WRONG = 96, 97
"""Exit codes of a child: pytest itself has failed, as a mutant may have it; and an error of these modules, which none may be taken for."""

Send = Callable[[Any], None]


class _CrashError(Exception):
    """Pytest has failed."""


@dataclass
class Ended:
    """How a child process ended: what it sent, its CPU seconds, its exit code (that of a signal is negative) and its output."""

    sent: list[Any] = field(default_factory=list)
    seconds: float = 0.0
    code: int = 0
    output: str = ""


def import_once() -> None:
    """Imports what the tests import, apart from this library."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in IMPORTED:
        importlib.import_module(name)
    import hypothesis
    import torch

    torch.set_num_threads(1)
    # The same examples on each run: a mutant is compared with the library on equal terms.
    hypothesis.settings.register_profile(
        "mutants", derandomize=True, database=None, deadline=None, suppress_health_check=[*hypothesis.HealthCheck]
    )
    hypothesis.settings.load_profile("mutants")
    gc.collect()
    gc.freeze()


def in_child(tree: Path, seconds: float, function: Callable[..., None], *arguments: Any) -> Ended:
    """Calls `function(send, *arguments)` in a forked process, in the folder `tree` and with its packages, for so many CPU seconds."""
    read, write = os.pipe()
    with tempfile.TemporaryFile() as log:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = WRONG
            try:
                os.close(read)
                os.setsid()
                for stream in (1, 2):
                    os.dup2(log.fileno(), stream)
                sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
                spent = sum(os.times()[:2])
                resource.setrlimit(resource.RLIMIT_CPU, (int(spent + seconds) + 1, int(spent + seconds) + 2))
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                _enter(tree)
                with os.fdopen(write, "w", buffering=1) as pipe:
                    function(lambda message: print(json.dumps(message), file=pipe), *arguments)
                code = 0
            except _CrashError:
                code = CRASHED
            except BaseException:
                traceback.print_exc()
                code = WRONG
            finally:
                with contextlib.suppress(Exception):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(code)
        os.close(write)
        try:
            with os.fdopen(read) as pipe:
                sent = [json.loads(line) for line in pipe if line.endswith("\n")]
        except BaseException:
            os.killpg(child, signal.SIGKILL)
            raise
        _, status, usage = os.wait4(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what the tests started and did not end
        log.seek(0)
        output = log.read().decode(errors="replace")
    code = os.waitstatus_to_exitcode(status)
    if code == WRONG:
        raise RuntimeError(f"the child process failed:\n{output[-3000:]}")
    return Ended(sent, usage.ru_utime + usage.ru_stime, code, output)


def _enter(tree: Path) -> None:
    os.chdir(tree)
    sys.modules["__main__"] = types.ModuleType("__main__")  # the child processes of tests would import this session as their own
    sources = [str(path) for path in sorted(tree.glob("packages/*/src"))]
    ours = Path(__file__).parent.parent
    sys.path[:] = [*sources, *(path for path in sys.path if path and Path(path) != ours)]
    os.environ["PYTHONPATH"] = os.pathsep.join([*sources, *(path for path in sys.path if path.endswith("site-packages"))])


class Watch:
    """A plugin of pytest that runs the wanted tests in their order, and sends the outcome of each with its CPU seconds.

    With `siblings` it runs the other tests of their functions, with other arguments, for a while.
    """

    def __init__(
        self,
        send: Send,
        wanted: Iterable[str] | None = None,
        seconds: float | None = None,
        before: Callable[[str], None] | None = None,
        siblings: bool = False,
    ) -> None:
        self.send, self.seconds, self.before = send, seconds, before
        self.spent: dict[str, float] = {}
        self.order = None if wanted is None else {test: k for k, test in enumerate(wanted)}
        self.siblings = {test.split("[")[0] for test in self.order or ()} if siblings else None
        self.limit = SECONDS_OF_SIBLINGS if siblings else None
        self.begun = time.process_time()
        self.failed = False

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self.order is not None and self.siblings is not None:
            items[:] = [item for item in items if _function(item.nodeid) in self.siblings and item.nodeid not in self.order]
            random.Random(len(items)).shuffle(items)
        elif self.order is not None:
            items[:] = sorted((item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid])
        else:  # of a function that is tested with many arguments, some are run: not the first ones, which are alike
            random.Random(len(items)).shuffle(items)

    def pytest_runtest_protocol(self, item: Any) -> bool | None:
        """Leaves out what would be too much of one function, or of one file, or of the siblings of what has run."""
        if self.limit is not None and time.process_time() - self.begun > self.limit:
            return True
        if self.order is None and (
            self.spent.get(_function(item.nodeid), 0.0) > SECONDS_OF_FUNCTION or sum(self.spent.values()) > SECONDS_OF_FILE
        ):
            return True
        return None

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.failed = True
            self.send(
                {"test": report.nodeid, "outcome": "failed", "seconds": 0.0, "why": "it is not imported: " + str(report.longrepr)[-1500:]}
            )

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.outcome, self.why, self.started = "passed", "", time.process_time()
        if self.before is not None:
            self.before(nodeid)
        if self.seconds is not None:
            signal.setitimer(signal.ITIMER_PROF, self.seconds, 1.0)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.outcome != "passed" and self.outcome != "failed":
            self.outcome, self.why = report.outcome, str(report.longrepr)[-1500:]
            if hasattr(report, "wasxfail"):
                self.outcome = "skipped"

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if self.seconds is not None:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
        self.failed |= self.outcome == "failed"
        seconds = time.process_time() - self.started
        self.spent[_function(nodeid)] = self.spent.get(_function(nodeid), 0.0) + seconds
        message = {"test": nodeid, "outcome": self.outcome, "seconds": round(seconds, 4)}
        self.send(message | ({"why": self.why} if self.outcome == "failed" else {}))


def _function(nodeid: str) -> str:
    return nodeid.split("[")[0]


def too_long(signum: int, frame: FrameType | None) -> None:
    raise TimeoutError("the test takes too long")


def run_pytest(watch: Watch, files: Iterable[str], *options: str) -> None:
    """Runs pytest in this process, which is a child."""
    import pytest

    signal.signal(signal.SIGPROF, too_long)
    plugins = ["-p", "no:cacheprovider", "-p", "no:faulthandler", "-p", "no:junitxml", "-p", "no:doctest", "-p", "no:unraisableexception"]
    quiet = ["-q", "--no-header", "--no-summary", "--tb=short", "-o", "console_output_style=classic"]
    code = pytest.main([*plugins, *quiet, *options, *files], plugins=[watch])
    if code in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise _CrashError


def leave_out_children() -> None:
    """Skips a test where it compiles or starts another process: what runs there is not measured, and takes long."""
    import multiprocessing.process
    import subprocess

    import pytest
    import torch

    def leave(*arguments: Any, **options: Any) -> None:
        pytest.skip("left out: it compiles or starts a process")

    torch.compile = torch.export.export = leave
    torch.nn.Module.compile = leave
    subprocess.Popen.__init__ = leave  # type: ignore[method-assign]
    multiprocessing.process.BaseProcess.start = leave  # type: ignore[method-assign]
