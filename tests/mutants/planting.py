"""Mutants as cosmic-ray makes them: all of a tree, one as a text, and one found again in a text that has changed since."""

import hashlib
import warnings
from collections import defaultdict
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, WorkItem

from . import operators
from .places import Place, is_trivial, is_within, left_out, sample, sources

operators.register()


_NEVER_CHANGED = frozenset({"name", "newline", "string", "endmarker", "fstring_start", "fstring_string", "fstring_end"})
_PUNCTUATION = frozenset("()[]{},.:=;")


def draw(tree: Path, database: WorkDB, size: int, seed: int) -> dict[str, int]:
    """Adds a sample of mutants to the database, and returns the counts of all. A larger sample with one seed begins with a smaller one.

    A place is drawn from all places, and then one of its mutants: an addition has five of them and a `not` one, and count alike.
    """
    names = [name for name in cosmic_ray.plugins.operator_names() if not is_trivial(name)]
    classes = {name: cosmic_ray.plugins.get_operator(name) for name in names}
    used = {name: operator() for name, operator in classes.items() if not operator.arguments()}
    counts = {"mutants": 0, "unread": 0}
    at: dict[Place, list[MutationSpec]] = defaultdict(list)
    for path in sources(tree):
        source, short = path.read_text("utf-8"), path.relative_to(tree).as_posix()
        spans = left_out(source)
        nodes = [
            node
            for node in ast_nodes(get_ast(source))
            if node.type not in _NEVER_CHANGED and getattr(node, "value", "") not in _PUNCTUATION
        ]
        for name, operator in used.items():
            for occurrence, (start, end) in enumerate(position for node in nodes for position in operator.mutation_positions(node)):
                counts["mutants"] += 1
                if is_within(start, end, spans):
                    counts["unread"] += 1
                else:
                    at[Place(short, start, end)].append(MutationSpec(short, name, occurrence, start, end))
    counts["places"] = len(at)
    kept, drawn = database.num_work_items, 0
    for place in sample(at, seed):
        if drawn == size:
            break
        mutants = sorted(at[place], key=lambda m: hashlib.sha256(f"{seed} {place} {m.operator_name} {m.occurrence}".encode()).digest())
        source = (tree / place.path).read_text("utf-8")
        mutant = next((m for m in mutants if _is_python(mutated(source, m))), None)
        if mutant is None:
            continue
        if drawn >= kept:
            database.add_work_item(WorkItem.single(f"{drawn:05d}", mutant))
        drawn += 1
    return counts


def mutated(source: str, mutant: MutationSpec) -> str | None:
    """The text with a mutant in it, None where there is no such place."""
    return mutate_code(source, cosmic_ray.plugins.get_operator(mutant.operator_name)(), mutant.occurrence)


def found_again(mutant: MutationSpec, old: str, new: str) -> MutationSpec | None:
    """The mutant of a text, in a text into which it was changed: the same change of the same lines. None if they are gone."""
    if old == new:
        return mutant
    wanted, line = change(old, mutated(old, mutant) or ""), mutant.start_pos[0]
    operator = cosmic_ray.plugins.get_operator(mutant.operator_name)()
    text = old.splitlines()[line - 1].strip()
    lines = new.splitlines()
    places = [position for node in ast_nodes(get_ast(new)) for position in operator.mutation_positions(node)]
    near = sorted(range(len(places)), key=lambda k: abs(places[k][0][0] - line))
    for k in near:
        start, end = places[k]
        if lines[start[0] - 1].strip() != text:
            continue
        again = MutationSpec(mutant.module_path, mutant.operator_name, k, start, end, {}, mutant.definition_name)
        if change(new, mutated(new, again) or "") == wanted:
            return again
    return None


def change(old: str, new: str) -> str:
    """What a mutant changes, in one line: the lines that go, an arrow, and the lines that come."""
    a, b = old.splitlines(), new.splitlines()
    shorter = min(len(a), len(b))
    first = next((k for k in range(shorter) if a[k] != b[k]), shorter)
    last = next((k for k in range(shorter - first) if a[-1 - k] != b[-1 - k]), shorter - first)
    if first == len(a) - last or first == len(b) - last:  # lines that only go, or only come, are shown with the next one
        last = max(last - 1, 0)
    gone, come = ([line.strip() for line in lines[first : len(lines) - last]] for lines in (a, b))
    return " ⏎ ".join(gone) + " ⇒ " + " ⏎ ".join(come)


def _is_python(text: str | None) -> bool:
    """Whether a mutant is a program: a mutant may be none, or be warned of."""
    if text is None:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # `x is 1` is warned of, which is an error in tests
        try:
            compile(text, "mutant", "exec", dont_inherit=True)
        except SyntaxError:
            return False
    return True
