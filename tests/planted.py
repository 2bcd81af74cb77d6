"""Faults in the library, for as long as a check runs, and the checks that find them.

To plant a fault, change something public: a function of a family (`Normal.log_density`), an estimator, a public method
(`Model.load`, `Coupling.push`), what a constructor is given, an operator of the algebra; never a private module, which may be written
anew. Then name the test that finds it, with the smallest of its parameters that does:

    lost_constant = changed(Normal, "log_density", lambda f: lambda params, x: f(params, x) + 1)
    FAULTS = {"a lost constant": (lost_constant, Check("distributions", "test_mass", "Normal"))}

    @pytest.mark.parametrize("name", FAULTS)
    def test_a_planted_fault_is_found(name, monkeypatch):
        need_found(monkeypatch, *FAULTS[name])
"""

import functools
import importlib
import inspect
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pixyz.core import Expectation, Loss

TESTS = Path(__file__).parent


def planted(monkeypatch, owner, name, make):
    """Replaces `owner.name` by `make(original)`, a static method where the original is one."""
    fault = make(getattr(owner, name))
    static = isinstance(owner, type) and isinstance(inspect.getattr_static(owner, name), staticmethod)
    monkeypatch.setattr(owner, name, staticmethod(fault) if static else fault)


def changed(owner, name, make):
    """The fault that `owner.name` is `make(original)`."""
    return lambda monkeypatch: planted(monkeypatch, owner, name, make)


def given(owner, change):
    """The fault that a class is made with other arguments: those that `change` returns, a tuple and a dict."""

    def make(f):
        def fault(self, *arguments, **options):
            arguments, options = change(*arguments, **options)
            f(self, *arguments, **options)

        return fault

    return changed(owner, "__init__", make)


def slowed(t, factor):
    """The same value, with its gradient times this factor."""
    return t.detach() + factor * (t - t.detach())


def with_gradients_times(factor, when=lambda loss: loss.num_samples > 1):
    """The fault that an expectation has its value, and its gradient times a factor of the number of draws."""

    def make(f):
        def fault(self, *arguments, **options):
            value = f(self, *arguments, **options)
            return slowed(value, factor(self.num_samples)) if isinstance(self, Expectation) and when(self) else value

        return fault

    return changed(Loss, "estimate", make)


class Check:
    """A test of a package, whichever of its files it stands in, with arguments for its parameters.

    Args:
        package: the folder of tests.
        name: of the function.
        arguments: what it is called with; a `FromModule` is made first.
        float64: whether its module sets float64.
        options: more arguments; `tmp_path`, `monkeypatch` and `device`, the CPU, are given where it takes them.
    """

    def __init__(self, package, name, *arguments, float64=False, **options):
        self.package, self.name, self.arguments, self.float64, self.options = package, name, arguments, float64, options

    @property
    def module(self):
        """Where the test stands, and what it uses by name."""
        return importlib.import_module(f"{self.package}.{_file_of(self.package, self.name)}")

    def __call__(self):
        test = getattr(self.module, self.name)
        torch.manual_seed(0)
        torch.set_default_dtype(torch.float64 if self.float64 else torch.float32)
        takes = inspect.signature(test).parameters
        options = {k: v(self.module) if isinstance(v, FromModule) else v for k, v in self.options.items()}
        arguments = [v(self.module) if isinstance(v, FromModule) else v for v in self.arguments]
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            fixtures = {"tmp_path": Path(folder), "monkeypatch": patch, "device": torch.device("cpu")}
            test(*arguments, **options, **{k: v for k, v in fixtures.items() if k in takes})
        torch.set_default_dtype(torch.float32)

    def __repr__(self):
        return f"{self.package}::{self.name}{self.arguments}{self.options}"

    @property
    def is_plain(self):
        """Whether another check of the same text is the same check."""
        return all(isinstance(v, (str, int, float, bool)) for v in (*self.arguments, *self.options.values()))


class FromModule:
    """An argument that is made of the test's module, when the check runs."""

    def __init__(self, make: Callable):
        self.make = make

    def __call__(self, module):
        return self.make(module)


@functools.cache
def _file_of(package, name):
    for path in sorted((TESTS / package).glob("test_*.py")):
        if re.search(rf"^def {name}\(", path.read_text(), re.MULTILINE):
            return path.stem
    raise LookupError(f"tests/{package} has no test {name}.")


PASSED = set()


def need_found(monkeypatch, plant, check, kinds=AssertionError):
    """A check passes, and fails when a fault is planted."""
    known = isinstance(check, Check) and check.is_plain
    if not known or repr(check) not in PASSED:
        check()
    if known:
        PASSED.add(repr(check))
    with monkeypatch.context() as patch:
        plant(patch)
        with pytest.raises(kinds):
            check()
