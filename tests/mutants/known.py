"""Mutants of which the outcome is known: what decides mutants must decide these so."""

from pathlib import Path

from .deciding import KILLED, SURVIVED, Decider

_DISTRIBUTIONS = "packages/pixyz-distributions/src/pixyz/distributions/"
_CORE = "packages/pixyz-core/src/pixyz/core/"

_FIRST = "if total is None:"

KNOWN = (
    (
        "a wrong constant",
        KILLED,
        _DISTRIBUTIONS + "_from_normal.py",
        "- scale.log() - _HALF_LOG_HALF_PI",
        "- scale.log() + _HALF_LOG_HALF_PI",
    ),
    ("a file that is not imported", KILLED, _DISTRIBUTIONS + "_from_normal.py", "import torch\n", "import torch_is_gone\n"),
    ("a loop without an end", KILLED, _CORE + "_density.py", _FIRST, "if total is None and max(iter(int, 1)):"),
    ("the end of the process", KILLED, _CORE + "_density.py", _FIRST, "if __import__('os')._exit(0) is None:"),
    (
        "a comment",
        SURVIVED,
        _DISTRIBUTIONS + "_from_normal.py",
        "- scale.log() - _HALF_LOG_HALF_PI",
        "- scale.log() - _HALF_LOG_HALF_PI  # said",
    ),
)
"""What it is, what becomes of it, the file, a text of it and the text in its place."""


def check(decider: Decider, tree: Path) -> list[str]:
    """The known mutants that are decided otherwise."""
    wrong = []
    for what, outcome, path, old, new in KNOWN:
        source = (tree / path).read_text("utf-8")
        if old not in source:
            wrong.append(f"{what}: its text is not in {path}")
            continue
        line = source[: source.index(old)].count("\n") + 1
        decision = decider.decide(path, source.replace(old, new, 1), line, line)
        print(f"known: {what}: {decision.outcome} by {decision.by or 'none'}, {decision.seconds} s", flush=True)
        if decision.outcome != outcome:
            wrong.append(f"{what} is {decision.outcome}, not {outcome}")
    return wrong
