"""Options and fixtures of all tests."""

import os
import sys
from collections import Counter

import pytest
import torch
from declared import hide_all_but

STARTED = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="cpu or cuda: where tests that take the fixture `device` run")
    parser.addoption("--part", metavar="PART", help="a package, such as losses: import only what pixyz-PART[test] declares")
    parser.addoption(
        "--kills",
        default=3,
        type=int,
        help="how often a training is killed, and 150 times as often a checkpoint changed",
    )
    parser.addoption("--cpu-seconds", default=0, type=int, metavar="N", help="list the N tests and files that take most CPU time")


def pytest_configure(config: pytest.Config) -> None:
    if part := config.getoption("--part"):
        hide_all_but(f"pixyz-{part}[test]")


def _cpu_seconds() -> float:
    """CPU time of this process and of the child processes that have ended, which a busy machine does not lengthen."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    item.stash[STARTED] = _cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if call.when == "teardown":
        report.cpu_seconds = _cpu_seconds() - item.stash[STARTED]
    return report


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    count = config.getoption("--cpu-seconds")
    seconds = {r.nodeid: r.cpu_seconds for reports in terminalreporter.stats.values() for r in reports if hasattr(r, "cpu_seconds")}
    if not count or not seconds:
        return
    files = Counter()
    for test, spent in seconds.items():
        files[test.split("::")[0]] += spent
    terminalreporter.section(f"CPU seconds: {sum(seconds.values()):.0f} in all")
    for table in (files, Counter(seconds)):
        for name, spent in table.most_common(count):
            terminalreporter.line(f"{spent:8.1f}  {name}")
        terminalreporter.line("")


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    name = request.config.getoption("--device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    return torch.device(name)


@pytest.fixture(autouse=True)
def _reproducible():
    """Every test draws from the same seed, and leaves the default dtype and the compiler as they were."""
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
