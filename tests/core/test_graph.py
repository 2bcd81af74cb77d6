"""The picture of a model: its structure, its plates, its Mermaid text and its figure."""

import functools
import itertools
import math
import random
import re
import sys

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import nn

from pixyz.core import FormulaError, Graph, KindError
from pixyz.distributions import Deterministic, Normal


def normal(var, cond_var=(), name="p"):
    """p(var|cond_var); its parameters do not matter here."""
    loc = (lambda *inputs: sum(inputs)) if cond_var else torch.zeros(2)
    return Normal(var=[var], cond_var=cond_var, name=name, loc=loc, scale=1.0)


def product(factors):
    out, *rest = factors
    for factor in rest:
        out = out * factor
    return out


def semi_supervised():
    return normal("x", ["z", "y"]) * normal("z") * normal("y")


def chain(steps, z="z_{}", x="x_{}"):
    """p(z_1)p(x_1|z_1) Π p(z_t|z_{t-1})p(x_t|z_t)"""
    step, emission = normal("next", ["last"]), normal("x", ["z"])
    factors = [normal(z.format(1))]
    for t in range(1, steps + 1):
        if t > 1:
            factors.append(step.replace_var(next=z.format(t), last=z.format(t - 1)))
        factors.append(emission.replace_var(x=x.format(t), z=z.format(t)))
    return product(factors)


def data(count):
    """p(theta) Π p(x_n|theta)"""
    likelihood = normal("x", ["theta"])
    return product([normal("theta"), *[likelihood.replace_var(x=f"x_{n}") for n in range(1, count + 1)]])


def local(count):
    """p(theta) Π p(x_n|z_n,theta)p(z_n|alpha)"""
    x, z = normal("x", ["z", "theta"]), normal("z", ["alpha"])
    copies = [x.replace_var(x=f"x{n}", z=f"z{n}") * z.replace_var(z=f"z{n}") for n in range(1, count + 1)]
    return product([normal("theta"), *copies])


def recurrent(steps):
    """Π p(z_t|h_{t-1})p(x_t|z_t,h_{t-1})f(h_t|h_{t-1},x_t,z_t)"""
    z, x = normal("z", ["h"]), normal("x", ["z", "h"])
    h = function()
    factors = []
    for t in range(1, steps + 1):
        last, now = f"h_{{{t - 1}}}", f"h_{{{t}}}"
        factors += [z.replace_var(z=f"z_{t}", h=last), x.replace_var(x=f"x_{t}", z=f"z_{t}", h=last)]
        factors.append(h.replace_var(h=now, last=last, x=f"x_{t}", z=f"z_{t}"))
    return product(factors)


def function():
    return Deterministic("f(h|last,x,z)", lambda last, x, z: {"h": last + x + z})


def controlled(steps):
    """p(z_0) Π p(z_t|z_{t-1},u_t)"""
    step = normal("next", ["last", "u"])
    return product([normal("z_0"), *[step.replace_var(next=f"z_{t}", last=f"z_{t - 1}", u=f"u_{t}") for t in range(1, steps + 1)]])


def unnumbered_chain():
    step = normal("z", ["last"])
    return product([normal("a"), *[step.replace_var(z=b, last=a) for a, b in itertools.pairwise("abcde")]])


def second_order(steps):
    step = normal("z", ["last", "before"])
    factors = [normal("z_1"), normal("z_2")]
    return product([*factors, *[step.replace_var(z=f"z_{t}", last=f"z_{t - 1}", before=f"z_{t - 2}") for t in range(3, steps + 1)]])


def encoder(count):
    q = normal("z", ["x"], "q")
    return product([q.replace_var(z=f"z_{n}", x=f"x_{n}") for n in range(1, count + 1)])


def random_graph(count, seed):
    """Each node has up to three parents among those before it."""
    draw = random.Random(seed)
    return product(
        [normal(f"v_{i}", draw.sample([f"v_{j}" for j in range(i)], min(i, draw.choice([0, 1, 1, 2, 3])))) for i in range(count)]
    )


def kinds(graph):
    return {node.name: node.kind for node in graph.nodes}


def test_single_joint_renamed_and_marginal_distributions_have_a_graph():
    p = normal("x", ["z"])
    single, joint = p.graph(), (p * normal("z")).graph(observed=["x"])
    assert kinds(single) == {"z": "given", "x": "latent"}
    assert kinds(joint) == {"z": "latent", "x": "observed"}
    assert single.edges == joint.edges == (("z", "x"),)
    renamed = p.replace_var(x="x'", z="w").graph()
    assert (kinds(renamed), renamed.edges) == ({"w": "given", "x'": "latent"}, (("w", "x'"),))
    marginal = (p * normal("z", ["y"])).marginalize_var(["z"]).graph(observed="x")
    assert (kinds(marginal), marginal.edges) == ({"y": "given", "z": "hidden", "x": "observed"}, (("y", "z"), ("z", "x")))


def test_a_variable_with_a_value_is_given():
    graph = (normal("x", ["z", "y"]) * normal("z", ["y"])).condition(y=2.0).marginalize_var("z").graph(observed=["x"])
    assert kinds(graph) == {"y": "given", "z": "hidden", "x": "observed"}
    assert not any(node.is_deterministic for node in graph.nodes)


def test_a_posterior_has_a_graph():
    p = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=1.0) * normal("z")
    graph = p.posterior("z").graph()
    assert (kinds(graph), graph.edges) == ({"x": "given", "z": "latent"}, (("x", "z"),))


def test_deterministic_nodes_are_marked_whatever_their_kind():
    joint = normal("y", ["h"]) * function() * normal("z")
    by_name = {node.name: node for node in joint.marginalize_var("h").graph().nodes}
    assert {name for name, node in by_name.items() if node.is_deterministic} == {"h"}
    assert by_name["h"].kind == "hidden"


def test_nodes_stand_parents_first_in_the_order_written():
    assert [node.name for node in semi_supervised().graph().nodes] == ["z", "y", "x"]


@pytest.mark.parametrize(
    ("observed", "error", "text"),
    [
        (["X"], FormulaError, "p(x|y) has no variable X to observe. Did you mean 'x'?"),
        (["z"], FormulaError, "p(x|y): z is marginalised out, so it is not observed. Take the graph of the joint."),
        ([1], KindError, "observed takes names; got 1 (int)."),
    ],
    ids=["unknown", "hidden", "no name"],
)
def test_what_cannot_be_observed(observed, error, text):
    p = (normal("x", ["z"]) * normal("z", ["y"])).marginalize_var("z")
    with pytest.raises(error, match=re.escape(text)):
        p.graph(observed=observed)


def shape_changes():
    """p(x_1|y_1)p(x_2|y_1)p(x_3|y_2)p(x_4|y_3) Π p(y_n): two copies of one parent, then parents that move on."""
    x, y = normal("x", ["y"]), normal("y")
    pairs = [(1, 1), (2, 1), (3, 2), (4, 3)]
    return product([*[y.replace_var(y=f"y_{n}") for n in (1, 2, 3)], *[x.replace_var(x=f"x_{n}", y=f"y_{m}") for n, m in pairs]])


PLATES = {
    "nothing repeated": (semi_supervised(), [], []),
    "data": (data(5), [("n = 1…5", {"x_n"})], []),
    "two data": (data(2), [("n = 1…2", {"x_n"})], []),
    "local latents": (local(4), [("n = 1…4", {"z_n", "x_n"})], []),
    "an encoder": (encoder(3), [("n = 1…3", {"z_n", "x_n"})], []),
    "a chain": (chain(10), [("t = 2…10", {"z_{t-1}", "z_t", "x_t"})], [("z_1", "z_{t-1}")]),
    "braces": (chain(4, "z_{{{}}}", "x_{{n,{}}}"), [("t = 2…4", {"z_{t-1}", "z_{t}", "x_{n,t}"})], [("z_{1}", "z_{t-1}")]),
    "controls": (controlled(4), [("t = 1…4", {"z_{t-1}", "z_t", "u_t"})], [("z_0", "z_{t-1}")]),
    "a recurrent network": (recurrent(3), [("t = 1…3", {"h_{t-1}", "h_{t}", "z_t", "x_t"})], [("h_{0}", "h_{t-1}")]),
    "second order": (
        second_order(6),
        [("t = 3…6", {"z_{t-2}", "z_{t-1}", "z_t"})],
        [("z_2", "z_{t-1}"), ("z_1", "z_{t-2}"), ("z_2", "z_{t-2}")],
    ),
    "no numbers": (unnumbered_chain(), [("× 4", {"z_{t-1}", "z_t"})], [("a", "z_{t-1}")]),
    "no numbers, no chain": (
        product([normal("y"), *[x.replace_var(x=v) for x in [normal("x", ["y"])] for v in "abc"]]),
        [("× 3", {"x"})],
        [],
    ),
    "what one copy alone leads to": (
        chain(5) * normal("y", ["z_5"]),
        [("t = 2…5", {"z_{t-1}", "z_t", "x_t"})],
        [("z_1", "z_{t-1}"), ("z_t", "z_5")],
    ),
    "what all copies lead to": (data(3) * normal("y", ["x_1", "x_2", "x_3"]), [("n = 1…3", {"x_n"})], []),
    "the letter is taken": (data(3) * normal("x_n"), [("m = 1…3", {"x_m"})], []),
    "different modules": (product([normal("theta"), *[normal(f"x_{n}", ["theta"]) for n in range(4)]]), [], []),
    "a shape that changes": (shape_changes(), [("n = 1…2", {"x_n"})], []),
    "a gap": (product([normal("y"), *[x.replace_var(x=f"x_{n}") for x in [normal("x", ["y"])] for n in (1, 3, 5)]]), [("× 3", {"x"})], []),
}


def unfolded(graph):
    """The edges with every copy written out."""
    nodes = {node.name: node for node in graph.nodes}
    home = {name: i for i, plate in enumerate(graph.plates) for name in plate.nodes}
    edges = []
    for a, b in graph.edges:
        above, below = nodes[a].copies or (a,), nodes[b].copies or (b,)
        edges += zip(above, below, strict=True) if a in home and home[a] == home.get(b) else itertools.product(above, below)
    return edges


def check_nothing_is_lost(p, observed=()):
    folded, full = p.graph(observed), p.graph(observed, plates=False)
    assert full.plates == full.links == ()
    assert sorted(unfolded(folded)) == sorted(full.edges)
    kind = kinds(full)
    own = [(v, node.kind) for node in folded.nodes if not node.is_reference for v in node.copies or (node.name,)]
    assert sorted(own) == sorted(kind.items())
    return folded


@pytest.mark.parametrize(("p", "plates", "links"), PLATES.values(), ids=PLATES)
def test_repeated_copies_are_drawn_once(p, plates, links):
    graph = check_nothing_is_lost(p)
    assert [(plate.label, set(plate.nodes)) for plate in graph.plates] == plates
    assert sorted(graph.links) == sorted(links)
    assert p.graph(plates=False).plates == ()
    assert len(p.graph(plates=False).nodes) == len({*p.var, *p.cond_var})


def test_the_edges_of_a_folded_chain():
    graph = chain(10).graph(observed=[f"x_{t}" for t in range(1, 11)])
    assert set(graph.edges) == {("z_1", "x_1"), ("z_{t-1}", "z_t"), ("z_t", "x_t")}
    by_name = {node.name: node for node in graph.nodes}
    assert {name for name, node in by_name.items() if node.kind == "observed"} == {"x_1", "x_t"}
    assert {name for name, node in by_name.items() if node.is_reference} == {"z_{t-1}"}
    assert by_name["z_t"].copies == tuple(f"z_{t}" for t in range(2, 11))


def test_copies_of_another_kind_stand_apart():
    graph = check_nothing_is_lost(data(5), observed=["x_1", "x_2", "x_3"])
    assert [(plate.label, plate.nodes) for plate in graph.plates] == [("n = 1…3", ("x_n",)), ("m = 4…5", ("x_m",))]
    assert {kinds(graph)["x_n"], kinds(graph)["x_m"]} == {"observed", "latent"}


@pytest.mark.parametrize("seed", range(150))
def test_whatever_is_folded_nothing_is_lost(seed):
    """Random models of repeated copies, with holes, strangers, conditioning variables and words for names."""
    draw = random.Random(seed)
    letters, steps = "abc"[: draw.choice([1, 2, 3])], range(2, draw.choice([4, 5, 6, 7]))
    pattern = draw.choice(["{}_{}", "{}{}", "{}_{{{}}}", "{}_{{k,{}}}"])
    words = draw.random() < 0.25

    def name(letter, t):
        return letter + "'" * t if words else pattern.format(letter, t)

    shapes = {}
    for i, letter in enumerate(letters):
        before = [(other, -k) for other in letters for k in (1, 2) if draw.random() < 0.2]
        beside = [(other, 0) for other in [*letters[:i], "u"] if draw.random() < 0.4]
        shapes[letter] = [*before, *beside, *([("g", None)] if draw.random() < 0.3 else [])]
    leaves = {k: normal(f"own_{k}", [f"c{i}" for i in range(len(shape))]) for k, shape in shapes.items()}
    others = {k: normal(f"own_{k}", [f"c{i}" for i in range(len(shape))], "r") for k, shape in shapes.items()}
    factors = []
    for t, (letter, shape) in itertools.product(steps, shapes.items()):
        leaf = (leaves if draw.random() > 0.06 else others)[letter]
        parents = {f"c{i}": v if k is None else name(v, t + k) for i, (v, k) in enumerate(shape)}
        factors.append(leaf.replace_var(**{f"own_{letter}": name(letter, t)}, **parents))
    if draw.random() < 0.3:
        factors.append(normal("w", [name("a", draw.choice(steps))]))
    if draw.random() < 0.2:
        factors.append(normal("s", [name("a", t) for t in steps]))
    draw.shuffle(factors)
    p = product(factors)
    check_nothing_is_lost(p, [v for v in p.var if draw.random() < 0.1] if draw.random() < 0.3 else [])


def test_mermaid():
    p = (normal("x'", ["z_{t+1}", "theta", "y"]) * function().replace_var(h="z_{t+1}")).marginalize_var("z_{t+1}") * normal(
        "x_{<t}", ["x'"]
    )
    assert p.graph(observed=["x'"]).mermaid().split("  classDef")[0] == (
        "flowchart TD\n"
        '  n0["θ"]:::given\n'
        '  n1["y"]:::given\n'
        '  n2["last"]:::given\n'
        '  n3["x"]:::given\n'
        '  n4["z"]:::given\n'
        '  n5((("z_{t+1}"))):::hidden\n'
        '  n6(("x\'")):::observed\n'
        '  n7(("x_{#lt;t}")):::latent\n'
        "  n2 --> n5\n"
        "  n3 --> n5\n"
        "  n4 --> n5\n"
        "  n5 --> n6\n"
        "  n0 --> n6\n"
        "  n1 --> n6\n"
        "  n6 --> n7\n"
    )


def test_a_plate_in_mermaid():
    graph = chain(3).graph()
    text = graph.mermaid()
    assert '  subgraph plate0["t = 2…3"]\n    n1(("z_{t-1}")):::reference\n    n3(("z_t")):::latent\n' in text
    assert "  n0 -.- n1" in text
    assert text.count("subgraph") == text.count("\n  end\n") == 1
    used = set(re.findall(r":::(\w+)", text))
    assert used.issubset(re.findall(r"classDef (\w+)", text))
    assert str(graph) == repr(graph) == text


FIGURES = {name: case[0] for name, case in PLATES.items()} | {
    "one node": normal("x"),
    "semi-supervised": semi_supervised(),
    "a long name": normal("observation_next", ["latent_state", "x"]) * normal("latent_state"),
    "a marginal": (normal("w", ["h", "y"]) * function() * normal("y")).marginalize_var(["h"]),
    **{f"{count} nodes, {seed}": random_graph(count, seed) for count in (3, 8, 12, 20) for seed in range(3)},
}


figure_of = functools.cache(Graph.figure)
"""The figure of a graph, drawn once: a graph is data, and several tests look at the same one."""


def drawn(figure):
    """The shapes of nodes by name, the arrows by edge, and the frames."""
    (axes,) = figure.axes
    patches = axes.patches
    nodes = {p.get_gid(): p for p in patches if isinstance(p, (Ellipse, Rectangle)) and not p.get_gid().endswith("(inner)")}
    arrows = {p.get_gid(): p for p in patches if isinstance(p, FancyArrowPatch)}
    return axes, nodes, arrows, [p for p in patches if isinstance(p, FancyBboxPatch)]


def relative(shape, point):
    """How far a point is from the centre of a shape, where the rim is at 1."""
    width, height = shape.get_width(), shape.get_height()
    x, y = shape.get_center()
    dx, dy = abs(point[0] - x) / (width / 2), abs(point[1] - y) / (height / 2)
    return max(dx, dy) if isinstance(shape, Rectangle) else math.hypot(dx, dy)


def box(shape):
    (x, y), width, height = shape.get_center(), shape.get_width(), shape.get_height()
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


@pytest.mark.parametrize("plates", [True, False], ids=["plates", "no plates"])
@pytest.mark.parametrize("p", FIGURES.values(), ids=FIGURES)
def test_a_figure_holds_everything_and_nothing_runs_into_another(p, plates):
    graph = p.graph(observed=[p.var[-1]], plates=plates)
    axes, nodes, arrows, frames = drawn(figure_of(graph))
    assert set(nodes) == {node.name for node in graph.nodes}
    assert set(arrows) == {f"{a} -> {b}" for a, b in graph.edges} | {f"{a} -- {b}" for a, b in graph.links}
    assert len(frames) == len(graph.plates)
    assert len(axes.texts) == len(nodes) + len(frames)

    for a, b in itertools.combinations(nodes.values(), 2):
        left, right = sorted((box(a), box(b)))
        gap = max(right[0] - left[2], abs(a.get_center()[1] - b.get_center()[1]) - (a.get_height() + b.get_height()) / 2)
        assert gap > 0.3
    for a, b in [*graph.edges, *graph.links]:
        path = arrows.get(f"{a} -> {b}", arrows.get(f"{a} -- {b}"))._path_original
        start, end = path.vertices[0], path.vertices[-1]
        assert relative(nodes[a], start) == pytest.approx(1, abs=1e-6)
        assert relative(nodes[b], end) == pytest.approx(1, abs=1e-6)
        for point in path.interpolated(1).to_polygons(closed_only=False)[0]:
            assert all(relative(shape, point) > 1.1 for name, shape in nodes.items() if name not in (a, b))
    for plate, frame in zip(graph.plates, frames):
        extent = frame.get_path().get_extents()
        for name, shape in nodes.items():
            x0, y0, x1, y1 = box(shape)
            if name in plate.nodes:
                assert extent.x0 < x0
                assert x1 < extent.x1
                assert extent.y0 < y0
                assert y1 < extent.y1
            else:
                assert x1 < extent.x0 or extent.x1 < x0 or y1 < extent.y0 or extent.y1 < y0
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    assert axes.get_position().bounds == pytest.approx((0, 0, 1, 1))  # the limits are those of the page
    wide, high = axes.figure.get_size_inches()
    assert wide / (right - left) == pytest.approx(0.72)  # nodes and letters are of one size, in pictures of all sizes
    assert high / (top - bottom) == pytest.approx(0.72)
    for shape in nodes.values():
        x0, y0, x1, y1 = box(shape)
        assert left < x0 < x1 < right
        assert bottom < y0 < y1 < top


@pytest.mark.parametrize("p", FIGURES.values(), ids=FIGURES)
def test_labels_fit_in_their_nodes(p):
    graph = p.graph(observed=[p.var[-1]])
    figure = figure_of(graph)
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes, nodes, _, _ = drawn(figure)
    for node, text in zip(graph.nodes, axes.texts[len(graph.plates) :]):
        extent = text.get_window_extent(renderer).transformed(axes.transData.inverted())
        x0, y0, x1, y1 = box(nodes[node.name])
        assert x0 < extent.x0
        assert extent.x1 < x1
        assert y0 < extent.y0
        assert extent.y1 < y1


def test_kinds_are_told_apart():
    p = (normal("y", ["h"]) * function()).marginalize_var("h")
    axes, nodes, _, _ = drawn(p.graph(observed=["y"]).figure())
    assert {name for name, shape in nodes.items() if isinstance(shape, Rectangle)} == {"last", "x", "z"}
    assert {name: shape.get_linestyle() for name, shape in nodes.items()} == {
        **dict.fromkeys("yxz", "solid"),
        "last": "solid",
        "h": "dashed",
    }
    assert [patch.get_gid() for patch in axes.patches if str(patch.get_gid()).endswith("(inner)")] == ["h (inner)"]
    (inner,) = [patch for patch in axes.patches if patch.get_gid() == "h (inner)"]
    gaps = (nodes["h"].width - inner.width, nodes["h"].height - inner.height)
    assert gaps[0] == pytest.approx(gaps[1])  # two lines, as far apart at the side as above
    assert 0.05 < gaps[0] < 0.2
    assert inner.center == nodes["h"].center
    assert nodes["y"].get_facecolor()[:3] == (0.8, 0.8, 0.8)
    assert nodes["h"].get_facecolor()[:3] == (1, 1, 1)


def test_labels_are_set_as_in_papers():
    p = normal("x'", ["z_{t+1}", "h_prev"]) * normal("z_{t+1}", ["theta"])
    axes, _, _, _ = drawn(p.graph().figure())
    assert {text.get_text() for text in axes.texts} == {"$x'$", "$z_{t+1}$", r"$h_{\mathrm{prev}}$", r"$\theta$"}
    axes, _, _, _ = drawn(chain(10).graph().figure())
    assert r"$t = 2,\ldots,10$" in {text.get_text() for text in axes.texts}


def test_a_chain_runs_from_left_to_right():
    _, nodes, _, _ = drawn(chain(6).graph(plates=False).figure())
    z, x = ([nodes[f"{v}_{t}"].get_center() for t in range(1, 7)] for v in "zx")
    assert [c[0] for c in z] == sorted(c[0] for c in z)
    assert len({round(c[1], 9) for c in z}) == 1
    assert [c[0] for c in x] == pytest.approx([c[0] for c in z], abs=1e-6)
    assert all(above[1] > below[1] for above, below in zip(z, x))


@pytest.mark.parametrize("p", [case[0] for case in PLATES.values() if case[2]], ids=[name for name, case in PLATES.items() if case[2]])
def test_the_steps_of_a_folded_chain_run_from_left_to_right(p):
    graph = p.graph(observed=[p.var[-1]])
    _, nodes, _, _ = drawn(figure_of(graph))
    height = {name: shape.get_center()[1] for name, shape in nodes.items()}
    level = [(a, b) for a, b in [*graph.links, *graph.edges] if height[a] == height[b]]
    assert level
    assert all(nodes[a].get_center()[0] < nodes[b].get_center()[0] for a, b in level)


@pytest.mark.parametrize("count", [2, 5])
def test_a_parent_stands_over_the_middle_of_its_children(count):
    _, nodes, _, _ = drawn(data(count).graph(plates=False).figure())
    x = {name: shape.get_center()[0] for name, shape in nodes.items()}
    children = sorted(x[f"x_{n}"] for n in range(1, count + 1))
    assert (children[0] + children[-1]) / 2 == pytest.approx(x["theta"], abs=0.01)
    assert sum(children) / count == pytest.approx(x["theta"], abs=0.01)


def test_a_long_edge_takes_the_room_that_was_kept_rather_than_a_wide_bow():
    _, _, arrows, _ = drawn(random_graph(12, 1).graph(plates=False).figure())
    assert len(arrows["v_0 -> v_6"]._path_original.vertices) > 3  # a bow is one piece of three points


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_save(tmp_path, suffix, start):
    path = tmp_path / f"model.{suffix}"
    chain(3).graph().save(path)
    assert path.read_bytes().startswith(start)


def test_a_notebook_shows_the_figure():
    svg = data(3).graph()._repr_svg_()
    assert svg.rstrip().endswith("</svg>")
    assert svg.count('id="theta -&gt; x_n"') == 1


def test_without_matplotlib_there_is_text(monkeypatch):
    for module in [m for m in sys.modules if m.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, module, None)
    graph = normal("z").graph()
    assert graph._repr_svg_() is None
    assert graph.mermaid().splitlines()[1] == '  n0(("z")):::latent'
    with pytest.raises(ImportError) as error:
        graph.figure()
    assert str(error.value) == (
        "A figure of a graph is drawn with matplotlib, which is not here: pip install pixyz-core[plot]. "
        "Without it, .mermaid() gives the graph as text."
    )


def test_a_graph_is_data():
    assert data(3).graph() == data(3).graph()
    assert data(3).graph() != data(4).graph()
    assert isinstance(data(3).graph(), Graph)
