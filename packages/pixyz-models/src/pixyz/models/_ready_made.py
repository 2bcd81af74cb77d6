"""Models that write their own loss."""

from typing import Any

from pixyz.core import Distribution, FormulaError, LogProb, Loss
from pixyz.losses import ELBO, NLL, KullbackLeibler

from ._model import Model


class VI(Model):
    """Variational inference: minimises the mean of -ELBO over the batch.

    Args:
        p: the generative model p(x,z).
        approximate_dist: the inference model q(z|x).
        num_samples: how many draws of q are averaged.
        options: those of `Model`.
    """

    def __init__(self, p: Distribution, approximate_dist: Distribution, *, num_samples: int = 1, **options: Any) -> None:
        super().__init__(-ELBO(p, approximate_dist, num_samples=num_samples).mean(), p=p, q=approximate_dist, **options)


class VAE(Model):
    """A variational autoencoder: minimises the mean of -E_q(z|x)[log p(x|z)] + KL[q(z|x)||p(z)].

    Args:
        encoder: q(z|x).
        decoder: p(x|z).
        prior: p(z).
        regularizer: another loss in place of the KL divergence, one value per datum.
        num_samples: how many draws of the encoder are averaged.
        options: those of `Model`. With a regularizer, `p=` may tell what `sample` and `log_likelihood` ask.

    Raises:
        FormulaError: unless exactly one of prior and regularizer is given.
    """

    def __init__(
        self,
        encoder: Distribution,
        decoder: Distribution,
        prior: Distribution | None = None,
        *,
        regularizer: Loss | None = None,
        num_samples: int = 1,
        **options: Any,
    ) -> None:
        if prior is not None and regularizer is None:
            regularizer = KullbackLeibler(encoder, prior, num_samples=num_samples)
        elif prior is not None or regularizer is None:
            raise FormulaError("VAE takes either a prior, for KL[encoder||prior], or a regularizer of its own; give one of them.")
        reconstruction = LogProb(decoder).expectation(encoder, num_samples=num_samples)
        if prior is not None:
            options.setdefault("p", decoder * prior)
        super().__init__((-reconstruction + regularizer).mean(), q=encoder, **options)
        self.encoder = encoder
        self.decoder = decoder


class ML(Model):
    """Maximum likelihood: minimises the mean of -log p over the batch.

    Args:
        p: the model.
        options: those of `Model`.
    """

    def __init__(self, p: Distribution, **options: Any) -> None:
        super().__init__(NLL(p).mean(), p=p, **options)
