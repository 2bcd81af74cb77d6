"""From a distribution to its graph."""

from collections.abc import Iterable, Sequence

from .._bindings import Factor
from .._distribution import Distribution
from .._errors import FormulaError
from .._fixed import Fixed
from .._variables import check_names, suggest
from ._parts import Kind, Node, Structure
from ._picture import Graph
from ._plates import fold_copies, mark_steps


def graph_of(p: Distribution, observed: str | Iterable[str], plates: bool) -> Graph:
    """The graph of a distribution."""
    fixed = tuple(v for f in p.factors if isinstance(f.dist, Fixed) for v in f.var)
    given, hidden = (*p.cond_var, *fixed), p.hidden_var.difference(fixed)
    seen = check_names((observed,) if isinstance(observed, str) else observed, "observed")
    for v in seen:
        if v in hidden:
            raise FormulaError(f"{p.prob_text}: {v} is marginalised out, so it is not observed. Take the graph of the joint.")
        if v not in (*p.var, *given):
            raise FormulaError(f"{p.prob_text} has no variable {v} to observe.{suggest(v, (*p.var, *given))}")
    factors = _parents_first([f for f in p.factors if not isinstance(f.dist, Fixed)])

    def kind(v: str) -> Kind:
        return "hidden" if v in hidden else "observed" if v in seen else "latent"

    nodes = [Node(v, "given") for v in given] + [Node(v, kind(v), f.dist.is_deterministic) for f in factors for v in f.var]
    edges = dict.fromkeys((c, v) for f in factors for v in f.var for c in f.cond_var)
    raw = Structure(tuple(nodes), tuple(edges))
    done = fold_copies(raw, factors) if plates else mark_steps(raw, factors)
    return Graph(done.nodes, done.edges, done.plates, done.links, done.steps)


def _parents_first(factors: Sequence[Factor]) -> list[Factor]:
    """In the order written, but for what depends on later ones."""
    rest, done = list(factors), []
    while rest:
        waiting = {v for f in rest for v in f.var}
        done.append(next(f for f in rest if waiting.isdisjoint(f.cond_var)))
        rest.remove(done[-1])
    return done
