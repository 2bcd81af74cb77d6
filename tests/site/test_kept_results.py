"""Results that pages show: none is stale, and a change of what they follow from is noticed. Programs here take milliseconds."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import build_hook
import kept_results
import pytest
import run_programs
from mkdocs.exceptions import PluginError
from PIL import Image

DOCS = Path(kept_results.__file__).parent
PROGRAMS = kept_results.programs()


def test_no_kept_result_is_stale():
    stale = [program for program in PROGRAMS.values() if kept_results.is_stale(program)]
    assert not stale, kept_results.stale_message(program.name for program in stale)


def test_every_kept_result_has_a_page_that_shows_it():
    kept = sorted(path.name for path in (DOCS / "kept").iterdir())
    assert kept == sorted(PROGRAMS)
    for name, program in PROGRAMS.items():
        assert f"kept/{name}/" in program.page.read_text("utf-8")


def test_kept_results_are_small():
    sizes = {path: path.stat().st_size for path in (DOCS / "kept").rglob("*.*")}
    assert max(sizes.values()) < 200_000
    assert sum(sizes.values()) < 4_000_000


def test_a_smoke_test_of_every_program_is_short():
    """A command line says how long it trains, unless it has nothing to train."""
    whole = [name for name, program in PROGRAMS.items() for command in program.commands() if run_programs.shortened(command) == command]
    assert whole == ["families"]


FILES = {
    "constraints.txt": "torch==2.0\n",
    "docs/gallery/circle.md": "---\nruns: docs/gallery/circle.py --epochs 30\n---\n",
    "docs/gallery/circle.py": '"""A circle."""\n\nfrom shared import area\n\nprint("area", area(2))  # of radius 2\n',
    "docs/gallery/shared.py": "from pixyz.models import square\n\n\ndef area(radius):\n    return 3.14 * square(radius)\n",
    "docs/gallery/other.py": "print('nobody imports this')\n",
    "packages/pixyz-core/src/pixyz/core/__init__.py": "def square(x):\n    return x * x\n",
    "packages/pixyz-models/src/pixyz/models/__init__.py": "from pixyz.core import square\n",
    "packages/pixyz-gan/src/pixyz/gan/__init__.py": "",
}


def written(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return kept_results.programs(root / "docs")


@pytest.fixture
def root(tmp_path):
    """A repository with one program, whose result is kept."""
    (circle,) = written(tmp_path, FILES).values()
    kept_results.keep(circle, {"commit": "1a2b3c4", **circle.origin()}, "area 12.56\n", [], 0.1)
    return tmp_path


def verdict(root):
    (circle,) = kept_results.programs(root / "docs").values()
    return {"stale": kept_results.is_stale(circle), "older": kept_results.is_older(circle)}


def change(root, name, before, after):
    text = (root / name).read_text("utf-8")
    assert before in text
    (root / name).write_text(text.replace(before, after), "utf-8")


def test_a_result_that_was_never_kept_is_missing_and_not_stale(tmp_path):
    (circle,) = written(tmp_path, FILES).values()
    assert kept_results.is_missing(circle)
    assert not kept_results.is_stale(circle)


def test_a_result_fits_what_it_was_computed_from(root):
    assert verdict(root) == {"stale": False, "older": False}


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("docs/gallery/circle.py", "area(2)", "area(3)"),
        ("docs/gallery/shared.py", "3.14", "3.1416"),
        ("docs/gallery/circle.md", "--epochs 30", "--epochs 40"),
    ],
    ids=["program", "module that it imports", "command line"],
)
def test_a_result_is_stale_after_a_change_of(name, before, after, root):
    change(root, name, before, after)
    assert verdict(root) == {"stale": True, "older": False}
    (circle,) = kept_results.programs(root / "docs").values()
    message = kept_results.stale_message([circle.name])
    assert message.endswith("Renew them: nox -s gallery -- --keep circle")


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("packages/pixyz-models/src/pixyz/models/__init__.py", "square\n", "square as square\n"),
        ("packages/pixyz-core/src/pixyz/core/__init__.py", "x * x", "x**2"),
        ("constraints.txt", "2.0", "2.1"),
    ],
    ids=["package", "package that its package imports", "lock of dependencies"],
)
def test_a_result_is_older_after_a_change_of(name, before, after, root):
    change(root, name, before, after)
    assert verdict(root) == {"stale": False, "older": True}


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("docs/gallery/circle.py", "A circle.", "A disc,\nand its area."),
        ("docs/gallery/circle.py", "  # of radius 2", ""),
        ("docs/gallery/other.py", "nobody", "no module"),
        ("packages/pixyz-gan/src/pixyz/gan/__init__.py", "", "unused = 1\n"),
    ],
    ids=["docstring", "comment", "module beside it", "package that it does not import"],
)
def test_a_result_still_fits_after_a_change_of(name, before, after, root):
    change(root, name, before, after)
    assert verdict(root) == {"stale": False, "older": False}


def test_the_code_of_a_file_has_no_comments_docstrings_and_blank_lines(tmp_path):
    source = '"""First."""\n\nx = """kept # text"""  # cut\n\n\ndef f():\n    """Two\n    lines."""\n    return "kept"\n'
    assert kept_results.code(write(tmp_path / "a.py", source)) == 'x = """kept # text"""\ndef f():\n    return "kept"'


def write(path, text):
    path.write_text(text, "utf-8")
    return path


@pytest.fixture
def served(monkeypatch):
    """`mkdocs serve`, which runs no smoke tests."""
    monkeypatch.setattr(build_hook.Build, "is_served", True)
    monkeypatch.setattr(build_hook.Build, "older", {})


def shown(root):
    """The page of the program, as it is rendered."""
    page = root / "docs" / "gallery" / "circle.md"
    build_hook.on_pre_build(SimpleNamespace(docs_dir=str(root / "docs")))
    text = "Before.\n\n```text\nkept/circle/printed.txt\n```\n\nAfter.\n"
    return build_hook.on_page_markdown(text, SimpleNamespace(file=SimpleNamespace(abs_src_path=str(page))), None, None)


def test_a_page_names_the_commit_of_an_older_result_and_the_packages_that_changed(root, served):
    assert "*" not in shown(root)
    change(root, "packages/pixyz-core/src/pixyz/core/__init__.py", "x * x", "x**2")
    note = "*This result is of commit 1a2b3c4; since then these have changed: pixyz.core.*"
    assert f"```\n\n{note}\n\nAfter." in shown(root)


def test_a_build_fails_with_all_stale_results_in_one_message(root):
    files = {"docs/other.md": "---\nruns: docs/gallery/other.py\n---\n"}
    other = written(root, files)["other"]
    kept_results.keep(other, other.origin(), "", [], 0)
    change(root, "docs/gallery/other.py", "nobody", "somebody")
    change(root, "docs/gallery/shared.py", "3.14", "3.1416")
    with pytest.raises(PluginError, match=r"circle, other\. Renew them: nox -s gallery -- --keep circle other$"):
        build_hook.on_pre_build(SimpleNamespace(docs_dir=str(root / "docs")))


def test_two_programs_of_one_name_are_rejected(root):
    (root / "docs" / "circle.md").write_text("---\nruns: docs/gallery/other.py\n---\n", "utf-8")
    with pytest.raises(ValueError, match="Two pages with programs are called circle"):
        kept_results.programs(root / "docs")


def test_a_kept_picture_is_smaller_and_shows_the_same(tmp_path):
    picture = Image.linear_gradient("L").resize((2000, 500)).convert("RGB")
    picture.save(tmp_path / "large.png")
    kept_results.reduce(tmp_path / "large.png", tmp_path / "small.png")
    with Image.open(tmp_path / "small.png") as small:
        assert small.size == (kept_results.WIDTH, kept_results.WIDTH // 4)
        assert abs(small.convert("RGB").getpixel((500, 125))[0] - picture.getpixel((1000, 250))[0]) <= 4


ENDINGS = {
    "a_first": "print('number', 0.5)",
    "b_seeing": "from pathlib import Path\nprint((Path(__file__).parent / 'kept/a_first/printed.txt').exists())",
    "c_failing": "raise KeyError('no such thing')",
    "d_stopping": "import sys\nsys.exit('gives up')",
    "e_spinning": "while True:\n    pass",
    "f_last": "import sys\nprint(*sys.argv[1:])",
}

RUN = """
import os, sys, pathlib, kept_results, run_programs
root = pathlib.Path(sys.argv[1])
programs = list(kept_results.programs(root / "docs").values())
for failure in run_programs.full(programs, True, root / "out", limit=1, at_once=1):
    print("FAILURE", failure)
(smoke,) = run_programs.run(programs[-1:], root / "out", smoke=True)
print("SMOKE", smoke.printed)
del os.fork
for started in run_programs.run(programs[:3], root / "out"):
    print("STARTED", started.printed, started.failure)
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Six programs that ran, three of which fail: the repository, and what was printed."""
    root = tmp_path_factory.mktemp("repository")
    sources = {f"docs/{name}.py": text + "\n" for name, text in ENDINGS.items()}
    pages = {f"docs/{name}.md": f"---\nruns: docs/{name}.py --epochs 30 --seeds 5\n---\n" for name in ENDINGS}
    written(root, {"constraints.txt": "", **sources, **pages})
    done = subprocess.run([sys.executable, "-c", RUN, root], capture_output=True, text=True, cwd=DOCS, check=True)
    return root, done.stdout


def test_results_are_kept_as_each_program_ends_whatever_fails_later(ran):
    kept = ran[0] / "docs" / "kept"
    assert sorted(path.name for path in kept.iterdir()) == ["a_first", "b_seeing", "f_last"]
    assert (kept / "b_seeing" / "printed.txt").read_text("utf-8") == "True\n"
    assert json.loads((kept / "a_first" / "result.json").read_text("utf-8"))["cpu_seconds"] == 0


def test_failures_are_reported_together(ran):
    failures = ran[1].split("SMOKE")[0].split("FAILURE ")[1:]
    assert [failure.split(":")[0] for failure in failures] == ["c_failing", "d_stopping", "e_spinning"]
    assert "KeyError: 'no such thing'" in failures[0]
    assert "gives up" in failures[1]


@pytest.mark.skipif(run_programs.resource is None, reason="this system has no limit of CPU time")
def test_a_program_beyond_its_cpu_seconds_is_reported(ran):
    assert "used more than 1 CPU seconds" in ran[1].split("FAILURE ")[3]


def test_a_smoke_test_has_one_epoch(ran):
    assert (ran[0] / "docs" / "kept" / "f_last" / "printed.txt").read_text("utf-8") == "--epochs 30 --seeds 5\n"
    assert ran[1].split("SMOKE ")[1].splitlines()[0] == "--epochs 1 --seeds 1"


def test_programs_run_where_there_is_no_fork(ran):
    started = ran[1].split("STARTED ")[1:]
    assert len(started) == 3
    assert "number 0.5" in "".join(started)
    assert ["KeyError: 'no such thing'" in text for text in started].count(True) == 1


@pytest.mark.parametrize(
    ("printed", "has_picture", "count"),
    [
        ("loss 1.62 nats\n", True, 0),
        ("loss 1.9 nats\n", True, 1),
        ("gain 1.6 nats\n", True, 1),
        ("loss 1.6 nats\nmore\n", True, 1),
        ("loss 1.6 nats\n", False, 1),
    ],
    ids=["near", "far", "another word", "another line", "no picture"],
)
def test_a_new_result_is_compared_with_the_kept_one(printed, has_picture, count, root, tmp_path):
    (circle,) = kept_results.programs(root / "docs").values()
    made = tmp_path / "made"
    made.mkdir()
    Image.new("RGB", (4, 4)).save(made / "a.png")
    kept_results.keep(circle, circle.origin(), "loss 1.6 nats\n", [made / "a.png"], 1)
    if not has_picture:
        (made / "a.png").unlink()
    assert len(run_programs.differences(circle, run_programs.Outcome(circle, made, printed))) == count
