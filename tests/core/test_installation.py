"""An old `pixyz` beside these packages is found and named, with the commands that mend it."""

import runpy
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import pixyz.core

SOURCE = Path(pixyz.core.__file__).parent
BY_PATH = SOURCE / "_installation.py"  # as the page on installation says it, for where the old package hides ours


def status_of_the_command():
    """That of `python -m pixyz.core`."""
    with pytest.raises(SystemExit) as end:
        runpy.run_module("pixyz.core", run_name="__main__")
    return end.value.code


def run(program: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Python with `path` before everything else."""
    command = [sys.executable, "-c", f"import runpy, sys; sys.path.insert(0, {str(path)!r}); {program}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def old(tmp_path):
    """A folder with a regular package `pixyz`, as the old one is."""
    folder = tmp_path / "pixyz"
    folder.mkdir()
    (folder / "__init__.py").write_text('name = "pixyz"\n__version__ = "0.3.3"\n')
    return tmp_path


def test_our_files_in_the_old_package_refuse_to_import(old):
    shutil.copytree(SOURCE, old / "pixyz" / "core")
    result = run("import pixyz.core", path=old)
    assert result.returncode == 1
    assert "ImportError: An old pixyz stands at" in result.stderr
    assert str(old / "pixyz" / "__init__.py") in result.stderr
    assert "  python -m pip uninstall --yes pixyz\n  python -m pip install --force-reinstall --no-deps pixyz-" in result.stderr


def test_an_old_package_that_hides_ours_is_found_by_path(old):
    assert "No module named 'pixyz.core'" in run("import pixyz.core", path=old).stderr
    result = run(f"runpy.run_path({str(BY_PATH)!r}, run_name='__main__')", path=old)
    assert result.returncode == 1
    assert result.stdout.startswith("An old pixyz stands at")


def test_files_that_an_uninstall_took_along_are_named(tmp_path, monkeypatch, capsys):
    record = tmp_path / "pixyz_losses-9.9.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: pixyz-losses\nVersion: 9.9\n")
    (record / "RECORD").write_text("pixyz/losses/__init__.py,,\npixyz/losses/_bounds.py,,\n")
    (tmp_path / "pixyz" / "losses").mkdir(parents=True)
    (tmp_path / "pixyz" / "losses" / "_bounds.py").touch()
    monkeypatch.setattr(
        metadata,
        "distributions",
        lambda: metadata.MetadataPathFinder.find_distributions(metadata.DistributionFinder.Context(path=[str(tmp_path)])),
    )
    assert status_of_the_command() == 1
    problem, *remedy = capsys.readouterr().out.splitlines()
    assert problem == "pixyz-losses has lost pixyz/losses/__init__.py, as when an old pixyz is uninstalled after it."
    assert remedy[-1].endswith("--no-deps pixyz-losses==9.9")


def test_the_command_says_so_where_all_is_well(capsys):
    assert status_of_the_command() == 0
    assert capsys.readouterr().out.endswith("All is well.\n")
