"""The generative adversarial network as a model."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pixyz.core import Distribution, Loss, reading_is_free
from pixyz.models import Model, Optimizer

from ._judged import need_discriminator
from ._last_layer import squashing_layer
from ._losses import AdversarialNonSaturating

WATCHED = 20


class GAN(Model):
    r"""A generative adversarial network: a generator and a discriminator, each with an optimiser of its own.

    Args:
        p: the generator, such as `(generator * prior).marginalize_var("z")`; nothing but its draws is needed.
        discriminator: d(t|x), a `Deterministic` or `Bernoulli` whose number is a logit.
        loss: what they play for, made of p and d: an adversarial loss of this package, or a function,
            `lambda p, d: AdversarialWassersteinDistance(p, d) - 10 * GradientPenalty(p, d)`.
        optimizer: that of the generator, a class from `torch.optim`; Adam, if not given.
        optimizer_params: its arguments.
        d_optimizer: that of the discriminator; the same class, if not given.
        d_optimizer_params: its arguments; those of the generator's optimiser if neither is given.
        scheduler, scheduler_params, d_scheduler, d_scheduler_params: the same for the learning rates.
        options: those of `Model`: `n_critic`, `ema`, which averages the generator, `compile`, and the others.

    Raises:
        FormulaError, ParameterError: as the loss.

    Examples:
        >>> from torch import nn
        >>> from pixyz.distributions import Deterministic, Normal
        >>> generator = Deterministic("p(x|z)", x=nn.Linear(4, 2))
        >>> p = (generator * Normal("p(z)", loc=0.0, scale=1.0, dim=4)).marginalize_var("z")
        >>> d = Deterministic("d(t|x)", t=nn.Linear(2, 1))
        >>> model = GAN(p, d, optimizer_params={"lr": 1e-3})
        >>> loss, d_loss = model.train({"x": torch.randn(8, 2)})
        >>> print(model)
        GAN
          plays:      min_p -E_p(x)[log d(x)]; max_d E_p_data(x)[log d(x)] + E_p(x)[log (1 - d(x))]
          trains:     p(x|z): 10 parameters
                      d(t|x): 3 parameters
          optimiser:  Adam(lr=0.001) for p(x|z), p(z)
                      Adam(lr=0.001) for d(t|x)

    Source:
        Goodfellow et al. (2014), https://arxiv.org/abs/1406.2661
    """

    def __init__(
        self,
        p: Distribution,
        discriminator: Distribution,
        *,
        loss: Callable[[Distribution, Distribution], Loss] = AdversarialNonSaturating,
        optimizer: Any = torch.optim.Adam,
        optimizer_params: Mapping[str, Any] | None = None,
        d_optimizer: Any = None,
        d_optimizer_params: Mapping[str, Any] | None = None,
        scheduler: Any = None,
        scheduler_params: Mapping[str, Any] | None = None,
        d_scheduler: Any = None,
        d_scheduler_params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        need_discriminator(discriminator)
        if d_optimizer is None and d_optimizer_params is None:
            d_optimizer_params = optimizer_params
        rows = (
            (p, optimizer, optimizer_params, scheduler, scheduler_params),
            (discriminator, d_optimizer or optimizer, d_optimizer_params, d_scheduler, d_scheduler_params),
        )
        optimizers = [
            Optimizer([part], made, params or {}, scheduler=schedule, scheduler_params=arguments or {})
            for part, made, params, schedule, arguments in rows
        ]
        super().__init__(loss(p, discriminator), optimizers=optimizers, p=p, **options)
        self.discriminator = discriminator
        is_known = not discriminator.factors[0].dist.is_deterministic or squashing_layer(discriminator) is not None
        self._unwatched = WATCHED + 1 if is_known else 0
        self._like_probabilities: Tensor | None = None

    def _train(self, values: Mapping[str, Any], options: Mapping[str, Any], engine: Any) -> Tensor:
        losses = super()._train(values, options, engine)
        if self._unwatched < WATCHED:
            self._watch(values)
        return losses

    def _watch(self, values: Mapping[str, Any]) -> None:
        """Looks at the numbers that the discriminator gives for a batch; a warning says if, batch for batch, they look like probabilities.

        Where the host may not read them, the answer stays on the device until `check` asks for it.
        """
        d = self.discriminator
        if not set(d.cond_var).issubset(values):  # something of what it sees is drawn
            self._unwatched = WATCHED + 1
            return
        d.eval()
        with torch.no_grad():
            (number,) = d.sample({v: values[v] for v in d.cond_var}, return_all=False).values()
            least, most = number.aminmax()
            found = (least >= 0) & (most <= 1)
        d.train()
        self._like_probabilities = found if self._like_probabilities is None else self._like_probabilities & found
        self._unwatched += 1
        if self.validate is True and reading_is_free(found.device):
            self._warn_of_probabilities(stacklevel=5)

    def check(self) -> None:
        """As that of every model; and the warning of a discriminator that gives probabilities."""
        super().check()
        if self._unwatched == WATCHED:
            self._warn_of_probabilities(stacklevel=3)

    def _warn_of_probabilities(self, *, stacklevel: int) -> None:
        if self._like_probabilities is None or not self._like_probabilities:
            self._unwatched = WATCHED + 1
        elif self._unwatched == WATCHED:
            self._unwatched += 1
            warnings.warn(
                f"{self.discriminator.prob_text}: for {WATCHED} batches all of its numbers lay between 0 and 1, like probabilities. It "
                "must give logits, any number: leave the sigmoid out of its network, for the loss has one.",
                stacklevel=stacklevel,
            )
