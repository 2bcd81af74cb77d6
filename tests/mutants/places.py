"""The places of the library's source at which a mutant may be planted, and a sample of them.

Left out, because no run of a program reads them or because every program fails at once:

- annotations, aliases of types, `TypeVar`s, `@overload`s, and all that stands under `if TYPE_CHECKING:`,
- arguments of `cast`, `__all__`, and default values in the bodies of protocols,
- an operator of bits in place of one of numbers, or the other way round: tensors of floats have none,
- `is` in place of `==`, or the other way round: of names, small numbers, dtypes and None there is one object,
- the star of `def f(*, x)`, which cosmic-ray takes for a product, and mutants that are no programs.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PARTS = ("core", "losses", "distributions", "flows", "gan", "models")
"""The packages in which mutants are planted."""

_BITS = ("RShift", "LShift", "BitOr", "BitAnd", "BitXor")

_ALIKE = {("Eq", "Is"), ("Is", "Eq"), ("NotEq", "IsNot"), ("IsNot", "NotEq")}

Span = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Place:
    """A span of a file, from (line, column) up to (line, column), that an operator changes."""

    path: str
    start: tuple[int, int]
    end: tuple[int, int]


def sources(root: Path) -> list[Path]:
    """The files in which mutants are planted."""
    return sorted(path for part in PARTS for path in (root / f"packages/pixyz-{part}/src").rglob("*.py"))


def is_trivial(operator: str) -> bool:
    """Whether an operator of cosmic-ray leads to a mutant that fails at once, or that is the same program."""
    words = operator.rsplit("/", 1)[-1].split("_")
    if words[0] == "ReplaceComparisonOperator":
        return tuple(words[1:]) in _ALIKE
    return words[0] == "ReplaceBinaryOperator" and (words[1] in _BITS) != (words[2] in _BITS)


def left_out(source: str) -> list[Span]:
    """The spans of a file that no program runs."""
    tree = ast.parse(source)
    return [*(_span(node) for node in _unread(tree)), *_stars(tree)]


def is_within(start: tuple[int, int], end: tuple[int, int], spans: Iterable[Span]) -> bool:
    """Whether a span lies in one of these."""
    return any(first <= start and end <= last for first, last in spans)


def sample(places: Iterable[Place], seed: int) -> list[Place]:
    """All places in an order drawn from the seed: the first N are a sample of N. A place more or less leaves the others in order."""
    return sorted(set(places), key=lambda place: hashlib.sha256(f"{seed} {place.path} {place.start} {place.end}".encode()).digest())


def _span(node: ast.AST) -> Span:
    start = node.lineno, node.col_offset
    decorators = getattr(node, "decorator_list", [])
    if decorators:
        start = decorators[0].lineno, 0
    return start, (node.end_lineno, node.end_col_offset)


def _unread(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.returns is not None:
                yield node.returns
            if any(_is_called(decorator, "overload") for decorator in node.decorator_list):
                yield node
        elif isinstance(node, ast.AnnAssign):
            yield node if _is_called(node.annotation, "TypeAlias") else node.annotation
        elif _is_for_types(node):
            yield node
        elif isinstance(node, ast.Call) and any(_is_called(node.func, name) for name in ("TypeVar", "ParamSpec", "cast")):
            yield node if not _is_called(node.func, "cast") else node.args[0]
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            yield node
    for node in tree.body:
        if isinstance(node, ast.Assign) and _is_type(node.value):
            yield node


def _stars(tree: ast.Module) -> Iterator[Span]:
    """The spans between the arguments by place and those by name, where a star stands that is no product."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and node.args.kwonlyargs and node.args.vararg is None:
            before = [*node.args.posonlyargs, *node.args.args, *node.args.defaults]
            ends = [(each.end_lineno or 0, each.end_col_offset or 0) for each in before]
            first = node.args.kwonlyargs[0]
            yield max(ends, default=(node.lineno, node.col_offset)), (first.lineno, first.col_offset)


def _is_for_types(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return _is_called(node.test, "TYPE_CHECKING")
    return isinstance(node, ast.ClassDef) and any(_is_called(base, "Protocol") for base in node.bases)


def _is_called(node: ast.AST, name: str) -> bool:
    node = node.value if isinstance(node, ast.Subscript) else node
    return (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)


def _is_type(node: ast.AST) -> bool:
    """Whether a value is a union of types, or `Callable[...]` and its like."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return True
    return (
        isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id[:1].isupper() and not node.value.id.isupper()
    )
