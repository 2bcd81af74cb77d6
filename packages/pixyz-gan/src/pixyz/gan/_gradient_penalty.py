"""The gradient penalty between the data and the fakes."""

from collections.abc import Mapping

import torch

from pixyz.core import AnyEstimator, Distribution, Game, Loss, Scope, Term, align
from pixyz.core import formula as f

from ._duel import Duel
from ._penalties import Slope


class GradientPenalty(Game):
    r"""How far the slope of the discriminator is from 1 between the data and the fakes, `()`:

    $$\mathbb{E}_{\hat x}\left[(\|\nabla_{\hat x} d(\hat x)\| - 1)^2\right], \qquad
    \hat x = \epsilon x' + (1 - \epsilon) x, \quad \epsilon \sim U(0, 1), \quad x' \sim p_\mathrm{data}, \quad x \sim p$$

    A penalty: `AdversarialWassersteinDistance(p, d) - 10 * GradientPenalty(p, d)`. In print the place between is `x_between`. A
    discriminator with batch normalisation has no slope for a datum alone.

    Args:
        p: the generator.
        d: the discriminator.
        real: what p imitates, if not the data.
        one_sided: whether only slopes above 1 count.
        estimator: as in `Expectation`.

    Source:
        Gulrajani et al. (2017), eq. 3, https://arxiv.org/abs/1704.00028
    """

    def __init__(
        self,
        p: Distribution,
        d: Distribution,
        real: Distribution | None = None,
        *,
        one_sided: bool = False,
        estimator: AnyEstimator | None = None,
    ) -> None:
        duel = Duel(p, d, real, estimator)
        between = {v: f"{v}_between" for v in duel.seen}
        excess = Slope(d.replace_var(**between), between.values()) - 1.0
        penalty = (excess.clamp(min=0.0) if one_sided else excess) ** 2
        super().__init__(duel.pair(Between(penalty, between, duel.names_of_data)), (), d)


class Between(Loss):
    """A loss at a random place on the line between the fakes and the real ones, the same for all variables.

    Args:
        loss: the loss.
        between: for each variable what it is called in the loss.
        real: what it is called on the real side.
    """

    def __init__(self, loss: Loss, between: Mapping[str, str], real: Mapping[str, str]) -> None:
        seen = [v for v in loss.input_var if v not in between.values()]
        super().__init__([loss], input_var=[*between, *seen, *real.values()], stochastic=True)
        self._loss = loss
        self._names = [(v, real[v], place) for v, place in between.items()]

    @property
    def formula(self) -> f.Formula:
        return self._loss.formula

    def evaluate(self, scope: Scope) -> Term:
        share = None
        inner = scope.inside({}, scope.batch, scope.samples, scope.group)
        for v, second, place in self._names:
            fake, real = scope.bindings[v], scope.bindings[second]
            x, y = fake.tensor.detach(), real.tensor.detach()
            if share is None:
                share = torch.rand(x.shape[: len(fake.dims)], dtype=x.dtype, device=x.device)
            part = share.reshape(*share.shape, *[1] * len(fake.features))
            inner.bind(place, torch.lerp(x, align(y, real.dims, fake.dims), part), fake.dims)
        return inner.evaluate(self._loss)
