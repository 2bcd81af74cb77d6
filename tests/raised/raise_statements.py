"""Which `raise` statements of the packages are run: `record` writes each to a file, the first time a process runs it.

It loads the modules of pixyz with a call before each `raise`, on the same line; their bytecode lies beside that of the sources, under a
name of its own. All else runs as ever, and costs nothing. coverage.py traces every call, those of torch too: before Python 3.12 it makes
tests/losses take 179 CPU seconds instead of 118.
"""

import ast
import hashlib
import os
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

PACKAGES = Path(__file__).parents[2] / "packages"
SUFFIX = f".raises-{zlib.crc32(Path(__file__).read_bytes()):08x}.pyc"

_open_file, _write_bytes, _close_file = os.open, os.write, os.close  # tests of full disks replace those of os
_seen: set[tuple[str, int]] = set()
_record = ""


def record(path: str) -> None:
    """From here on, this process and its forks add to a file the raise statements that they run: `core/_loss.py 12`.

    The first line says of which sources: `sources HASH`.
    """
    global _record
    _record = path
    if not Path(path).exists():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        _write(f"sources {hash_of_sources()}")
    sys.meta_path.insert(0, _Finder())


def ran(file: str, line: int) -> None:
    """Called before a raise statement, which ends a graph: torch.compile passes this by, and Python comes here after it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.compiler.is_compiling():
        return
    if (file, line) not in _seen:
        _seen.add((file, line))
        _write(f"{file} {line}")  # at once: a process that is killed says nothing at its end


def _write(line: str) -> None:
    descriptor = _open_file(_record, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    _write_bytes(descriptor, f"{line}\n".encode())
    _close_file(descriptor)


class _Finder:
    """Finds modules of pixyz as the finders after it do, whatever those hide, and loads them with the calls."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith("pixyz."):
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            if (spec := finder.find_spec(name, path, target)) is not None:
                if type(spec.loader) is SourceFileLoader:
                    spec.loader = _Loader(name, spec.loader.path)
                return spec
        return None


class _Loader(SourceFileLoader):
    def source_to_code(self, data, path, *, _optimize=-1):
        tree = _Insert(_name(path)).visit(ast.parse(data, path))
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def exec_module(self, module):
        module.__dict__["__ran__"] = ran
        super().exec_module(module)

    def get_data(self, path):
        return super().get_data(_own(path))

    def set_data(self, path, data, **options):
        super().set_data(_own(path), data, **options)


def _own(path: str) -> str:
    return path.removesuffix(".pyc") + SUFFIX if path.endswith(".pyc") else path


class _Insert(ast.NodeTransformer):
    def __init__(self, file: str) -> None:
        self.file = file

    def visit_Raise(self, statement: ast.Raise) -> list[ast.stmt]:
        (call,) = ast.parse(f"__ran__({self.file!r}, {statement.lineno})").body
        for node in ast.walk(call):
            ast.copy_location(node, statement)
        return [call, statement]

    def generic_visit(self, node: ast.AST) -> ast.AST:
        return node if isinstance(node, ast.expr) else super().generic_visit(node)  # an expression holds no statement


@dataclass(frozen=True)
class Statement:
    """A `raise`: its file, such as core/_loss.py, its line, the function around it, and its text on one line."""

    file: str
    line: int
    function: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}: {self.text}"


def sources() -> list[Path]:
    return sorted(PACKAGES.glob("*/src/**/*.py"))


def hash_of_sources() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources())).hexdigest()


def statements() -> list[Statement]:
    """All raise statements of the packages; a function that has nothing but `raise NotImplementedError` only declares a method."""
    found = []
    for path in sources():
        source = path.read_text("utf-8")
        if "raise" in source:
            found += _raises(ast.parse(source), source, _name(path), ())
    return found


def _raises(tree: ast.AST, source: str, file: str, within: tuple[str, ...]) -> Iterator[Statement]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Raise):
            text = " ".join((ast.get_source_segment(source, node) or "").split())
            yield Statement(file, node.lineno, ".".join(within) or "the module", text)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if not _only_declares(node):
                yield from _raises(node, source, file, (*within, node.name))
        elif not isinstance(node, ast.expr):
            yield from _raises(node, source, file, within)


def _only_declares(node: ast.FunctionDef | ast.ClassDef) -> bool:
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return len(body) == 1 and ast.unparse(body[0]) == "raise NotImplementedError"


def _name(path: str | Path) -> str:
    return Path(path).as_posix().rpartition("/pixyz/")[2]
