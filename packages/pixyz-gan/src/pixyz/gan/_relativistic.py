"""Relativistic losses: whether a real datum looks more real than a fake."""

from pixyz.core import Loss, log_sigmoid

from ._duel import Adversarial, Duel


class RelativisticPairing(Adversarial):
    r"""Each fake against one real datum, `()`:

    $$\max_d \mathbb{E}_{p_\mathrm{data}(x'),\,p(x)}[\log\sigma(d(x') - d(x))]; \qquad
    \min_p -\mathbb{E}_{p_\mathrm{data}(x'),\,p(x)}[\log\sigma(d(x) - d(x'))]$$

    It has no local minima where modes are missing, and converges with `R1` and `R2` as penalties.

    Source:
        Jolicoeur-Martineau (2019), eq. 3 and 4, https://arxiv.org/abs/1807.00734; Huang et al. (2024), https://arxiv.org/abs/2501.05441
    """

    def played(self, duel: Duel) -> tuple[Loss, Loss]:
        real, fake = duel.data_output, duel.fake_output
        return duel.pair(log_sigmoid(real - fake)), -duel.pair(log_sigmoid(fake - real))


class RelativisticAverage(Adversarial):
    r"""Each datum against the mean of the other side, `()`:

    $$\max_d \mathbb{E}_{p_\mathrm{data}(x)}\left[\log\sigma\!\left(d(x) - \mathbb{E}_{p(x)}[d(x)]\right)\right]
    + \mathbb{E}_{p(x)}\left[\log\sigma\!\left(\mathbb{E}_{p_\mathrm{data}(x)}[d(x)] - d(x)\right)\right]$$

    and p minimises the same with the two exchanged. The means are those of the batch.

    Source:
        Jolicoeur-Martineau (2019), eq. 5 and 6, https://arxiv.org/abs/1807.00734
    """

    def played(self, duel: Duel) -> tuple[Loss, Loss]:
        d = duel.fake_output
        above_fakes = d - duel.fake(d)
        objective = duel.data(log_sigmoid(above_fakes)) + duel.against_mean(lambda mean: log_sigmoid(mean - d))
        return objective, -duel.data(log_sigmoid(-above_fakes)) - duel.against_mean(lambda mean: log_sigmoid(d - mean))
