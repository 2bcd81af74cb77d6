"""Bounds whose value is that of another, and whose gradients have less variance; and wake-sleep."""

from collections.abc import Callable, Iterable

from torch.nn.modules.dropout import _DropoutNd as Dropout

from pixyz.core import (
    Binding,
    Distribution,
    Draw,
    Expectation,
    Factor,
    FormulaError,
    LogProb,
    Loss,
    Quantities,
    Scope,
    Term,
    align,
    broadcast,
    union,
)
from pixyz.core import formula as f

from ._bounds import sides_of_bound


class StoppedLogProb(Loss):
    """log q(z|x) with the gradient through what q draws alone, `(batch,)`, in nats: none for q's parameters, nor for x.

    Args:
        q: the distribution.
        handed_on: variables that q depends on, through which the gradient stays too: draws of an earlier step.

    Source:
        Roeder et al. (2017), https://arxiv.org/abs/1703.09194

    Examples:
        >>> from pixyz.distributions import Normal
        >>> print(StoppedLogProb(Normal("q(z|x)", loc="x", scale=1.0)))
        log stop(q(z|x))
    """

    def __init__(self, q: Distribution, *, handed_on: Iterable[str] = ()) -> None:
        inner = LogProb(q)
        super().__init__([inner])
        self._inner = (inner, q)
        self._handed_on = tuple(handed_on)
        self._dropout = _dropout_below(q, {*drawn_by(q), *self._handed_on})

    @property
    def formula(self) -> f.Formula:
        return f.Log(f.Call("stop", self._inner[1].density))

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities | None:
        return self._inner[0].quantities(drawn)

    def evaluate(self, scope: Scope) -> Term:
        inner, _ = self._inner
        _need_one_mask(self._dropout, self)
        tensor, dims = scope.evaluate(inner)
        # At draws without a gradient, log q has that of all else: taken away, it leaves the value as it is.
        other = at_other_draws(scope, self._inner[1], lambda b: Term(b.tensor.detach(), b.dims), self._handed_on)
        still = other.evaluate(inner).tensor
        return Term(tensor - still + still.detach(), dims)


def StickingTheLanding(p: Distribution, q: Distribution, *, num_samples: int = 1) -> Loss:
    r"""The evidence lower bound, `(batch,)`, in nats, with the path derivative: no gradient for the parameters of log q.

    $$\mathbb{E}_{q_\phi(z|x)}\left[\log p(x,z) - \log q_{\mathrm{stop}(\phi)}(z|x)\right]$$

    That gradient is zero in expectation, so what is left is unbiased; at the exact posterior it is zero for every draw.

    Args:
        p: the generative model p(x,z).
        q: the inference model q(z|x), whose draws have gradients.
        num_samples: K, how many draws are averaged.

    Raises:
        FormulaError: if a factor of q has no pathwise gradient, or a network of q that depends on draws has dropout in training
            mode; otherwise as `ELBO`.

    Source:
        Roeder et al. (2017), https://arxiv.org/abs/1703.09194
    """
    p, scored = sides_of_bound(p, q, "StickingTheLanding")
    # What both depend on may be what a sequence hands on. Where it is not, its gradient is zero in expectation too.
    stopped = StoppedLogProb(scored, handed_on=[v for v in scored.cond_var if v in p.cond_var])
    return Expectation(q, LogProb(p) - stopped, num_samples=num_samples, estimator="pathwise")


class DReG(Expectation):
    r"""The importance-weighted bound, `(batch,)`, in nats, with the doubly reparametrised gradient for q.

    The value is that of `IWAE`, and so is the gradient for p. For q's parameters φ, with normalised weights w̃,

    $$\sum_k \tilde w_k^2\, \frac{\partial \log w_k}{\partial z_k}\frac{\partial z_k}{\partial \phi},$$

    whose signal-to-noise ratio does not fall as K grows. All that the draws depend on has this gradient: networks that q computes with,
    and values given with the data. The networks of p run twice.

    Args:
        p: the generative model p(x,z).
        q: the inference model q(z|x), whose draws have gradients.
        num_samples: K.

    Raises:
        FormulaError: if a factor of q has no pathwise gradient, or a network that depends on draws has dropout in training mode;
            otherwise as `ELBO`.

    Source:
        Tucker et al. (2019), eq. 8, https://arxiv.org/abs/1810.04152
    """

    def __init__(self, p: Distribution, q: Distribution, *, num_samples: int) -> None:
        p, scored = sides_of_bound(p, q, "DReG")
        ratio = LogProb(p) - StoppedLogProb(scored)
        dropout = _dropout_below(p, drawn_by(q))
        super().__init__(q, ratio, num_samples=num_samples, estimator="pathwise", aggregate="log_mean_exp")
        self._dropout = dropout

    def body(self, scope: Scope, d: Draw) -> Term:
        first = super().body(scope, d)
        if d.sample_dim is None or d.sample_dim not in first.dims:
            return first
        _need_one_mask(self._dropout, self)
        weights = Term(first.tensor.detach().softmax(first.dims.index(d.sample_dim)), first.dims)
        return super().body(at_other_draws(scope, self.parts[0], lambda b: _slowed(b, weights)), d)


class ReweightedWakeSleep(Expectation):
    r"""The two wake phases of reweighted wake–sleep, `(batch,)`, to be maximised:

    $$\sum_k \tilde w_k \left[\log p(x, z_k) + \log q(z_k|x)\right], \qquad
    \tilde w_k \propto \frac{p(x,z_k)}{q(z_k|x)},\ z_k \sim q(z|x)$$

    an estimate of the expectation under p's posterior by importance sampling; it prints as that expectation. The weights and the
    draws have no gradient, so p is trained by its likelihood and q towards p's posterior, for discrete latent variables as well. The
    sleep phase is `LogProb(q).expectation(p)`.

    Args:
        p: the generative model p(x,z).
        q: the inference model q(z|x).
        num_samples: K, at least 2: one weight is always 1.

    Raises:
        FormulaError: for K = 1; otherwise as `ELBO`.

    Source:
        Bornschein and Bengio (2015), eq. 9 and 10, https://arxiv.org/abs/1406.2751
    """

    def __init__(self, p: Distribution, q: Distribution, *, num_samples: int) -> None:
        p, scored = sides_of_bound(p, q, "ReweightedWakeSleep")
        if num_samples == 1:
            raise FormulaError("ReweightedWakeSleep compares draws by their weights, so it needs num_samples=2 or more.")
        model, inference = LogProb(p), LogProb(scored)
        super().__init__(q, model + inference, num_samples=num_samples, estimator="score")
        self.is_biased = True  # the weights are normalised by their own sum
        self._both = (model, inference)
        self._posterior = f.Density(p.name, scored.var, (*[v for v in p.var if v not in scored.var], *p.cond_var))

    @property
    def formula(self) -> f.Formula:
        return f.Expected(self._posterior, self.parts[1].formula)

    def body(self, scope: Scope, d: Draw) -> Term:
        model, inference = self._both
        x, y, dims = broadcast(scope.evaluate(model), scope.evaluate(inference), self)
        total = Term(x + y, dims)
        if d.sample_dim is None or d.sample_dim not in dims:
            return total
        axis = dims.index(d.sample_dim)
        weights = (x - y).detach().softmax(axis)
        return Term((weights * total.tensor).sum(axis), dims[:axis] + dims[axis + 1 :])


def drawn_by(q: Distribution) -> set[str]:
    """The variables that q draws, or computes from what it draws."""
    found: set[str] = set()
    for factor in q.ancestral:
        if not factor.dist.is_deterministic or not found.isdisjoint(factor.cond_var):
            found.update(factor.var)
    return found


def _dropout_below(p: Distribution, drawn: set[str]) -> list[Dropout]:
    """The dropout layers of the networks of p that depend on draws, which `at_other_draws` runs again."""
    factors = [x for x in p.ancestral if not drawn.isdisjoint(x.cond_var)]
    return [m for x in factors for m in x.dist.modules() if isinstance(m, Dropout)]


def _need_one_mask(layers: list[Dropout], who: object) -> None:
    """Raises an error where a second run of a network would draw another mask."""
    if any([m.training and m.p > 0 for m in layers]):
        raise FormulaError(
            f"{who} runs networks that depend on draws twice, and their dropout has another mask each time, so that the gradient would be "
            "wrong. Call .eval() on these networks, or take IWAE or ELBO."
        )


def at_other_draws(scope: Scope, q: Distribution, other: Callable[[Binding], Term], handed_on: Iterable[str] = ()) -> Scope:
    """This scope with other draws of q and of earlier steps, and with what q computes from them computed anew."""
    inner = scope.inside({}, scope.batch, scope.samples, scope.group)
    changed: set[str] = set()

    def replace(names: Iterable[str]) -> None:
        for v in names:
            b = scope.bindings.get(v)
            if b is not None and b.tensor.requires_grad:
                inner.rebind(v, *other(b), b)
                changed.add(v)

    replace(handed_on)
    for factor in q.ancestral:
        if not factor.dist.is_deterministic:
            replace(factor.var)
        elif not changed.isdisjoint(factor.cond_var):
            for v, term in zip(factor.var, inner.conditional(factor).draw((), [], pathwise=True)):
                inner.bind(v, *term)
            changed.update(factor.var)
    return inner


def _slowed(b: Binding, weights: Term) -> Term:
    """The same value, with its gradient times the weights."""
    dims = union(b.dims, weights.dims)
    t, w = align(b.tensor, b.dims, dims), align(weights.tensor, weights.dims, dims)
    w = w.reshape(*w.shape, *[1] * len(b.features))
    return Term(t.detach() + w * (t - t.detach()), dims)
