"""Where the nodes of a graph stand: in layers, parents above children, with few crossings; copies in rows, plates around their own.

The circle of a node has the radius 0.4; y points up.
"""

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from ._parts import Edge, Plate, Structure

RADIUS = 0.4
LAYER = 1.7
_GAP = 0.45  # between the rims of neighbours
_PLATE_PAD = 0.4

Layers = list[list[str]]
Point = tuple[float, float]


def place_nodes(graph: Structure, reach: Mapping[str, float]) -> tuple[dict[str, Point], dict[Edge, list[Point]]]:
    """The centre of every node; and for the edges that pass a layer, a point in each where there is room.

    Args:
        graph: what to lay out.
        reach: half the width of every node.
    """
    rows = _rows(graph)
    # Edges along rows lead sideways; if the others make a cycle of rows, those from copy to copy may lead anywhere.
    tries = (rows, rows), (rows, graph.steps), ((), ())
    # The last succeeds: no edge runs against the ancestral order.
    rank = next(found for row, free in tries if (found := _ranks(graph, row, free)) is not None)
    rows = [(a, b) for a, b in rows if rank[a] == rank[b]]
    segments, rank = _segments(graph, rank)
    layers: Layers = [[] for _ in range(max(rank.values()) + 1)]
    for name, layer in rank.items():
        layers[layer].append(name)
    order = _Order(graph.plates, rows, segments)
    layers = order.fewest_crossings(layers)
    x = _Columns(layers, segments, rows, reach).settle(graph.plates)
    at = {name: (x[name], -LAYER * layer) for name, layer in rank.items()}
    passing = {(a, b): [at[joint] for n in range(rank[a] + 1, rank[b]) if (joint := _joint(a, b, n)) in at] for a, b in graph.edges}
    return {node.name: at[node.name] for node in graph.nodes}, passing


def _rows(graph: Structure) -> list[Edge]:
    """The pairs that stand beside one another, left to right: what a chain leads through."""
    series = {node.name: node.series for node in graph.nodes}
    return [*graph.links, *((a, b) for a, b in graph.edges if (a, b) in graph.steps and series[a] and series[a] == series[b])]


def _ranks(graph: Structure, rows: Collection[Edge], free: Collection[Edge]) -> dict[str, int] | None:
    """The layer of each node, as far up as its parents let it, but for the edges that are free. None if there is a cycle of rows."""
    row_of = {node.name: node.name for node in graph.nodes}
    for a, b in rows:
        old, new = row_of[b], row_of[a]
        row_of = {name: new if row == old else row for name, row in row_of.items()}
    above: defaultdict[str, set[str]] = defaultdict(set)
    below: defaultdict[str, set[str]] = defaultdict(set)
    for a, b in graph.edges:
        if (a, b) not in free:
            above[row_of[b]].add(row_of[a])
            below[row_of[a]].add(row_of[b])
    rank: dict[str, int] = {}
    rest = list(dict.fromkeys(row_of.values()))
    while rest:
        ready = [row for row in rest if above[row].issubset(rank)]
        if not ready:
            return None
        for row in ready:
            rank[row] = max((rank[p] + 1 for p in above[row]), default=0)
        rest = [row for row in rest if row not in rank]
    for row in rank:  # what has no parents stands right above its first child
        if not above[row] and below[row]:
            rank[row] = min(rank[c] for c in below[row]) - 1
    return {name: rank[row] for name, row in row_of.items()}


def _segments(graph: Structure, rank: Mapping[str, int]) -> tuple[list[Edge], dict[str, int]]:
    """The edges cut into pieces from layer to layer; the ranks, with those of the joints between the pieces."""
    out: list[Edge] = []
    ranks = dict(rank)
    for a, b in graph.edges:
        if rank[b] <= rank[a]:
            continue
        last = a
        for layer in range(rank[a] + 1, rank[b]):
            joint = _joint(a, b, layer)
            ranks[joint] = layer
            out.append((last, joint))
            last = joint
        out.append((last, b))
    return out, ranks


def _joint(a: str, b: str, layer: int) -> str:
    return f"{a} -> {b} @{layer}"


class _Order:
    """Who stands left of whom."""

    def __init__(self, plates: Sequence[Plate], rows: Sequence[Edge], segments: Sequence[Edge]) -> None:
        self.plate = {name: i for i, plate in enumerate(plates) for name in plate.nodes}
        self.rows = rows
        self.up: defaultdict[str, list[str]] = defaultdict(list)
        self.down: defaultdict[str, list[str]] = defaultdict(list)
        for a, b in segments:
            self.down[a].append(b)
            self.up[b].append(a)

    def fewest_crossings(self, layers: Layers) -> Layers:
        """The best of some passes, down and up again, in each of which a node goes to the mean place of its neighbours.

        The passes start from the order that they are given in, and from shuffled ones.
        """
        shuffle = random.Random(0).shuffle
        best = [self._in_rows(layer) for layer in layers]
        least = self.cost(best)
        for start in range(8):
            layers = [[*layer] for layer in layers]
            for layer in layers if start else ():
                shuffle(layer)
            layers = [self._in_rows(layer) for layer in layers]
            for i in range(16):
                forwards = i % 2 == 0
                for n in range(len(layers)) if forwards else reversed(range(len(layers))):
                    beside = n - 1 if forwards else n + 1
                    if 0 <= beside < len(layers):
                        layers[n] = self._sorted(layers[n], layers[beside], self.up if forwards else self.down)
                cost = self.cost(layers)
                if cost < least:
                    best, least = [*layers], cost
        return best

    def cost(self, layers: Layers) -> tuple[int, float]:
        """The crossings; and where these are the same, how far the pieces lead sideways."""
        at = {v: i - (len(layer) - 1) / 2 for layer in layers for i, v in enumerate(layer)}
        return self.crossings(layers), sum(abs(at[a] - at[b]) for a, below in self.down.items() for b in below)

    def crossings(self, layers: Layers) -> int:
        """How many pairs of pieces cross."""
        count = 0
        for upper, lower in pairwise(layers):
            at = {name: i for i, name in enumerate(lower)}
            ends = [at[b] for a in upper for b in sorted(self.down[a], key=at.__getitem__)]
            starts = [i for i, a in enumerate(upper) for _ in self.down[a]]
            count += sum(starts[i] < starts[j] and ends[i] > ends[j] for i in range(len(ends)) for j in range(i + 1, len(ends)))
        return count

    def _sorted(self, layer: list[str], fixed: list[str], neighbours: Mapping[str, list[str]]) -> list[str]:
        at = {name: i / max(len(fixed) - 1, 1) for i, name in enumerate(fixed)}
        now = {name: i / max(len(layer) - 1, 1) for i, name in enumerate(layer)}
        wish = {v: _mean([at[u] for u in neighbours[v]]) if neighbours.get(v) else now[v] for v in layer}
        return self._in_rows(sorted(layer, key=wish.__getitem__), wish)

    def _in_rows(self, layer: list[str], wish: Mapping[str, float] | None = None) -> list[str]:
        """The same, but those of a row from left to right and those of a plate together."""
        wish = wish or {name: float(i) for i, name in enumerate(layer)}
        together: defaultdict[object, list[str]] = defaultdict(list)
        for v in layer:
            together[self.plate.get(v, v)].append(v)
        blocks = sorted(together.values(), key=lambda block: _mean([wish[v] for v in block]))
        ordered = [v for block in blocks for v in block]
        for _ in ordered:
            for a, b in self.rows:
                if a in ordered and b in ordered and ordered.index(a) > ordered.index(b):
                    ordered.remove(a)
                    ordered.insert(ordered.index(b), a)
        return ordered


class _Columns:
    """How far right everybody stands: near their neighbours, at distances that leave room for nodes and plates."""

    def __init__(self, layers: Layers, segments: Sequence[Edge], rows: Sequence[Edge], reach: Mapping[str, float]) -> None:
        self.layers = layers
        self.segments = segments
        self.rows = rows
        self.reach = reach
        self.x = {v: (i - (len(layer) - 1) / 2) * (2 * RADIUS + _GAP) for layer in layers for i, v in enumerate(layer)}
        self.apart = {(a, b): self._gap(a, b) for layer in layers for a, b in pairwise(layer)}

    def settle(self, plates: Sequence[Plate]) -> dict[str, float]:
        """Springs pull, gaps push; and at last what is nearly upright becomes so."""
        self._pull(200)
        self.apart.update(self._around(plates))  # now that it is known who stands on which side
        self._pull(200)
        for _ in range(40):
            for a, b in self.segments:
                if abs(self.x[a] - self.x[b]) < 0.3:
                    self.x[a] = self.x[b] = (self.x[a] + self.x[b]) / 2
            self._push(20)
        self._push(500)
        return self.x

    def _gap(self, a: str, b: str) -> float:
        reach = self.reach.get
        return reach(a, 0.15) + reach(b, 0.15) + _GAP

    def _pull(self, times: int) -> None:
        near: defaultdict[str, list[tuple[str, float, float]]] = defaultdict(list)  # neighbour, shift, weight
        for a, b in self.segments:
            weight = 1.0 + 2.0 * (a not in self.reach) + 2.0 * (b not in self.reach)
            near[a].append((b, 0.0, weight))
            near[b].append((a, 0.0, weight))
        beside = [(pair, gap, 1.0 if pair in self.rows else 0.03) for pair, gap in self.apart.items()]
        for (a, b), gap, weight in beside:
            near[a].append((b, -gap, weight))
            near[b].append((a, gap, weight))
        for _ in range(times):
            for v, others in near.items():
                weight = sum(w for _, _, w in others)
                self.x[v] += 0.5 * (sum((self.x[u] + shift) * w for u, shift, w in others) / weight - self.x[v])
            self._push(8)

    def _push(self, times: int) -> None:
        """Moves apart, evenly, those that stand too close."""
        for _ in range(times):
            moved = False
            for (a, b), gap in self.apart.items():
                lack = gap - (self.x[b] - self.x[a])
                if lack > 1e-6:
                    self.x[a] -= lack / 2
                    self.x[b] += lack / 2
                    moved = True
            if not moved:
                return

    def _around(self, plates: Sequence[Plate]) -> dict[Edge, float]:
        """Everything that is not of a plate stands left or right of all of it."""
        out: dict[Edge, float] = {}
        place = {v: (n, i) for n, layer in enumerate(self.layers) for i, v in enumerate(layer)}
        plate_of = {v: plate for plate in plates for v in plate.nodes}
        for plate in plates:
            spanned = [place[v][0] for v in plate.nodes]
            centre = _mean([self.x[v] for v in plate.nodes])
            for v, (layer, column) in place.items():
                if v in plate.nodes or not min(spanned) <= layer <= max(spanned) or v not in self.reach:
                    continue
                beside = [place[m][1] for m in plate.nodes if place[m][0] == layer]
                own = plate_of.get(v)
                mine = self.x[v] if own is None else _mean([self.x[u] for u in own.nodes])
                left = column < min(beside) if beside else mine < centre
                pad = _PLATE_PAD * (1 if own is None else 2)
                out.update({(v, m) if left else (m, v): self._gap(v, m) + pad for m in plate.nodes})
        return out


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
