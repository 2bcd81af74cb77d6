"""The tests for a mutant: those that run its statement, the cheapest and most specific first."""

import ast
import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

SECONDS = 15.0
"""CPU seconds that the tests of one mutant take without it: a mutant that these let live has survived."""

FIRST_SECONDS = 2.0
"""CPU seconds of the tests that are run first, in few files: most mutants are killed by them."""


class Covering(Protocol):
    """A test with the lines it runs, as bits of a number for each file."""

    name: str
    seconds: float
    lines: dict[str, int]

    @property
    def breadth(self) -> int: ...


@dataclass(frozen=True)
class Lines:
    """The lines of a mutant's statement, and those that stand for it where it runs on import: of its function, class or file."""

    statement: int
    around: int


def lines_of(source: str, first: int, last: int) -> Lines:
    """What of a file a test must run to be a test of the lines `first` to `last`."""
    tree = ast.parse(source)
    statement: ast.stmt | None = None
    scopes: list[ast.stmt] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and _first(node) <= first and last <= (node.end_lineno or 0):
            statement = node
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                scopes.append(node)
    if statement is None:
        return Lines(_bits(first, last), 0)
    body = getattr(statement, "body", None)
    end = body[0].lineno - 1 if body and isinstance(body, list) else statement.end_lineno or last
    own = _bits(_first(statement), max(end, _first(statement)))
    if statement in scopes:  # the header of a function or class runs on import
        return Lines(0, _body_bits(statement))
    if not scopes or isinstance(scopes[-1], ast.ClassDef):
        users = _users(tree, statement)
        around = _body_bits(scopes[-1]) if scopes else 0
        return Lines(0, users or around or _bits(1, len(source.splitlines())))
    return Lines(own, _body_bits(scopes[-1]))


def moved(bits: int, old: str, new: str) -> int:
    """Bits of lines of a text, as those of a text into which it was changed."""
    if old == new:
        return bits
    found = 0
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old.splitlines(), new.splitlines(), autojunk=False).get_opcodes():
        if tag == "equal":
            for k in range(b - a):
                found |= (bits >> (a + k + 1) & 1) << (c + k + 1)
        elif tag == "replace" and any(bits >> (k + 1) & 1 for k in range(a, b)):
            found |= _bits(c + 1, d)
    return found


def ordered(tests: Iterable[Covering], path: str, lines: Lines) -> list[Covering]:
    """The tests that run a statement, else its function, else its file; of these first the cheap ones that run little else."""
    tests = [test for test in tests if path in test.lines]
    runs = [[test for test in tests if test.lines[path] & bits] for bits in (lines.statement, lines.around)]
    chosen = next((found for found in runs if found), tests)
    chosen.sort(key=_price)
    count: Counter[str] = Counter()
    priced = []
    for test in chosen:
        function = test.name.split("[")[0]
        priced.append((_price(test) * (1 + count[function]) ** 2, test))
        count[function] += 1
    return [test for _, test in sorted(priced, key=lambda pair: pair[0])]


def stages(tests: Iterable[Covering]) -> list[list[Covering]]:
    """The tests in two stages, up to the limits of CPU seconds; a file's tests stand together, since collecting it costs too."""
    first: list[Covering] = []
    second: list[Covering] = []
    spent, files = 0.0, set()
    for test in tests:
        file = test.name.split("::")[0]
        spent += test.seconds + (0.0 if file in files else 0.2)
        if spent > SECONDS and (first or second):
            break
        files.add(file)
        (first if spent <= FIRST_SECONDS or not first else second).append(test)
    return [stage for stage in (first, second) if stage]


def _price(test: Covering) -> float:
    return (0.02 + test.seconds) * (100 + test.breadth)


def _bits(first: int, last: int) -> int:
    return sum(1 << line for line in range(first, last + 1))


def _first(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _body_bits(node: ast.stmt) -> int:
    """The lines that run when a function is called, or any function of a class."""
    if isinstance(node, ast.ClassDef):
        return sum(_body_bits(inner) for inner in node.body if isinstance(inner, ast.FunctionDef | ast.ClassDef)) or _bits(
            node.lineno, node.end_lineno or node.lineno
        )
    return _bits(node.body[0].lineno, node.end_lineno or node.lineno)  # type: ignore[attr-defined]


def _users(tree: ast.Module, statement: ast.stmt) -> int:
    """The lines of the functions that name what a statement of a module or class defines."""
    names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    found = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(
            (isinstance(inner, ast.Name) and inner.id in names) or (isinstance(inner, ast.Attribute) and inner.attr in names)
            for inner in ast.walk(node)
        ):
            found |= _body_bits(node)
    return found
