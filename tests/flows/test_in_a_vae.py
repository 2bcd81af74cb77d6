"""A flow as the prior and an inverse autoregressive one as the posterior of a variational autoencoder."""

import math

import pytest
import torch
from torch import nn, optim

from pixyz.core import CheckpointError, seeded
from pixyz.distributions import Bernoulli, Normal
from pixyz.flows import IAF, NSF, Coupling, MaskedAutoregressive, TransformedDistribution, testing
from pixyz.losses import ELBO, IWAE
from pixyz.models import ML, VI


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


class Heads(nn.Module):
    def __init__(self, inputs, latent):
        super().__init__()
        self.net = nn.Linear(inputs, 2 * latent)

    def forward(self, x):
        loc, scale = self.net(x).chunk(2, -1)
        return {"loc": loc, "scale": nn.functional.softplus(scale) + 0.1}


def autoencoder():
    """Nothing in it is near the identity."""
    torch.manual_seed(0)
    decoder, prior = Bernoulli("p(x|z)", logits=nn.Linear(3, 5)), NSF("p(z)", features=3, transforms=2, hidden=[8], bins=4)
    heads = Heads(5, 3)
    q = IAF("q(z|x)", features=3, context=5, transforms=2, hidden=[8], base=Normal("q_0(e|x)", heads))
    for flow in (prior, q):
        testing.moved(flow.generator)
    prior.initialize(batch_size=256)
    return decoder, prior, q, heads


def data(n=4):
    return {"x": torch.rand(n, 5).round()}


def log_density_by_jacobian(noise, generator, z, context=None):
    """log p(z) from the noise and the Jacobian of the way back, by autograd."""
    z = z.detach().requires_grad_()
    e, _ = generator.inverse_and_log_det(z, context)
    rows = [torch.autograd.grad(e[:, i].sum(), z, retain_graph=True)[0] for i in range(z.shape[1])]
    return noise.log_prob(e).sum(-1) + torch.linalg.slogdet(torch.stack(rows, 1))[1]


def test_the_bound_is_that_of_the_three_densities():
    decoder, prior, q, heads = autoencoder()
    values = data()
    bound = ELBO(decoder * prior, q)
    assert str(bound) == "E_q(z|x)[log p(x,z)/q(z|x)]"
    with seeded(1):
        z = q.sample(values)["z"]
    with seeded(1):
        found = bound.estimate(values)
    x = values["x"]
    given = torch.distributions.Normal(**heads(x))
    expected = (
        torch.distributions.Bernoulli(logits=decoder.get_params({"z": z})["logits"]).log_prob(x).sum(-1)
        + log_density_by_jacobian(torch.distributions.Normal(0.0, 1.0), prior.generator, z)
        - log_density_by_jacobian(given, q.generator, z, x)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("bound", [ELBO, IWAE])
@pytest.mark.parametrize("num_samples", [1, 16])
def test_the_posterior_costs_one_pass_and_never_its_inverse(bound, num_samples, monkeypatch):
    decoder, prior, q, _ = autoencoder()
    passes = []
    layers = [m for m in q.modules() if isinstance(m, MaskedAutoregressive)]
    push = MaskedAutoregressive.push
    monkeypatch.setattr(MaskedAutoregressive, "push", lambda self, *a: passes.append(self) or push(self, *a))
    monkeypatch.setattr(MaskedAutoregressive, "pull", lambda self, *a: pytest.fail("the inverse was run"))
    loss = bound(decoder * prior, q, num_samples=num_samples).mean()
    loss.estimate(data()).backward()
    assert passes == layers
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for d in (decoder, prior, q) for w in d.parameters())


def test_a_learnt_prior_is_better_than_the_best_normal_one():
    """With p(x|z) = N(z, s²) and a normal prior, x is normal: its likelihood is at most that of the normal distribution fitted."""

    def ring(n):
        angle = 2 * math.pi * torch.rand(n)
        return 2 * torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * torch.randn(n, 2)

    torch.manual_seed(0)
    p = Normal("p(x|z)", loc="z", scale=0.1) * NSF("p(z)", features=2, transforms=2, hidden=[32])
    q = IAF("q(z|x)", features=2, context=2, transforms=2, hidden=[32], base=Normal("q_0(e|x)", Heads(2, 2)))
    model = VI(p, q, optimizer=optim.Adam, optimizer_params={"lr": 1e-2})
    for _ in range(200):
        model.train({"x": ring(128)})
    x = ring(2000)
    normal = torch.distributions.MultivariateNormal(x.mean(0), x.T.cov())
    found = model.log_likelihood({"x": x}, num_samples=64)
    assert found.mean - 4 * found.error > normal.log_prob(x).mean().item() + 0.3


def test_a_checkpoint_holds_the_options_of_a_flow(tmp_path):
    """Training leaves them as they are; a flow with another option does not load the file."""

    def model(swap):
        return ML(TransformedDistribution(Normal("p(u)", loc=torch.zeros(2), scale=1.0), Coupling(2, swap=swap), var=["x"]))

    trained = model(swap=False)
    trained.train({"x": torch.ones(5, 2)})
    path = trained.save(tmp_path / "a")
    assert model(swap=False).load(path).left == ()
    with pytest.raises(CheckpointError, match=r"p\(x\)\.flow: swap False in the file, True in this model"):
        model(swap=True).load(path)
