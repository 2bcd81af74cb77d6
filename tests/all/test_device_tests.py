"""Each package and each area has laws that run on a device, some of them where only torch, numpy and pytest are installed."""

import ast
import functools
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
AREAS = {
    "families": ["distributions"],
    "losses": ["losses/test_laws_of_losses.py"],
    "estimators": ["losses/test_estimators.py"],
    "games": ["gan"],
    "flows": ["flows"],
    "elimination": ["core/test_chains.py", "core/test_gaussian_marginals.py", "core/test_random_graphs.py"],
    "checkpoints": ["models/test_checkpoints.py"],
    "models": ["models/test_models.py", "models/test_on_a_device.py"],
    "all packages": ["all"],
    "cuda-utils": ["cuda-utils"],
    "core": ["core"],
}
LEAST = {"families": 8, "losses": 2, "estimators": 9, "games": 3, "flows": 2, "elimination": 10, "checkpoints": 4, "models": 5}
"""How many test functions take `device` in each area; at least one in the others. Half of them at least are marked."""
FIXTURES = {"device", "cuda"}


def is_mark(node):
    return ast.unparse(node) == "pytest.mark.gpu"


@functools.cache
def functions_of(path):
    """Each test function of a file: whether it takes a device, and whether it is marked."""
    found = []
    tree = ast.parse(path.read_text("utf-8"))
    whole = any(
        isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark" and any(is_mark(n) for n in ast.walk(node.value))
        for node in tree.body
    )
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            values = {
                ast.unparse(d.args[0]) for d in node.decorator_list if isinstance(d, ast.Call) and "parametrize" in ast.unparse(d.func)
            }
            given = any("device" in v for v in values)  # a parameter of the test, and not the fixture
            takes = not given and bool(FIXTURES & {a.arg for a in node.args.args})
            found.append((node.name, takes, whole or any(is_mark(d) for d in node.decorator_list)))
    return found


def files_of(places):
    return [path for place in places for path in (sorted((TESTS / place).rglob("test_*.py")) if "." not in place else [TESTS / place])]


@pytest.mark.parametrize("area", AREAS)
def test_an_area_has_tests_on_a_device(area):
    found = [test for path in files_of(AREAS[area]) for test in functions_of(path)]
    on_a_device = [marked for _, takes, marked in found if takes]
    assert len(on_a_device) >= LEAST.get(area, 1)
    assert 2 * sum(on_a_device) >= len(on_a_device)


def test_every_package_has_tests_on_a_device():
    for folder in sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml")):
        tests = [test for path in files_of([folder.name.removeprefix("pixyz-")]) for test in functions_of(path)]
        assert any(takes and marked for _, takes, marked in tests), folder.name


def test_what_is_marked_takes_a_device():
    """Else it would run on the CPU of a machine that has a GPU."""
    everywhere = [(path.relative_to(TESTS).as_posix(), *test) for path in files_of([""]) for test in functions_of(path)]
    assert [f"{path}::{name}" for path, name, takes, marked in everywhere if marked and not takes] == []


ALLOWED = {"torch", "numpy", "pytest", "pixyz"}
MAY_LACK = {"scipy", "hypothesis", "safetensors"}
"""What is imported where it is there: in a `try`, or by `importorskip`."""


def imported(path, seen):
    """The top modules that a file of tests imports on loading, with the files of tests that it imports."""
    if path in seen:
        return set()
    seen.add(path)
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] if not node.level else [f"{path.parent.name}.{node.module}" if node.module else path.parent.name]
        else:
            continue
        for name in names:
            own = TESTS / (name.replace(".", "/") + ".py")
            package = TESTS / name.replace(".", "/")
            if own.exists():
                found |= imported(own, seen)
            elif package.is_dir():
                found |= {top for file in sorted(package.glob("*.py")) for top in imported(file, seen)}
            else:
                found.add(name.split(".")[0])
    return found


def test_a_file_with_marked_tests_imports_only_what_is_there():
    files = [path for path in files_of([""]) if "mark.gpu" in path.read_text("utf-8") and any(marked for *_, marked in functions_of(path))]
    assert len(files) >= 12
    beside = {path.relative_to(TESTS).as_posix(): imported(path, set()) - ALLOWED - {*sys.stdlib_module_names} for path in files}
    assert {path: names for path, names in beside.items() if names} == {}
