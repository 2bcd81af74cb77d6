"""Penalties on the slope of a discriminator. They are subtracted: the discriminator maximises."""

from collections.abc import Iterable

import torch

from pixyz.core import AnyEstimator, Distribution, Game, Loss, Scope, Term
from pixyz.core import formula as f

from ._duel import Duel
from ._judged import number_of


class Slope(Loss):
    r"""$\|\nabla_x d(x)\|$, `(batch,)`, over all features of the variables together; with its gradient for the parameters of d alone.

    Args:
        d: the discriminator.
        variables: x: with respect to which.
    """

    def __init__(self, d: Distribution, variables: Iterable[str]) -> None:
        super().__init__([d], input_var=d.cond_var)
        self._d = (d,)
        self._variables = tuple(variables)

    @property
    def formula(self) -> f.Formula:
        (d,) = self._d
        return f.Call("norm", f.Gradient(f.Density(d.name, d.cond_var), self._variables))

    def evaluate(self, scope: Scope) -> Term:
        (d,) = self._d
        is_trained = torch.is_grad_enabled()
        with torch.enable_grad():
            inner = scope.inside({}, scope.batch, scope.samples, scope.group)
            at = []
            for v in self._variables:
                tensor, dims, _ = scope.bindings[v]
                at.append(inner.bind(v, tensor.detach().requires_grad_(), dims))
            number, dims = number_of(d, inner, self)
            slopes = torch.autograd.grad(number.sum(), [b.tensor for b in at], create_graph=is_trained)
        rows = [slope.reshape(*slope.shape[: len(b.dims)], -1) for slope, b in zip(slopes, at, strict=True)]
        return Term(torch.linalg.vector_norm(rows[0] if len(rows) == 1 else torch.cat(rows, -1), dim=-1), dims)


class R1(Game):
    r"""The squared slope of the discriminator at the data, $\mathbb{E}_{p_\mathrm{data}(x)}\|\nabla_x d(x)\|^2$, `()`.

    A penalty with the weight γ/2: `game - 0.5 * gamma * R1(p, d)`.

    Args:
        p: the generator, which says what the discriminator sees of the data.
        d: the discriminator.
        real: what p imitates, if not the data.

    Source:
        Mescheder et al. (2018), eq. 9, https://arxiv.org/abs/1801.04406
    """

    def __init__(
        self, p: Distribution, d: Distribution, real: Distribution | None = None, *, estimator: AnyEstimator | None = None
    ) -> None:
        duel = Duel(p, d, real, estimator)
        super().__init__(duel.data(Slope(d, duel.seen) ** 2), (), d)


class R2(Game):
    r"""The squared slope of the discriminator at the fakes, $\mathbb{E}_{p(x)}\|\nabla_x d(x)\|^2$, `()`.

    Args:
        p: the generator.
        d: the discriminator.

    Source:
        Mescheder et al. (2018), eq. 10, https://arxiv.org/abs/1801.04406
    """

    def __init__(self, p: Distribution, d: Distribution, *, estimator: AnyEstimator | None = None) -> None:
        duel = Duel(p, d, None, estimator)
        super().__init__(duel.fake(Slope(d, duel.seen) ** 2), (), d)
