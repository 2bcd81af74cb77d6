"""Raise statements that no session `tests(PACKAGE, cpu)` can run.

An entry is the file, the function around it and the start of its text on one line, with the reason. It is wrong when the statement is
run, or is gone.
"""

RUNS_ELSEWHERE: dict[tuple[str, str, str], str] = {}
