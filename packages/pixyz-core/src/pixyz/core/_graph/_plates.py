"""Repeated copies drawn once: the picture with each stretch of them as a plate."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .._bindings import Factor
from .._variables import fresh_name
from ._parts import Edge, Node, Plate, Structure
from ._runs import Run, find_runs, trim
from ._series import Place, Series, find_series


def fold_copies(raw: Structure, factors: Sequence[Factor]) -> Structure:
    """The picture with its repeated copies in plates."""
    groups, places = find_series(factors)
    kinds = {node.name: node.kind for node in raw.nodes}
    runs = [run for group in groups for run in find_runs(group, places, kinds)]
    owned = {v for f in factors for v in f.var}
    trim(runs, owned)
    runs = [run for run in runs if run.copies]
    return _Folded(raw, factors, runs, places).structure() if runs else raw


class _Folded:
    """A picture in the making."""

    def __init__(self, raw: Structure, factors: Sequence[Factor], runs: list[Run], places: Mapping[str, Place]) -> None:
        self.raw = {node.name: node for node in raw.nodes}
        self.factors = factors
        self.runs = runs
        self.places = places
        self.shown: dict[str, str] = {}  # from a copy to the node that stands for it
        self.nodes: dict[str, Node] = {}
        self.edges: dict[Edge, None] = {}
        self.links: dict[Edge, None] = {}
        self.steps: set[Edge] = set()
        self.inside: dict[tuple[int, int], dict[str, None]] = {}
        self.references: dict[tuple[tuple[int, int], Series, int], str] = {}
        self.letters: dict[tuple[int, int], tuple[str, bool]] = {}
        for key in dict.fromkeys(map(self._span, runs)):
            plate = [run for run in runs if self._span(run) == key]
            chain = any(offset for run in plate for _, offset in run.parents())
            self.letters[key] = self._letter("tskij" if chain else "nmikj", plate), chain

    def structure(self) -> Structure:
        """The nodes for the copies first, then what leads to them, then the rest."""
        folded = {f for run in self.runs for f in run.copies.values()}
        for run in self.runs:
            for slot in range(len(next(iter(run.copies.values())).var)):
                self._stand_for({n: f.var[slot] for n, f in run.copies.items()}, run)
        for run in self.runs:
            for slot, offset in run.parents():
                column = {n: f.cond_var[slot] for n, f in run.copies.items()}
                if self.raw[next(iter(column.values()))].kind == "given" and not any(c in self.shown for c in column.values()):
                    self._stand_for(column, run, offset)
        apart = [f for f in self.factors if f not in folded]
        needed = [v for f in apart for v in (*f.cond_var, *f.var)]
        needed += [f.cond_var[s] for run in self.runs for f in run.copies.values() for s, o in enumerate(run.offsets) if o is None]
        for v in self.raw:
            if v not in self.shown and v in needed:
                self.nodes[v] = self._labelled(v)
        for run in self.runs:
            self._lead_to(run)
        for f in apart:
            for c in f.cond_var:
                for v in f.var:
                    self._connect(self._seen_from(c, f.cond_var), v, step=self._is_step(c, v))
        order = {name: i for i, name in enumerate(self.raw)}
        nodes = sorted(self.nodes.values(), key=lambda node: order[node.copies[0] if node.copies else node.name])
        plates = [Plate(self._label(key), tuple(node.name for node in nodes if node.name in names)) for key, names in self.inside.items()]
        return Structure(tuple(nodes), tuple(self.edges), tuple(plates), tuple(self.links), frozenset(self.steps))

    def _lead_to(self, run: Run) -> None:
        """The edges into a run's nodes, each once."""
        first = next(iter(run.copies.values()))
        for slot, offset in enumerate(run.offsets):
            if offset is None:
                source = self._seen_from(first.cond_var[slot], first.cond_var)
            else:
                source = self._copy_at({n: f.cond_var[slot] for n, f in run.copies.items()}, offset, run)
            for v in first.var:
                self._connect(source, self.shown[v], step=bool(offset))

    def _copy_at(self, column: Mapping[int, str], offset: int, run: Run) -> str:
        """The node that stands for the parents in this column: the plate's own, or one that points at an earlier or later copy."""
        own = next((self.shown[c] for n, c in column.items() if n + offset in run.copies and c in self.shown), None)
        if own is None:
            own = next(self.shown[c] for c in column.values() if c in self.shown)
        if offset == 0 or self.nodes[own].kind == "given":
            return own
        series = self.places[next(iter(column.values()))].series
        key = self._span(run), series, offset
        name = self.references.get(key)
        if name is None:
            taken = {*self.nodes, *self.raw}
            name = self.references[key] = fresh_name(series.at(f"{self.letters[key[0]][0]}{offset:+}"), taken)
            self.nodes[name] = replace(self.nodes[own], name=name, copies=tuple(column.values()), is_reference=True)
            self.inside[key[0]][name] = None
            for n, c in column.items():
                if n + offset not in run.copies:
                    outside = self._seen_from(c, ())
                    self.links[(outside, name) if offset < 0 else (name, outside)] = None
        return name

    def _seen_from(self, v: str, beside: tuple[str, ...]) -> str:
        """The node for v, for what depends on it alone, or on all copies together."""
        if v not in self.shown:
            if v not in self.nodes:
                self.nodes[v] = self._labelled(v)
            return v
        own = self.nodes[self.shown[v]]
        if set(own.copies).issubset(beside):
            return own.name
        if v not in self.nodes:
            self.nodes[v] = replace(self._labelled(v), is_reference=True, copies=(v,))
            self.links[own.name, v] = None
        return v

    def _stand_for(self, column: Mapping[int, str], run: Run, offset: int = 0) -> None:
        """One node for all of these copies."""
        span = self._span(run)
        letter, chain = self.letters[span]
        series = self.places[next(iter(column.values()))].series
        index = letter + (f"{offset:+}" if offset else "")
        unnumbered = series.group and not chain
        taken = {*self.nodes, *(v for v in self.raw if v not in column.values())}
        name = fresh_name(series.before.rstrip("_") if unnumbered else series.at(index), taken)
        copies = tuple(column.values())
        self.nodes[name] = replace(self.raw[copies[-1]], name=name, copies=copies, series=_text(series))
        self.shown.update(dict.fromkeys(copies, name))
        self.inside.setdefault(span, {})[name] = None

    def _labelled(self, v: str) -> Node:
        place = self.places.get(v)
        return replace(self.raw[v], series=_text(place.series) if place else "")

    def _connect(self, parent: str, child: str, *, step: bool) -> None:
        self.edges[parent, child] = None
        if step:
            self.steps.add((parent, child))

    def _is_step(self, parent: str, child: str) -> bool:
        p, c = self.places.get(parent), self.places.get(child)
        return p is not None and c is not None and p.number != c.number

    def _span(self, run: Run) -> tuple[int, int]:
        return min(run.copies), max(run.copies)

    def _letter(self, letters: str, plate: list[Run]) -> str:
        """An index that makes no name of a variable that is there already, or in another plate."""
        series = {self.places[v].series for run in plate for v in next(iter(run.copies.values())).var}
        used = {letter for letter, _ in self.letters.values()}
        free = [i for i in letters if not any(s.at(i) in self.raw for s in series)]
        return next((i for i in free if i not in used), letters[0])

    def _label(self, span: tuple[int, int]) -> str:
        runs = [run for run in self.runs if self._span(run) == span]
        by_name = all(self.places[f.var[0]].series.group == 0 for run in runs for f in run.copies.values())
        return f"{self.letters[span][0]} = {span[0]}…{span[1]}" if by_name else f"× {span[1] - span[0] + 1}"


def mark_steps(raw: Structure, factors: Sequence[Factor]) -> Structure:
    """The picture with all copies in it, those of a series by their numbers, and what is known of their order."""
    _, places = find_series(factors)
    sorted_series: dict[Series, list[Node]] = {}
    for node in sorted((n for n in raw.nodes if n.name in places), key=lambda n: places[n.name].number):
        series = places[node.name].series
        sorted_series.setdefault(series, []).append(replace(node, series=_text(series)))
    nodes = [sorted_series[places[node.name].series].pop(0) if node.name in places else node for node in raw.nodes]
    steps = [(a, b) for a, b in raw.edges if a in places and b in places and places[a].number != places[b].number]
    return replace(raw, nodes=tuple(nodes), steps=frozenset(steps))


def _text(series: Series) -> str:
    return f"{series.before}#{series.after}" + (f"@{series.group}" if series.group else "")
