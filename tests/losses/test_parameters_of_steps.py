"""Parameters of a sequence's steps that have no batch, or no features: at each step those of that step, for every datum."""

import pytest
import torch
from torch import distributions as td

from pixyz.core import seeded
from pixyz.distributions import MultivariateNormal, Normal
from pixyz.losses import ELBO, IterativeLoss


def spread_of(x):
    return 0.1 + x.abs().mean()


def normal():
    return Normal("q(z|x,z_prev)", loc=lambda x, z_prev: x + z_prev, scale=spread_of), lambda loc, x: td.Normal(loc, spread_of(x))


def one_a_feature():
    scale = lambda x: 0.1 + x.abs().mean(0)  # noqa: E731
    return Normal("q(z|x,z_prev)", loc=lambda x, z_prev: x + z_prev, scale=scale), lambda loc, x: td.Normal(loc, scale(x))


def with_events():
    """One covariance for all vectors of a datum."""
    covariance = lambda x: torch.eye(3, dtype=x.dtype) * spread_of(x)  # noqa: E731
    q = MultivariateNormal("q(z|x,z_prev)", loc=lambda x, z_prev: x + z_prev, covariance_matrix=covariance)
    return q, lambda loc, x: td.MultivariateNormal(loc, covariance(x))


CASES = {
    "one number, batch = time": (normal, 4, 4, (3,)),
    "one number, batch = features": (normal, 3, 5, (3,)),
    "one number, time = features": (normal, 2, 3, (3,)),
    "one number, values without features": (normal, 4, 4, ()),
    "one number a feature": (one_a_feature, 2, 4, (3,)),
    "events, batch = time": (with_events, 4, 4, (2, 3)),
    "events": (with_events, 5, 2, (4, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_sequence_is_the_loop_over_its_steps(name):
    make, batch, time, features = CASES[name]
    q, of_torch = make()
    p = Normal("p(x|z)", loc="z", scale=1.0) * Normal("p(z|z_prev)", loc="z_prev", scale=1.0)
    loss = IterativeLoss(ELBO(p, q), series_var=["x"], update_value={"z": "z_prev"})
    x, start = torch.randn(batch, time, *features, dtype=torch.float64), torch.zeros(batch, *features, dtype=torch.float64)
    with seeded(3):
        found = loss.estimate({"x": x, "z_prev": start})
    total, before = torch.zeros(batch, dtype=torch.float64), start
    with seeded(3):
        for now in x.unbind(1):
            d = of_torch(now + before, now)
            z = d.rsample()
            scores = td.Normal(z, 1.0).log_prob(now) + td.Normal(before, 1.0).log_prob(z)
            total, before = total + scores.reshape(batch, -1).sum(-1) - d.log_prob(z).reshape(batch, -1).sum(-1), z
    torch.testing.assert_close(found, total)
