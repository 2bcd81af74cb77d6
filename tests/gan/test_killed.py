"""A game whose training is killed at random moments, and begun again, ends where one ends that was left alone."""

import torch
from killed import assert_ends_as_one_left_alone
from torch import nn, optim

from pixyz.distributions import Deterministic, Normal
from pixyz.gan import GAN, AdversarialNonSaturating


def build():
    """Both players with schedulers, several steps of the discriminator for one of the generator, and averaged weights."""
    torch.manual_seed(0)
    generator = Deterministic("p(x|z)", x=nn.Sequential(nn.Linear(4, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 8)))
    discriminator = Deterministic("d(t|x)", t=nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.1), nn.ReLU(), nn.Linear(64, 1)))
    p = (generator * Normal("p(z)", loc=0.0, scale=1.0, dim=4)).marginalize_var("z")
    model = GAN(
        p,
        discriminator,
        loss=AdversarialNonSaturating,
        n_critic=2,
        ema=0.9,
        scheduler=optim.lr_scheduler.ExponentialLR,
        scheduler_params={"gamma": 0.99},
        d_scheduler=optim.lr_scheduler.ExponentialLR,
        d_scheduler_params={"gamma": 0.98},
    )
    return model, {"x": torch.randn(200, 8, generator=torch.Generator().manual_seed(1))}


def test_a_killed_game_ends_as_one_that_was_left_alone(tmp_path, request):
    assert_ends_as_one_left_alone(build, tmp_path, request.config.getoption("--kills"))
