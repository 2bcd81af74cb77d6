"""Each side of a game has a scale of its own for its loss."""

import torch
from torch import nn

from pixyz.distributions import Deterministic, Normal
from pixyz.gan import GAN
from pixyz.models import scaled_losses


def images(seed):
    return {"x": torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))}


def weights(model):
    return [w.detach().clone() for w in model.trained_parameters]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def game():
    torch.manual_seed(0)
    p = Deterministic("p(x|z)", x=nn.Linear(2, 3)) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    d = Deterministic("d(t|x)", t=nn.Linear(3, 1))
    return GAN(p, d)


def test_each_side_of_a_game_has_a_scale():
    plain, scaled = game(), game()
    for seed in range(3):
        x = images(seed)
        torch.manual_seed(seed)
        plain.train(x)
        torch.manual_seed(seed)
        with scaled_losses():
            scaled.train(x)
    assert same(weights(plain), weights(scaled))
    before = weights(scaled)
    with scaled_losses():
        scaled.train({"x": torch.full((8, 3), 1e35)})
    assert scaled.skipped_steps == 1  # the discriminator's; no data meet the generator
    assert not same(weights(scaled), before)
