"""Powers of a normal log-density: the smallest world, exact and by draws."""

import math
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import nn

from pixyz.distributions import Normal

from ..case import Built, Case, by_autograd, generator


@dataclass(frozen=True)
class Power(Case):
    """log p(z)^n at a given z, or E_q(z)[log p(z)^n] by draws from q = N(0, 1)."""

    seed: int
    power: int
    batch: int
    drawn: bool

    @property
    def exact(self):
        return not self.drawn

    def numbers(self):
        mu = torch.randn(2, generator=generator(self.seed, "mu"))
        return {"mu": mu} if self.drawn else {"mu": mu, "z": torch.randn(self.batch, 2, generator=generator(self.seed, "z"))}

    def build(self, copies=1):
        numbers = self.numbers()
        mu = nn.Parameter(numbers["mu"])
        loss = Normal("p(z)", loc=mu, scale=1.0).log_prob() ** self.power
        if self.drawn:
            return Built(loss.expectation(Normal("q(z)", loc=0.0, scale=1.0, dim=2)), {}, {"mu": mu}, {"batch_size": copies * self.batch})
        z = numbers["z"].requires_grad_()
        return Built(loss, {"z": z}, {"mu": mu, "z": z})

    def truth(self):
        if self.drawn:
            return by_autograd(self._mean, self.numbers())
        return by_autograd(lambda mu, z: self._log_p(mu, z) ** self.power, self.numbers())

    @staticmethod
    def _log_p(mu, z):
        return (-0.5 * (z - mu).square() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def _mean(self, mu):
        """With r = |z - mu|^2, noncentral chi-squared: E[r] = 2 + m and Var[r] = 4 + 4m, m = |mu|^2."""
        m, c = mu.square().sum(), math.log(2 * math.pi)
        first = -0.5 * (2 + m) - c
        mean = first if self.power == 1 else first**2 + 1 + m
        return mean.expand(self.batch)


def cases():
    seeds = st.integers(0, 2**32 - 1)
    return st.builds(Power, seed=seeds, power=st.integers(1, 2), batch=st.integers(1, 3), drawn=st.booleans())
