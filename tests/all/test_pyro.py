"""Pyro as a second opinion on bounds."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from torch import nn
from zoo import Computed

from pixyz.core import seeded
from pixyz.distributions import Bernoulli, Categorical, Normal
from pixyz.losses import ELBO, IWAE


def assert_same_bound(ours, theirs, networks):
    """Value and gradients, to rounding; both draw alike from one seed."""
    with seeded(0):
        a = ours()
    with seeded(0):
        b = theirs()
    torch.testing.assert_close(a, b, rtol=1e-12, atol=0)
    weights = [w for n in networks for w in n.parameters()]
    assert_same_gradients(torch.autograd.grad(a, weights), torch.autograd.grad(b, weights))


def assert_same_gradients(found, wanted):
    assert all(g.abs().max() > 1e-3 for g in wanted)
    for g, w in zip(found, wanted):
        torch.testing.assert_close(g, w, rtol=1e-10, atol=1e-12)


BOUNDS = {
    "ELBO": (ELBO, {}, Trace_ELBO(max_plate_nesting=1)),
    "IWAE": (IWAE, {"num_samples": 8}, RenyiELBO(alpha=0, num_particles=8, vectorize_particles=True, max_plate_nesting=1)),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_are_pyros_for_the_same_draws(name):
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    networks = decoder, encoder = nn.Linear(2, 3), nn.Linear(3, 2)
    p = Normal("p(x|z)", loc=decoder, scale=0.7) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    q = Normal("q(z|x)", loc=encoder, scale=0.6)
    x = torch.randn(5, 3)

    def model():
        pyro.module("decoder", decoder)
        with pyro.plate("batch", 5):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 0.7).to_event(1), obs=x)

    def guide():
        pyro.module("encoder", encoder)
        with pyro.plate("batch", 5):
            pyro.sample("z", dist.Normal(encoder(x), 0.6).to_event(1))

    bound, options, theirs = BOUNDS[name]
    weights = [w for n in networks for w in n.parameters()]
    for seed in range(5):
        pyro.clear_param_store()
        with seeded(seed):
            ours = -bound(p, q, **options).sum().estimate({"x": x})
        found = torch.autograd.grad(ours, weights)
        for w in weights:
            w.grad = None
        with seeded(seed):
            assert ours.item() == pytest.approx(theirs.loss_and_grads(model, guide), rel=1e-12)
        assert_same_gradients(found, [w.grad for w in weights])


LATENTS = {
    "Categorical": (4, Categorical, lambda logits: dist.OneHotCategorical(logits=logits), lambda y: y),
    "Bernoulli": (1, Bernoulli, lambda logits: dist.Bernoulli(logits=logits[..., 0]), lambda y: y.unsqueeze(-1)),
}


@pytest.mark.parametrize("latent", LATENTS)
def test_an_enumerated_latent_as_pyro_enumerates_it(latent):
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    size, family, pyros, as_features = LATENTS[latent]
    decoder, encoder, weight = nn.Linear(size, 3), nn.Linear(3, size), nn.Linear(1, size)
    prior = family("p(y|a)", logits=weight)
    p, q = Normal("p(x|y)", loc=decoder, scale=0.7) * prior, family("q(y|x)", logits=encoder)
    x, a = torch.randn(5, 3), torch.randn(5, 1)

    def model():
        with pyro.plate("batch", 5):
            y = pyro.sample("y", pyros(weight(a)))
            pyro.sample("x", dist.Normal(decoder(as_features(y)), 0.7).to_event(1), obs=x)

    def guide():
        with pyro.plate("batch", 5):
            pyro.sample("y", pyros(encoder(x)))

    theirs = TraceEnum_ELBO(max_plate_nesting=1)
    assert_same_bound(
        lambda: -ELBO(p, q, estimator="enumerate").sum().estimate({"x": x, "a": a}),
        lambda: theirs.differentiable_loss(model, config_enumerate(guide)),
        (decoder, encoder, weight),
    )


def test_a_joint_with_one_enumerated_and_one_pathwise_variable_as_pyro_has_it():
    """y summed and z drawn once for each datum and each y, with the same noise."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    networks = classify, see, tell, decode, write = nn.Linear(3, 4), nn.Linear(3, 2), nn.Linear(4, 2), nn.Linear(2, 3), nn.Linear(4, 3)
    likelihood = Normal("p(x|y,z)", loc=Computed(lambda y, z: decode(z) + write(y), decode, write), scale=0.7)
    p = likelihood * Normal("p(z)", loc=0.0, scale=1.0, dim=2) * Categorical("p(y)", probs=torch.full((4,), 0.25))
    q = Normal("q(z|x,y)", loc=Computed(lambda x, y: see(x) + tell(y), see, tell), scale=0.6) * Categorical("q(y|x)", logits=classify)
    x = torch.randn(5, 3)

    def model():
        with pyro.plate("batch", 5):
            y = pyro.sample("y", dist.OneHotCategorical(probs=torch.full((4,), 0.25)))
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decode(z) + write(y), 0.7).to_event(1), obs=x)

    def guide():
        with pyro.plate("batch", 5):
            y = pyro.sample("y", dist.OneHotCategorical(logits=classify(x)), infer={"enumerate": "parallel"})
            pyro.sample("z", dist.Normal(see(x) + tell(y), 0.6).to_event(1))

    theirs = TraceEnum_ELBO(max_plate_nesting=1)
    assert_same_bound(
        lambda: -ELBO(p, q, estimator={"y": "enumerate", "z": "pathwise"}).sum().estimate({"x": x}),
        lambda: theirs.differentiable_loss(model, guide),
        networks,
    )
