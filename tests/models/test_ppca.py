"""A linear VAE is probabilistic PCA, whose evidence is known (Lucas et al. 2019, https://arxiv.org/abs/1911.02469)."""

import pytest
import torch
from torch import nn, optim

from pixyz.distributions import Normal
from pixyz.losses import ELBO
from pixyz.models import VAE

datasets = pytest.importorskip("sklearn.datasets", reason="the digits and the reference are scikit-learn's")
decomposition = pytest.importorskip("sklearn.decomposition", reason="the digits and the reference are scikit-learn's")

LATENTS = 5


class Encoder(Normal):
    """q(z|x): linear mean, one scale per latent."""

    def __init__(self, center):
        super().__init__(var=["z"], cond_var=["x"], name="q")
        self.fc = nn.Linear(64, LATENTS)
        self.log_scale = nn.Parameter(torch.zeros(LATENTS))
        self.register_buffer("center", center)

    def forward(self, x):
        return {"loc": self.fc(x - self.center), "scale": self.log_scale.exp()}


class Decoder(Normal):
    """p(x|z): linear mean, one scale."""

    def __init__(self, center):
        super().__init__(var=["x"], cond_var=["z"], name="p")
        self.fc = nn.Linear(LATENTS, 64)
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        with torch.no_grad():
            self.fc.bias.copy_(center)

    def forward(self, z):
        return {"loc": self.fc(z), "scale": self.log_scale.exp()}


def test_a_linear_vae_comes_within_half_a_nat_of_probabilistic_pca():
    data = datasets.load_digits().data
    truth = decomposition.PCA(LATENTS).fit(data).score(data)
    assert truth == pytest.approx(-168.54, abs=0.01)

    x = torch.tensor(data, dtype=torch.float32)
    p, q, prior = Decoder(x.mean(0)), Encoder(x.mean(0)), Normal(var=["z"], loc=0.0, scale=1.0, dim=LATENTS, name="p_prior")
    model = VAE(q, p, prior, optimizer=optim.Adam, optimizer_params={"lr": 3e-2})
    schedule = optim.lr_scheduler.CosineAnnealingLR(model.optimizer, 80)
    for _ in range(80):
        for batch in x[torch.randperm(len(x))].split(300):
            model.train({"x": batch})
        schedule.step()
    with torch.no_grad():
        bound = ELBO(p * prior, q, num_samples=50).mean().estimate({"x": x}).item()
    # the bound is below the evidence, up to the noise of 50 x 1,797 draws (about .01)
    assert truth - 0.5 < bound < truth + 0.05
