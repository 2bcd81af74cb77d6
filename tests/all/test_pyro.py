"""Pyro as a second opinion on bounds."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO
from torch import nn

from pixyz.distributions import Normal
from pixyz.losses import ELBO, IWAE


@pytest.mark.parametrize(("name", "count"), [("ELBO", 1), ("IWAE", 8)])
def test_bounds_have_pyros_mean(name, count):
    torch.set_default_dtype(torch.float64)
    decoder, encoder = nn.Linear(2, 3), nn.Linear(3, 2)
    p = Normal("p(x|z)", loc=decoder, scale=0.7) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    q = Normal("q(z|x)", loc=encoder, scale=0.6)
    x = torch.randn(1, 3)

    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(decoder(z), 0.7).to_event(1), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(encoder(x), 0.6).to_event(1))

    theirs = {
        "ELBO": Trace_ELBO(),
        "IWAE": RenyiELBO(alpha=0, num_particles=count, vectorize_particles=True),
    }[name]
    with torch.no_grad():
        pyros = torch.tensor([-theirs.loss(model, guide, x[0] if name == "ELBO" else x) for _ in range(3_000)])
        bound = {"ELBO": ELBO(p, q), "IWAE": IWAE(p, q, num_samples=count)}[name]
        ours = bound.estimate({"x": x.expand(30_000, -1)})
    error = (pyros.var() / len(pyros) + ours.var() / len(ours)).sqrt()
    assert abs(pyros.mean() - ours.mean()) < 4 * error
    # The spread too: the same estimator, not only the same mean.
    assert abs(pyros.std() / ours.std() - 1) < 0.15
