"""The examples in the docstrings run, and print what they say."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import pixyz

MODULES = sorted(m.name for m in pkgutil.walk_packages(pixyz.__path__, "pixyz.") if not m.ispkg)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    torch.manual_seed(0)
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    count = sum(len(t.examples) for name in MODULES for t in finder.find(importlib.import_module(name)))
    assert count > 20
