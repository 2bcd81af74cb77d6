"""What holds for the packages together: one version, one namespace, one public API each."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from declared import OnlyDeclared, closure

import pixyz

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest brings it
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
FOLDERS = {path.parent.name: path.parent for path in sorted(ROOT.glob("packages/*/pyproject.toml"))}
PROJECTS = {name: tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"] for name, folder in FOLDERS.items()}
MODULES = sorted(module.name for module in pkgutil.iter_modules(pixyz.__path__, "pixyz."))
(VERSION,) = {project["version"] for project in PROJECTS.values()}


def requirements(project):
    return [*project.get("dependencies", []), *(r for extra in project.get("optional-dependencies", {}).values() for r in extra)]


def test_every_module_has_its_package():
    assert sorted("pixyz." + name.removeprefix("pixyz-").replace("-", "_") for name in FOLDERS if name != "pixyz-all") == MODULES


def test_no_package_owns_the_namespace():
    assert not list(ROOT.glob("packages/*/src/pixyz/__init__.py"))
    assert getattr(pixyz, "__file__", None) is None
    assert "pixyz" not in {project["name"] for project in PROJECTS.values()}


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_is_what_all_says(name):
    module = importlib.import_module(name)
    submodules = {m.name for m in pkgutil.iter_modules(module.__path__)}
    public = {n for n in vars(module) if not n.startswith("_") and n not in submodules}
    assert sorted(public) == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("name", FOLDERS)
def test_siblings_are_pinned_to_the_one_version(name):
    siblings = [r for r in requirements(PROJECTS[name]) if r.startswith("pixyz")]
    assert [r for r in siblings if not r.endswith(f"=={VERSION}")] == []


def test_the_version_is_told_the_same_everywhere():
    assert re.search(r'^version: "(.*)"$', (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)[1] == VERSION
    assert f"## {VERSION}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_all_depends_on_all():
    names = {r.split("==")[0] for r in PROJECTS["pixyz-all"]["dependencies"]}
    assert names == set(PROJECTS) - {"pixyz-all"}


@pytest.mark.parametrize("name", FOLDERS)
def test_every_package_is_whole(name):
    folder, project = FOLDERS[name], PROJECTS[name]
    assert project["name"] == name
    assert "test" in project["optional-dependencies"]
    readme = (folder / "README.md").read_text("utf-8")
    assert f"pip install --find-links dist {name}" in readme
    assert len(readme.splitlines()) <= 60
    part = name.removeprefix("pixyz-")
    assert list((ROOT / "tests" / part).glob("test_*.py"))
    assert part == "all" or (folder / "src" / "pixyz" / part.replace("-", "_") / "py.typed").exists()


@pytest.mark.parametrize("name", MODULES)
def test_the_api_page_shows_what_is_public(name):
    page = ROOT / "docs" / "api" / (name.removeprefix("pixyz.").replace("_", "-") + ".md")
    shown = re.findall(rf"^::: {name}\.(\w+)$", page.read_text("utf-8"), re.MULTILINE)
    module = importlib.import_module(name)
    home = {n: getattr(getattr(module, n), "__module__", None) or name for n in module.__all__}
    from_siblings = {n for n, where in home.items() if where.startswith("pixyz.") and not where.startswith(name)}
    modules = {m.name for m in pkgutil.iter_modules(module.__path__) if not m.name.startswith("_")}
    assert sorted(shown) == sorted(set(module.__all__) - from_siblings | modules)


def test_tests_of_a_package_find_only_what_it_declares():
    finder = OnlyDeclared(closure("pixyz-gan[test]"))
    found = {name: finder.find_spec(name, pixyz.__path__) is not None for name in MODULES}
    assert found == {name: name in {"pixyz.core", "pixyz.distributions", "pixyz.gan", "pixyz.losses", "pixyz.models"} for name in MODULES}
    assert finder.find_spec("scipy") is not None
    assert finder.find_spec("mkdocs") is None
    names = {d.name for d in finder.find_distributions()}
    assert {"pixyz-gan", "scipy"} <= names
    assert not {"pixyz-flows", "mkdocs"} & names


TESTS = sorted((ROOT / "tests").rglob("*.py"))
PRIVATE = re.compile(r"pixyz(\.[a-z]\w*)*\._[a-z]|from pixyz[\w.]* import .*\b_[a-z]")


def private_imports(path):
    return [line.strip() for line in path.read_text("utf-8").splitlines() if PRIVATE.search(line)]


def test_tests_know_no_private_module():
    known = {"tests/all/test_repository.py", "tests/models/test_step.py"}  # a CPU acts as an accelerator only by a private name
    assert {str(path.relative_to(ROOT)) for path in TESTS if private_imports(path)} == known
    assert PRIVATE.search("from pixyz.core._joint import x")
    assert PRIVATE.search("from pixyz.core import Loss, _joint")


def test_test_files_are_short():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in TESTS}
    assert {path: length for path, length in lengths.items() if length >= 500} == {}
