"""Penalties on the slope of a discriminator. They are subtracted: the discriminator maximises."""

from collections.abc import Iterable

import torch
from torch import Tensor

from pixyz.core import AnyEstimator, Dims, Distribution, Game, KindError, Loss, Scope, Term
from pixyz.core import formula as f

from ._duel import Duel
from ._judged import number_of


class Slope(Loss):
    r"""$\|\nabla_x d(x)\|$, `(batch,)`, over all features of the variables together.

    Its gradient is for the parameters of d. Where x has a gradient, x may receive one too, which no player's loss uses.

    Args:
        d: the discriminator.
        variables: x: with respect to which.

    Raises:
        KindError: at an evaluation, for an x of whole numbers.
    """

    def __init__(self, d: Distribution, variables: Iterable[str]) -> None:
        super().__init__([d], input_var=d.cond_var)
        self._factors = d.factors
        self._variables = tuple(variables)
        self.slope_var = frozenset(self._variables)

    @property
    def formula(self) -> f.Formula:
        (factor,) = self._factors
        return f.Call("norm", f.Gradient(f.Density(factor.dist.name, factor.cond_var), self._variables))

    def evaluate(self, scope: Scope) -> Term:
        at = [scope.bindings[v] for v in self._variables]
        tensors = [b.tensor for b in at]
        for v, tensor in zip(self._variables, tensors, strict=True):
            if not tensor.is_floating_point():
                raise KindError(f"{self}: {v} is {tensor.dtype}, along which nothing has a slope. Convert it with .to().")
        dims: Dims = ()

        def number_at(*moved: Tensor) -> Tensor:
            nonlocal dims
            inner = scope.inside({}, scope.batch, scope.samples, scope.group)
            for v, tensor, b in zip(self._variables, moved, at, strict=True):
                inner.bind(v, tensor, b.dims)
            number, dims = number_of(self._factors[0], inner, self)
            return number

        def total(*moved: Tensor) -> Tensor:
            return number_at(*moved).sum()

        is_trained = torch.is_grad_enabled()
        if torch.compiler.is_compiling():  # which traces no autograd.grad
            slopes = torch.func.grad(total, argnums=tuple(range(len(at))))(*[t.detach() for t in tensors])
        elif is_trained and all([t.requires_grad for t in tensors]):  # then the loss may have the number already
            number, dims = number_of(self._factors[0], scope, self)
            slopes = torch.autograd.grad(number, tensors, torch.ones_like(number), create_graph=True)
        else:
            with torch.enable_grad():
                moved = [t.detach().requires_grad_() for t in tensors]
                number = number_at(*moved)
                slopes = torch.autograd.grad(number, moved, torch.ones_like(number), create_graph=is_trained)
        rows = [s if s.ndim == len(b.dims) + 1 else s.reshape(*s.shape[: len(b.dims)], -1) for s, b in zip(slopes, at, strict=True)]
        return Term(self._length(rows[0] if len(rows) == 1 else torch.cat(rows, -1)), dims)

    def _length(self, slopes: Tensor) -> Tensor:
        """Of rows, `(*dims, D)`."""
        return torch.linalg.vector_norm(slopes, dim=-1)


class SquaredSlope(Slope):
    r"""$\|\nabla_x d(x)\|^2$, `(batch,)`; arguments and errors are those of `Slope`."""

    @property
    def formula(self) -> f.Formula:
        return f.Power(super().formula, f.Number(2))

    def _length(self, slopes: Tensor) -> Tensor:
        return slopes.square().sum(-1)


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
        super().__init__(duel.data(SquaredSlope(d, duel.seen)), (), d)


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
        super().__init__(duel.fake(SquaredSlope(d, duel.seen)), (), d)
