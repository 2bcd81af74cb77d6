"""The README's program runs, and prints what it says it prints."""

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_program_prints_what_is_shown(capsys):
    blocks = re.findall(r"```(python|text)\n(.*?)```", README, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "text", "python", "python", "text"]
    scope: dict[str, object] = {}
    shown = ""
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, "README.md", "exec"), scope)
            continue
        shown += block
        assert capsys.readouterr().out == block
    assert shown
