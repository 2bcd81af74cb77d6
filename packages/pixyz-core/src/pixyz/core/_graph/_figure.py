"""Drawing a graph with matplotlib, which is imported when a figure is asked for."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from .._variables import latex_name
from ._curves import Curve, Shape, route, sampled
from ._layout import RADIUS, Point, place_nodes
from ._parts import Node, Plate, Structure

_INCH = 0.72  # per unit of the layout
_SIZE = 15.0  # of a label, in points
_SMALL = 10.0  # of a plate's
_FILL = {"latent": "white", "observed": "0.8", "given": "0.92", "hidden": "white"}
_PAD = 0.26  # between a plate's nodes and its frame
_FOOT = 0.3  # the room for a plate's label
_WIDER = 0.4  # at most, if an edge leads through the label
_MARGIN = 0.12


def draw(graph: Structure) -> Figure:
    """The figure of a graph."""
    labels = {node.name: _label(node.name) for node in graph.nodes}
    centres, passing = place_nodes(graph, {name: reach for name, (_, _, reach) in labels.items()})
    shapes = {}
    for node in graph.nodes:
        slim = 0.04 if node.kind == "given" else 0.0  # a box looks larger than a circle
        shapes[node.name] = Shape(centres[node.name], labels[node.name][2] - slim, RADIUS - slim, node.kind == "given")
    curves = {(a, b): route(a, b, shapes, passing.get((a, b), [])) for a, b in [*graph.edges, *graph.links]}
    figure = Figure()
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_aspect("equal")
    points = [point for curve in curves.values() for point in sampled(curve)]
    points += [(s.centre[0] + i * s.width, s.centre[1] + i * s.height) for s in shapes.values() for i in (-1, 1)]
    for plate in graph.plates:
        points += _draw_plate(axes, plate, shapes, points)
    for (a, b), curve in curves.items():
        _draw_edge(axes, a, b, curve, is_link=(a, b) in graph.links)
    for node in graph.nodes:
        text, size, _ = labels[node.name]
        _draw_node(axes, node, shapes[node.name])
        colour = "0.4" if node.is_reference else "black"
        axes.text(*centres[node.name], text, ha="center", va="center_baseline", fontsize=size, math_fontfamily="cm", color=colour)
    xs, ys = zip(*points)
    left, right, bottom, top = min(xs) - _MARGIN, max(xs) + _MARGIN, min(ys) - _MARGIN, max(ys) + _MARGIN
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    figure.set_size_inches(_INCH * (right - left), _INCH * (top - bottom))
    return figure


def _draw_node(axes: Axes, node: Node, shape: Shape) -> None:
    (x, y), width, height, is_box = shape
    look = {
        "edgecolor": "0.6" if node.is_reference else "black",
        "linestyle": "dashed" if node.kind == "hidden" else "solid",
        "linewidth": 1.0,
    }
    fill = _FILL[node.kind]
    if is_box:
        axes.add_patch(Rectangle((x - width, y - height), 2 * width, 2 * height, facecolor=fill, gid=node.name, **look))
        return
    axes.add_patch(Ellipse((x, y), 2 * width, 2 * height, facecolor=fill, gid=node.name, **look))
    if node.is_deterministic:
        axes.add_patch(Ellipse((x, y), 2 * width - 0.14, 2 * height - 0.14, fill=False, gid=f"{node.name} (inner)", **look))


def _draw_edge(axes: Axes, a: str, b: str, curve: Curve, *, is_link: bool) -> None:
    points = [curve[0][0], *[point for piece in curve for point in piece[1:]]]
    axes.add_patch(
        FancyArrowPatch(
            path=Path(points, [Path.MOVETO, *[Path.CURVE3] * (len(points) - 1)]),
            arrowstyle="-" if is_link else "-|>,head_length=0.35,head_width=0.16",
            linestyle="dotted" if is_link else "solid",
            color="0.5" if is_link else "black",
            mutation_scale=18,
            linewidth=1.0,
            gid=f"{a} -- {b}" if is_link else f"{a} -> {b}",
        )
    )


def _draw_plate(axes: Axes, plate: Plate, shapes: Mapping[str, Shape], taken: list[Point]) -> list[Point]:
    """Draws the frame, with its label in a lower corner where no edge passes; returns its corners."""
    inside = [shapes[name] for name in plate.nodes]
    left = min(s.centre[0] - s.width for s in inside) - _PAD
    right = max(s.centre[0] + s.width for s in inside) + _PAD
    bottom = min(s.centre[1] - s.height for s in inside) - _PAD - _FOOT
    top = max(s.centre[1] + s.height for s in inside) + _PAD
    text = _plate_text(plate)
    width = _width(text, _SMALL) + 0.2
    passing = [x for x, y in taken if bottom - 0.05 < y < bottom + _FOOT + 0.05 and left < x < right]
    at_right = not any(x > right - width for x in passing)
    if not at_right and any(x < left + width for x in passing):
        right = max(right, min(max(passing) + width, right + _WIDER))
        at_right = True
    corner, size = (left + 0.1, bottom + 0.1), (right - left - 0.2, top - bottom - 0.2)
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0.1", fill=False, edgecolor="0.35", linewidth=0.9, gid=plate.label))
    side, x = ("right", right - 0.1) if at_right else ("left", left + 0.1)
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    axes.text(x, bottom + 0.08, text, ha=side, va="bottom", fontsize=_SMALL, math_fontfamily="cm", bbox=white)
    return [(left, bottom), (right, top)]


def _label(name: str) -> tuple[str, float, float]:
    """A node's label and its size; and half the width of the node, which is an ellipse if the name is long."""
    text = f"${latex_name(name)}$"
    width = _width(text, _SIZE)
    scale = min(1.0, (2 * RADIUS - 0.2) / max(width, 1e-6))
    return (text, _SIZE * scale, RADIUS) if scale > 0.75 else (text, 0.85 * _SIZE, 0.85 * width / 2 + 0.2)


def _plate_text(plate: Plate) -> str:
    letter, equals, numbers = plate.label.partition(" = ")
    if equals:
        return f"${letter} = " + numbers.replace("…", r",\ldots,") + "$"
    return "$" + plate.label.replace("×", r"\times") + "$"


def _width(text: str, size: float) -> float:
    font = FontProperties(size=size, math_fontfamily="cm")  # pyright: ignore[reportCallIssue]
    return TextPath((0, 0), text, prop=font).get_extents().width / 72 / _INCH
