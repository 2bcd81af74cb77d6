"""Options and fixtures of all tests."""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

STARTED = pytest.StashKey[float]()
UNMARKED = pytest.StashKey[list[Path]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="cpu, cuda or elsewhere: where tests that take the fixture `device` run")
    parser.addoption("--part", metavar="PART", help="a package, such as losses: import only what pixyz-PART[test] declares")
    parser.addoption(
        "--bare", action="store_true", help="import only torch, numpy and pytest, as on a machine that has a GPU and nothing else"
    )
    parser.addoption("--kills", default=1, type=int, help="how often each training is killed")
    parser.addoption("--changes", default=450, type=int, help="how often a checkpoint is changed")
    parser.addoption(
        "--steps", default=0, type=int, help="the steps of fit in which each training may hold no more memory; 0 for a few of train"
    )
    parser.addoption("--cpu-seconds", default=0, type=int, metavar="N", help="list the N tests and files that take most CPU time")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    if config.getoption("--bare"):
        for plugin in {plugin for plugin, _ in config.pluginmanager.list_plugin_distinfo()}:
            config.pluginmanager.unregister(plugin)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[UNMARKED] = []
    if config.getoption("--device") == "elsewhere":
        import elsewhere

        elsewhere.register()
    part, bare = config.getoption("--part"), config.getoption("--bare")
    if part and bare:
        raise pytest.UsageError("--part says what may be imported, and so does --bare: give one of them.")
    if part:
        from declared import hide_all_but  # it imports packaging, which a machine with a GPU may lack

        hide_all_but(f"pixyz-{part}[test]")
    elif bare:
        from declared import hide_all_but_the_sources

        hide_all_but_the_sources()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m gpu`, a file in which nothing is marked so is not imported: what it imports may be missing."""
    if config.option.markexpr != "gpu" or collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    if "mark.gpu" in collection_path.read_text("utf-8"):
        return None
    config.stash[UNMARKED].append(collection_path)
    return True


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    count = len(config.stash[UNMARKED])
    return f"{count} files in which nothing is marked gpu were not imported" if count else None


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
    """Where the test's models and values are, by the option `--device`. What is held against truth is brought to the CPU."""
    name = request.config.getoption("--device")
    if torch.device(name).type == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    return torch.device(name)


@pytest.fixture
def cuda(request: pytest.FixtureRequest) -> torch.device:
    """A CUDA device, for a test that no other device can run."""
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    name = torch.device(request.config.getoption("--device"))
    if name.type != "cuda":
        pytest.skip("it runs on CUDA: give --device cuda")
    return name


@pytest.fixture(autouse=True)
def _reproducible():
    """Every test draws from the same seed, and leaves the default dtype and the compiler as they were."""
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
