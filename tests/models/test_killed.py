"""A training process that is killed at random moments, and begun again, ends where one ends that was left alone."""

import torch
from killed import assert_ends_as_one_left_alone
from torch import nn, optim

from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import Parameter
from pixyz.models import VAE, LinearSchedule, Model


def build():
    """All that goes on in a training: a scheduler, a schedule, averaged weights, accumulated gradients, dropout."""
    torch.manual_seed(0)
    encoder = Normal("q(z|x)", loc=nn.Sequential(nn.Linear(64, 128), nn.Dropout(0.1), nn.Tanh(), nn.Linear(128, 4)), scale=0.5)
    decoder = Bernoulli("p(x|z)", logits=nn.Sequential(nn.Linear(4, 128), nn.Tanh(), nn.Linear(128, 64)))
    vae = VAE(encoder, decoder, Normal("p(z)", loc=torch.zeros(4), scale=1.0))
    model = Model(
        Parameter("beta") * vae.loss,
        optimizer=optim.AdamW,
        scheduler=optim.lr_scheduler.CosineAnnealingLR,
        scheduler_params={"T_max": 100},
        schedules={"beta": LinearSchedule(0.1, 1.0, steps=60)},
        ema=0.99,
        accumulate=2,
    )
    return model, {"x": torch.rand(200, 64, generator=torch.Generator().manual_seed(1)).round()}


def test_a_killed_training_ends_as_one_that_was_left_alone(tmp_path, request):
    assert_ends_as_one_left_alone(build, tmp_path, request.config.getoption("--kills"))
