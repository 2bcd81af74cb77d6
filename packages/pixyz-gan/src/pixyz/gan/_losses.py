"""Adversarial losses of fakes and of real data, each on its own."""

from pixyz.core import Distribution, Loss, maximum
from pixyz.core import formula as f

from ._duel import Adversarial, Duel
from ._judged import Judged, log_fake, log_real


def _value(duel: Duel) -> Loss:
    return duel.data(log_real(duel.d)) + duel.fake(log_fake(duel.d))


class AdversarialJensenShannon(Adversarial):
    r"""The minimax game of the first GANs, in nats, `()`:

    $$\min_p \max_d \mathbb{E}_{p_\mathrm{data}(x)}[\log d(x)] + \mathbb{E}_{p(x)}[\log(1 - d(x))]$$

    At the best discriminator it is $2\,\mathrm{JS}[p_\mathrm{data}\|p] - 2\log 2$. Where d is far better than p, p has hardly a gradient;
    then take `AdversarialNonSaturating`.

    Source:
        Goodfellow et al. (2014), eq. 1, https://arxiv.org/abs/1406.2661
    """

    def played(self, duel: Duel) -> tuple[Loss, None]:
        return _value(duel), None


class AdversarialNonSaturating(Adversarial):
    r"""The same, but p maximises the probability of being taken for real, $\mathbb{E}_{p(x)}[\log d(x)]$, whose gradient does not vanish.

    Where the real side is trained as well, it maximises $\mathbb{E}_\mathrm{real}[\log(1 - d(x))]$.

    Source:
        Goodfellow et al. (2014), section 3, https://arxiv.org/abs/1406.2661; for both sides, Donahue et al. (2017), section 3.4,
        https://arxiv.org/abs/1605.09782
    """

    def played(self, duel: Duel) -> tuple[Loss, Loss]:
        loss = -duel.fake(log_real(duel.d))
        return _value(duel), loss - duel.data(log_fake(duel.d)) if duel.trains_real else loss


class AdversarialKullbackLeibler(Adversarial):
    r"""KL[p||p_data], in nats, by the density ratio that the discriminator knows, `()`:

    $$\mathbb{E}_{p(x)}\left[\log\frac{1 - d(x)}{d(x)}\right], \qquad
    \frac{1 - d(x)}{d(x)} = \frac{p(x)}{p_\mathrm{data}(x)} \text{ at the best } d,$$

    where d maximises the objective of `AdversarialJensenShannon`. The real side has no gradient from it, so it is not trained by it.

    Source:
        Sønderby et al. (2017), section 3.2, https://arxiv.org/abs/1610.04490; Mescheder et al. (2017), https://arxiv.org/abs/1701.04722
    """

    def played(self, duel: Duel) -> tuple[Loss, Loss]:
        duel.need_ratio(type(self).__name__)
        return _value(duel), duel.fake(log_ratio(duel))

    def minimisers(self, duel: Duel) -> list[Distribution]:
        return [duel.p]


def log_ratio(duel: Duel) -> Loss:
    """log((1 - d(x))/d(x)), minus the logit."""
    return Judged(duel.d, lambda t: -t, lambda t: f.Log(f.Ratio(f.Sum(((1, f.Number(1)), (-1, t))), t)))


class AdversarialWassersteinDistance(Adversarial):
    r"""The Wasserstein distance by its dual, `()`, where d is kept 1-Lipschitz by other means:

    $$\min_p \max_d \mathbb{E}_{p_\mathrm{data}(x)}[d(x)] - \mathbb{E}_{p(x)}[d(x)]$$

    The means are a penalty, `- 10 * GradientPenalty(p, d)`; or `torch.nn.utils.parametrizations.spectral_norm` on the layers of d; or
    `clip_weights`.

    Source:
        Arjovsky et al. (2017), eq. 3, https://arxiv.org/abs/1701.07875
    """

    def played(self, duel: Duel) -> tuple[Loss, None]:
        return duel.data(duel.fake_output) - duel.fake(duel.fake_output), None


class AdversarialHinge(Adversarial):
    r"""The hinge loss, `()`:

    $$\max_d -\mathbb{E}_{p_\mathrm{data}(x)}[\max(0, 1 - d(x))] - \mathbb{E}_{p(x)}[\max(0, 1 + d(x))]; \qquad
    \min_p -\mathbb{E}_{p(x)}[d(x)]$$

    Source:
        Lim and Ye (2017), https://arxiv.org/abs/1705.02894; Miyato et al. (2018), eq. 17, https://arxiv.org/abs/1802.05957
    """

    def played(self, duel: Duel) -> tuple[Loss, Loss]:
        d = duel.fake_output
        objective = -duel.data(maximum(0.0, 1.0 - d)) - duel.fake(maximum(0.0, 1.0 + d))
        return objective, duel.data(d) - duel.fake(d) if duel.trains_real else -duel.fake(d)


class AdversarialLeastSquares(Adversarial):
    r"""Least squares, `()`, with the labels 1 for real and 0 for fakes:

    $$\max_d -\frac12\mathbb{E}_{p_\mathrm{data}(x)}[(d(x) - 1)^2] - \frac12\mathbb{E}_{p(x)}[d(x)^2]; \qquad
    \min_p \frac12\mathbb{E}_{p(x)}[(d(x) - 1)^2]$$

    Source:
        Mao et al. (2017), eq. 9, https://arxiv.org/abs/1611.04076
    """

    def played(self, duel: Duel) -> tuple[Loss, Loss]:
        d = duel.fake_output
        objective = -(0.5 * duel.data((d - 1.0) ** 2)) - 0.5 * duel.fake(d**2)
        loss = 0.5 * duel.fake((d - 1.0) ** 2)
        return objective, loss + 0.5 * duel.data(d**2) if duel.trains_real else loss
