"""Results of the programs that pages show, kept in `docs/kept`, so that building the site trains nothing.

A page names its program in its head, `runs: docs/gallery/gmm.py --steps 300`, or a list of such lines, which run one after the other in one
folder. Its result is a folder named after the page, `docs/kept/gmm`: `printed.txt`, the pictures, and `result.json`, which says what the
result was computed from. A result is

- *missing* if nothing is kept: a build runs the program and keeps what it makes;
- *stale* if the program, a module of the gallery that it imports or its command line has changed: `nox -s gallery -- --keep gmm` renews it;
- *older* if packages that the program imports or the versions that it ran with have changed: the page says of which commit the result is.
"""

import hashlib
import importlib.metadata
import io
import json
import re
import shlex
import shutil
import subprocess
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from mkdocs.utils.meta import get_data
from PIL import Image

ROOT = Path(__file__).parents[1]
LIBRARIES = ("torch", "numpy", "scikit-learn", "matplotlib")
WIDTH, COLOURS = 1000, 128  # of a kept picture: pixels at most, colours of its palette


@dataclass(frozen=True)
class Program:
    """The program of one page. Paths in `runs` are relative to the root of the repository."""

    page: Path
    runs: tuple[str, ...]
    root: Path = ROOT

    @property
    def name(self) -> str:
        return self.page.stem

    @property
    def kept(self) -> Path:
        """The folder of its result."""
        return self.root / "docs" / "kept" / self.name

    def commands(self) -> list[list[str]]:
        """Arguments of Python for each line, with absolute paths of files."""
        return [[str(self.root / w) if (self.root / w).is_file() else w for w in shlex.split(line)] for line in self.runs]

    def sources(self) -> list[Path]:
        """The files of the program: its own and the modules beside it that it imports."""
        found = [Path(word) for command in self.commands() for word in command if word.endswith(".py")]
        for path in found:
            beside = (path.parent / f"{module}.py" for module in imported_by(path))
            found.extend(p for p in beside if p.is_file() and p not in found)
        return sorted(set(found))

    def packages(self) -> dict[str, Path]:
        """The packages that it imports, and those that they import."""
        folders = {path.name: path for path in self.root.glob("packages/*/src/pixyz/*")}
        found = _siblings(self.sources())
        for part in found:
            found.extend(sibling for sibling in _siblings(_modules(folders[part])) if sibling not in found)
        return {part: folders[part] for part in sorted(found)}

    def digest(self) -> str:
        """Of its command lines and its files."""
        return digest([*self.runs, *map(code, self.sources())])

    def origin(self) -> dict[str, Any]:
        """Everything that the result follows from."""
        return {
            "program": self.digest(),
            "packages": {part: digest(map(code, _modules(folder))) for part, folder in self.packages().items()},
            "versions": versions(self.root),
        }

    def commit(self) -> str:
        """The last commit that changed the program or its packages, with a plus sign if they have been changed since."""
        paths = [*map(str, self.sources()), *map(str, self.packages().values())]
        try:
            last = _git(self.root, "log", "-1", "--format=%h", "--", *paths)
            return last + ("+" if _git(self.root, "status", "--porcelain", "--", *paths) else "")
        except (OSError, subprocess.CalledProcessError):
            return ""


def programs(docs: Path = ROOT / "docs") -> dict[str, Program]:
    """The programs of all pages, by name."""
    found: dict[str, Program] = {}
    for page in sorted(docs.rglob("*.md")):
        runs = get_data(page.read_text("utf-8"))[1].get("runs")
        if runs:
            program = Program(page, (runs,) if isinstance(runs, str) else tuple(runs), docs.parent)
            if program.name in found:
                raise ValueError(f"Two pages with programs are called {program.name}, {found[program.name].page} and {page}. Rename one.")
            found[program.name] = program
    return found


def result(program: Program) -> dict[str, Any]:
    """The contents of `result.json`, or an empty dict if no result is kept."""
    path = program.kept / "result.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def is_missing(program: Program) -> bool:
    return not result(program)


def is_stale(program: Program) -> bool:
    return result(program).get("program", "") not in ("", program.digest())


def is_older(program: Program) -> bool:
    known, origin = result(program), program.origin()
    return any(known.get(what) != origin[what] for what in ("packages", "versions"))


def note(program: Program) -> str:
    """The sentence that a page shows below an older result."""
    known, origin = result(program), program.origin()
    commit, changed = known["commit"].rstrip("+"), known["commit"].endswith("+")
    since = sorted(f"pixyz.{part}" for part, now in origin["packages"].items() if known["packages"].get(part) != now)
    since += [f"{name} {now}" for name, now in origin["versions"].items() if name in LIBRARIES and known["versions"].get(name) != now]
    of = f"*This result is of commit {commit}{', with changes' if changed else ''}" if commit else "*This result is of an earlier commit"
    return f"{of}; since then these have changed: {', '.join(since) or 'the lock of dependencies'}.*"


def stale_message(names: Iterable[str]) -> str:
    names = sorted(names)
    return f"Kept results are stale, their programs or command lines have changed: {', '.join(names)}. Renew them: {remedy(names)}"


def remedy(names: Iterable[str]) -> str:
    return f"nox -s gallery -- --keep {' '.join(sorted(names))}"


def keep(program: Program, origin: dict[str, Any], printed: str, pictures: Iterable[Path], cpu_seconds: float | None) -> None:
    """Stores a result in place of the last one. `origin`, and the commit in it, are those from before the program ran."""
    shutil.rmtree(program.kept, ignore_errors=True)
    program.kept.mkdir(parents=True)
    (program.kept / "printed.txt").write_text(printed, "utf-8", newline="\n")
    for picture in pictures:
        reduce(picture, program.kept / picture.name)
    facts = {**origin, "runs": program.runs, "cpu_seconds": cpu_seconds and round(cpu_seconds)}
    (program.kept / "result.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8", newline="\n")


def reduce(picture: Path, to: Path) -> None:
    """Writes a picture with fewer pixels and a palette, a tenth of its size or less."""
    with Image.open(picture) as image:
        flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    if flat.width > WIDTH:
        flat = flat.resize((WIDTH, round(flat.height * WIDTH / flat.width)), Image.Resampling.LANCZOS)
    flat.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(to, optimize=True)


def digest(texts: Iterable[str]) -> str:
    together = hashlib.sha256()
    for text in texts:
        together.update(hashlib.sha256(text.encode()).digest())
    return together.hexdigest()[:16]


def code(path: Path) -> str:
    """The source without comments, docstrings and blank lines, none of which changes a result."""
    return _code(path.read_text("utf-8"))


@cache
def _code(text: str) -> str:
    lines, before = text.splitlines(keepends=True), tokenize.NEWLINE
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    cut = [t for t in tokens if t.type == tokenize.COMMENT]
    meant = [t for t in tokens if t.type not in layout]
    for token, after in pairwise(meant):
        if token.type == tokenize.STRING and before == tokenize.NEWLINE and after.type == tokenize.NEWLINE:
            cut.append(token)
        before = token.type
    for token in cut:
        (first, start), (last, end) = token.start, token.end
        rest = lines[last - 1][end:]
        for line in range(first - 1, last):
            lines[line] = lines[line][:start] if line == first - 1 else ""
        lines[first - 1] += rest
    return "\n".join(line for line in map(str.rstrip, "".join(lines).splitlines()) if line)


def imported_by(path: Path) -> list[str]:
    """The modules that a file imports, by name."""
    return _imports(path.read_text("utf-8"))


@cache
def _imports(text: str) -> list[str]:
    return re.findall(r"(?m)^\s*(?:from|import)\s+([\w.]+)", _code(text))


def _siblings(files: Iterable[Path]) -> list[str]:
    found = {module.split(".")[1] for path in files for module in imported_by(path) if module.startswith("pixyz.")}
    return sorted(found)


def _modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def versions(root: Path) -> dict[str, str]:
    """The lock of dependencies, and what is installed."""
    return {"constraints.txt": (root / "constraints.txt").read_text("utf-8").strip(), **{name: _installed(name) for name in LIBRARIES}}


@cache
def _installed(library: str) -> str:
    return importlib.metadata.version(library).split("+")[0]


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
