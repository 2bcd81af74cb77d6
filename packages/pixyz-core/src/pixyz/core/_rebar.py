r"""The estimate of an expectation of which one factor has the estimator `Rebar`.

With the body evaluated at the hard draw b, at the relaxed draw z and at the relaxed draw z̃ given b, it is

    E_q[f] = 1/K Σ_k f(b) + 1/K Σ_k (log q - stop(log q)) (stop(f(b) - η f(z̃)) - baseline) + η [f(z) - stop f(z)] - η [f(z̃) - stop f(z̃)],

whose value is that of the first sum. What the score loses with η f(z̃), the last two give back: z and z̃ have one distribution, so all
that is left of their difference is the gradient of log q times f(z̃) (Tucker et al. 2017, https://arxiv.org/abs/1703.07370).
"""

from collections.abc import Callable

from ._dims import Term, add
from ._drawing import Draw
from ._estimators import cost_of, reduce, weighted
from ._scope import Scope


def reduce_rebar(body: Term, d: Draw, evaluate: Callable[[Draw], Term], scope: Scope) -> Term:
    """The estimate, without the dims that the draws opened.

    Args:
        body: the term inside, at the hard draw.
        d: the hard draw, and the two relaxed ones.
        evaluate: gives the term inside at the others.
        scope: where the expectation stands.
    """
    watch, scope.shared.watch = scope.shared.watch, None  # these are no terms of the formula
    bodies = [evaluate(version) for version in d.relaxed]
    scope.shared.watch = watch
    place, scale = next((i, s.scale) for i, s in enumerate(d.scored) if s.scale is not None)
    control = cost_of(weighted(bodies[1], d.relaxed[1]), d.scored[place].log_q, d.relaxed[1])
    controlled = d.scored[place]._replace(control=Term(scale * control.tensor, control.dims))
    term = reduce(body, d._replace(scored=(*d.scored[:place], controlled, *d.scored[place + 1 :])))
    for sign, other, version in zip((scale, -scale), bodies, d.relaxed):
        t, dims = reduce(other, version)
        term = add(term, Term(sign * (t - t.detach()), dims))
    return term
