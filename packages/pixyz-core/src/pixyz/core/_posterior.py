"""Posteriors: the conditionals of a model the other way round, where they are exact."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ._copies import FINITE, GAUSSIAN
from ._dims import BATCH, Dims, Term, align, broadcast
from ._distribution import Distribution
from ._elimination import Eliminated, Elimination
from ._errors import FormulaError, SupportError
from ._formula import Density, Equation, Formula, Ratio
from ._joint import Joint
from ._leaves import register_leaves
from ._order import Step
from ._potentials import LOG_TWO_PI, Stack, root
from ._scope import Binding, Factor, Scope
from ._single import Single
from ._variables import check_names, suggest


def posterior(p: Distribution, names: Iterable[str]) -> Distribution:
    """p(names | everything else that p shows)."""
    asked = check_names((names,) if isinstance(names, str) else names, "posterior")
    known = (*p.var, *sorted(p.hidden_var))
    for v in asked:
        if v not in known:
            raise FormulaError(f"{p.prob_text} has no variable {v} to infer.{suggest(v, known)}")
    # A variable that is given, with all that it depends on, has no part in the posterior.
    given = {v for v in (*p.var, *p.cond_var) if v not in asked}
    factors = [f for f in p.factors if not given.issuperset((*f.var, *f.cond_var))]
    joint = Joint(factors, p.hidden_var.difference(asked))
    return joint if set(joint.var) == set(asked) else Posterior(joint, asked)


class Posterior(Single):
    r"""p(z|x) = p(x,z)/p(x), by exact elimination; made by `p.posterior("z")`.

    One finite variable can be enumerated; the draws of Gaussian variables have gradients.

    Args:
        joint: the model of what is inferred and what is given.
        var: the variables that are inferred.

    Raises:
        IntractableError: if a variable that has to be summed or integrated out is neither finite nor linear-Gaussian.
    """

    distribution_name = "posterior"

    def __init__(self, joint: Joint, var: tuple[str, ...]) -> None:
        super().__init__()
        self.var = var
        self.cond_var = (*[v for v in joint.var if v not in var], *joint.cond_var)
        self.name = joint.name
        self.joint = (joint,)  # in a tuple, lest it be registered
        instead = f"Fit a q({','.join(var)}|...) with an ELBO, and draw from it."
        self.elimination = Elimination(joint.ancestral, joint.hidden_var.union(var), last=var, who=self.density, instead=instead)
        kinds = {self.elimination.kinds[v] for v in self.elimination.last_variables}
        self.has_rsample = kinds == {GAUSSIAN}
        self.has_enumerate = len(var) == 1 and kinds == {FINITE}
        register_leaves(self, [f.dist for f in joint.factors])

    @property
    def formula(self) -> Formula:
        (joint,) = self.joint
        return Equation(
            self.density, Ratio(joint.density, Density(joint.name, self.cond_var[: len(joint.var) - len(self.var)], joint.cond_var))
        )

    def _architecture(self) -> tuple[str, str]:
        return "", self.joint[0].networks()

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "PosteriorGiven":
        inner = Scope(scope.shared, dict(zip(self.cond_var, inputs)), scope.batch, scope.samples, scope.group)
        return PosteriorGiven(self, factor, inner)


class PosteriorGiven:
    """A posterior given its inputs, in one evaluation."""

    def __init__(self, posterior: Posterior, factor: Factor, scope: Scope) -> None:
        self.posterior = posterior
        self.factor = factor
        self.scope = scope
        self.eliminated: Eliminated = posterior.elimination.run(scope)
        evidence, self.dims = self.eliminated.log_evidence
        self.batch: int | None = evidence.shape[-1] if BATCH in self.dims else None
        if scope.shared.validate and evidence.isneginf().any():
            bad = int(evidence.isneginf().sum())
            raise SupportError(
                f"{factor}: {', '.join(factor.cond_var)} has probability zero for {bad} of {evidence.numel()} data, so nothing follows from it."
            )

    def log_prob(self, values: tuple[Binding, ...], factor: Factor, validate: bool) -> Term:
        """log p(z|x) = log p(x,z) - log p(x), in nats."""
        inner = self.scope.inside(dict(zip(self.posterior.var, values)), self.scope.batch, self.scope.samples, self.scope.group)
        x, y, dims = broadcast(self.posterior.joint[0].evaluate_log_prob(inner, factor), self.eliminated.log_evidence, factor)
        return Term(x - y, dims)

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """One draw for each variable: what was eliminated last is drawn first."""
        drawn: dict[str, Tensor] = {}
        with torch.set_grad_enabled(pathwise and torch.is_grad_enabled()):
            for step, product in reversed(self.eliminated.last):
                found = (
                    _draw_finite(step, product, drawn, dims, sizes) if step.is_finite else _draw_gaussian(step, product, drawn, dims, sizes)
                )
                drawn.update(zip(step.variables, found.unbind(len(dims))))
            return [Term(self._value(v, drawn[v]), dims) for v in self.posterior.var]

    def support_size(self) -> int:
        """The number of values of the one finite variable."""
        return self._points(self.posterior.var[0]).shape[0]

    def enumerate_support(self) -> list[Tensor]:
        """All values of the one finite variable."""
        return [self._points(self.posterior.var[0])]

    def statistic(self, what: str) -> Term:
        """Of one variable, where no other has to be drawn with it."""
        if len(self.eliminated.last) > 1 or len(self.posterior.var) > 1:
            raise NotImplementedError
        ((_, product),) = self.eliminated.last
        v = self.posterior.var[0]
        dims = product.dims
        evidence, outer = self.eliminated.log_evidence
        sizes = [evidence.shape[outer.index(d)] for d in dims]
        if product.form is None:
            value = _of_table(what, product.constant.squeeze(-2).log_softmax(-1), self._points(v))
            return Term(value.expand(*sizes, *value.shape[len(sizes) :]), dims)
        white, half_log_det = root(product.form.quadratic.squeeze(-3))
        d = white.shape[-1]
        if what == "entropy":
            return Term((0.5 * d * (1 + LOG_TWO_PI) - half_log_det).expand(sizes), dims)
        if what == "variance":
            value = white.square().sum(-2)
        else:
            value = (white.mT @ (white @ product.form.linear.squeeze(-2).unsqueeze(-1))).squeeze(-1)
        return Term(self._value(v, value.expand(*sizes, d)), dims)

    def _points(self, v: str) -> Tensor:
        return self.eliminated.points[self.posterior.elimination.owners[v]]

    def _value(self, v: str, drawn: Tensor) -> Tensor:
        """What was drawn, a number or a vector, as the variable's value."""
        points = self._points(v)
        if self.posterior.elimination.kinds[v] == FINITE:
            return points[drawn]
        return drawn if points.ndim else drawn.squeeze(-1)


def _draw_finite(step: Step, product: Stack, drawn: dict[str, Tensor], dims: Dims, sizes: list[int]) -> Tensor:
    """The numbers of the points that are drawn, `(*dims, m)`."""
    shape = (*sizes, len(step.variables))
    log_weights = _at_neighbours(product.constant, product.dims, step, drawn, dims, shape, 1, 0)
    count = log_weights.shape[-1]
    weights = log_weights.softmax(-1).expand(*shape, count).reshape(-1, count)
    return torch.multinomial(weights, 1, replacement=True).reshape(shape)


def _draw_gaussian(step: Step, product: Stack, drawn: dict[str, Tensor], dims: Dims, sizes: list[int]) -> Tensor:
    """The vectors that are drawn, `(*dims, m, D)`, with their gradients."""
    assert product.form is not None
    shape = (*sizes, len(step.variables))
    linear, quadratic, lengths = product.form
    linear = _at_neighbours(linear, product.dims, step, drawn, dims, shape, 0, 1)
    quadratic = _at_neighbours(quadratic, product.dims, step, drawn, dims, shape, 0, 2)
    d = lengths[0]
    white, _ = root(quadratic[..., :d, :d])
    linear = linear[..., :d]
    if len(lengths) > 1:
        around = torch.cat([_stacked(step, drawn, n, dims) for n in range(step.finite_neighbours, len(step.neighbours[0]))], -1)
        linear = linear - (quadratic[..., :d, d:] @ around.unsqueeze(-1)).squeeze(-1)
    noise = torch.empty(*shape, d, dtype=linear.dtype, device=linear.device).normal_()
    # The mean J⁻¹h and a noise of covariance J⁻¹, by J⁻¹ = RᵀR.
    return (white.mT @ ((white @ linear.unsqueeze(-1)) + noise.unsqueeze(-1))).squeeze(-1)


def _stacked(step: Step, drawn: dict[str, Tensor], n: int, dims: Dims) -> Tensor:
    """What was drawn for the n-th neighbour of each variable, `(*dims, m, ...)`."""
    return torch.stack([drawn[group[n]] for group in step.neighbours], len(dims))


def _at_neighbours(
    t: Tensor, own: Dims, step: Step, drawn: dict[str, Tensor], dims: Dims, shape: tuple[int, ...], before: int, behind: int
) -> Tensor:
    """`(*dims, m, *before, *finite, *behind)` where the finite neighbours are those drawn, `(*dims, m, *before, *behind)`."""
    t = align(t, own, dims)
    for n in range(step.finite_neighbours):
        axis = len(shape) + before
        index = _stacked(step, drawn, n, dims)
        t = t.expand(*shape, *t.shape[t.ndim - before - behind - (step.finite_neighbours - n) :])
        index = index.reshape(*shape, *[1] * (t.ndim - len(shape)))
        t = t.take_along_dim(index, axis).squeeze(axis)
    return t


def _of_table(what: str, log_probs: Tensor, points: Tensor) -> Tensor:
    """The mean, variance or mode of points, or their entropy in nats."""
    probs = log_probs.exp()
    if what == "entropy":
        return -torch.where(probs > 0, probs * log_probs, 0.0).sum(-1)
    if what == "mode":
        return points[log_probs.argmax(-1)]
    flat = points.flatten(1)
    mean = probs @ flat
    value = mean if what == "mean" else probs @ flat.square() - mean.square()
    return value.reshape(*value.shape[:-1], *points.shape[1:])
