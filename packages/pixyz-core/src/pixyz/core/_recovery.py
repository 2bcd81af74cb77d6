"""What an elimination summed or integrated out last, drawn or summarised: the way back."""

import torch
from torch import Tensor

from ._copies import FINITE
from ._dims import Dims, Term, align
from ._elimination import Elimination
from ._indices import draw_indices
from ._noise import normal_noise
from ._order import Step
from ._potentials import LOG_TWO_PI, Form, root
from ._scope import Scope


class Recovered:
    """The distribution of the variables that an elimination left to the last, given what the scope binds.

    Attributes:
        eliminated: the run, with the log-evidence.

    Args:
        elimination: what to run.
        scope: binds what is given.
        var: the variables to recover.
    """

    def __init__(self, elimination: Elimination, scope: Scope, var: tuple[str, ...]) -> None:
        self.elimination = elimination
        self.eliminated = elimination.run(scope)
        self.var = var

    def points(self, v: str) -> Tensor:
        """All values of a finite variable, or a zero of a Gaussian one."""
        return self.eliminated.points[self.elimination.owners[v]]

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """One draw for each variable, `(*dims, *features)`: what was eliminated last is drawn first."""
        drawn: dict[str, Tensor] = {}
        with torch.set_grad_enabled(pathwise and torch.is_grad_enabled()):
            for step, product in reversed(self.eliminated.last):
                if product.form is None:
                    found = _draw_table(step, product.constant, product.dims, drawn, dims, sizes)
                else:
                    found = _draw_form(step, product.form, product.dims, drawn, dims, sizes)
                drawn.update(zip(step.variables, found.unbind(len(dims))))
            return [Term(self._value(v, drawn[v]), dims) for v in self.var]

    def statistic(self, what: str) -> Term:
        """The mean, variance, mode or entropy of one variable.

        Raises:
            NotImplementedError: for several variables, and for the mode and entropy of a mixture.
        """
        if len(self.var) != 1:
            raise NotImplementedError
        v = self.var[0]
        (_, product), *above = self.eliminated.last
        evidence, outer = self.eliminated.log_evidence
        sizes = [evidence.shape[outer.index(d)] for d in product.dims]
        if product.form is None:  # what has finitely many values is summed out last, so nothing stands above
            value = _of_table(what, product.constant.squeeze(-2).log_softmax(-1), self.points(v))
            return Term(value.expand(*sizes, *value.shape[len(sizes) :]), product.dims)
        if not above:
            value = _of_form(what, Form(product.form.linear.squeeze(-2), product.form.quadratic.squeeze(-3), product.form.sizes))
            return Term(value.expand(sizes) if what == "entropy" else self._value(v, value.expand(*sizes, value.shape[-1])), product.dims)
        (_, weights), *more = above
        if more or what not in ("mean", "variance"):
            raise NotImplementedError
        dims = weights.dims  # it has been multiplied by what was integrated out, so they are all
        probs = weights.constant.squeeze(-2).softmax(-1).unsqueeze(-1)
        form = Form(product.form.linear.squeeze(-3), product.form.quadratic.squeeze(-4), product.form.sizes)
        mean = align(_of_form("mean", form), product.dims, dims)
        value = (probs * mean).sum(-2)
        if what == "variance":
            value = (probs * (align(_of_form("variance", form), product.dims, dims) + mean.square())).sum(-2) - value.square()
        sizes = [evidence.shape[outer.index(d)] for d in dims]
        return Term(self._value(v, value.expand(*sizes, value.shape[-1])), dims)

    def _value(self, v: str, drawn: Tensor) -> Tensor:
        """What was drawn, a number or a vector, as the variable's value."""
        points = self.points(v)
        if self.elimination.kinds[v] == FINITE:
            return points[drawn]
        return drawn if points.ndim else drawn.squeeze(-1)


def _draw_table(step: Step, table: Tensor, own: Dims, drawn: dict[str, Tensor], dims: Dims, sizes: list[int]) -> Tensor:
    """The numbers of the points that are drawn, `(*dims, m)`."""
    shape = (*sizes, len(step.variables))
    log_weights = _at_neighbours(table, own, step, drawn, dims, shape, 1, 0)
    count = log_weights.shape[-1]
    weights = log_weights.softmax(-1).expand(*shape, count).reshape(-1, count)
    return draw_indices(weights, 1).reshape(shape)


def _draw_form(step: Step, form: Form, own: Dims, drawn: dict[str, Tensor], dims: Dims, sizes: list[int]) -> Tensor:
    """The vectors that are drawn, `(*dims, m, D)`, with their gradients."""
    shape = (*sizes, len(step.variables))
    linear, quadratic, lengths = form
    linear = _at_neighbours(linear, own, step, drawn, dims, shape, 0, 1)
    quadratic = _at_neighbours(quadratic, own, step, drawn, dims, shape, 0, 2)
    d = lengths[0]
    white, _ = root(quadratic[..., :d, :d])
    linear = linear[..., :d]
    if len(lengths) > 1:
        around = torch.cat([_stacked(step, drawn, n, dims) for n in range(step.finite_neighbours, len(step.neighbours[0]))], -1)
        linear = linear - (quadratic[..., :d, d:] @ around.unsqueeze(-1)).squeeze(-1)
    noise = normal_noise((*shape, d), linear)
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


def _of_form(what: str, form: Form) -> Tensor:
    """The mean (and mode) or variance, `(..., D)`, or the entropy in nats, `(...)`, of one normal variable."""
    white, half_log_det = root(form.quadratic)
    if what == "entropy":
        return 0.5 * white.shape[-1] * (1 + LOG_TWO_PI) - half_log_det
    if what == "variance":
        return white.square().sum(-2)
    return (white.mT @ (white @ form.linear.unsqueeze(-1))).squeeze(-1)
