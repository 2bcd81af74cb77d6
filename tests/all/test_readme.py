"""The programs of the READMEs run, and print what they say they print."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md"))]


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_program_prints_what_is_shown(path, capsys):
    scope: dict[str, object] = {}
    blocks = re.findall(r"```(python|text)\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, str(path), "exec"), scope)
        else:
            assert capsys.readouterr().out == block
    assert capsys.readouterr().out == ""
    assert {kind for kind, _ in blocks} == {"python", "text"} or path.parent.name == "pixyz-all"
