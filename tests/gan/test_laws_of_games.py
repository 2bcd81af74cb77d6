"""Every public game and penalty obeys the laws of a loss of `pixyz.core.testing`."""

import inspect

import pytest
import torch
from torch import nn

import pixyz.gan
from pixyz.core import Loss
from pixyz.core.testing import check_loss
from pixyz.distributions import Deterministic, Normal
from pixyz.gan import (
    R1,
    R2,
    AdversarialFDivergence,
    AdversarialHinge,
    AdversarialJensenShannon,
    AdversarialKullbackLeibler,
    AdversarialLeastSquares,
    AdversarialNonSaturating,
    AdversarialWassersteinDistance,
    GradientPenalty,
    RelativisticAverage,
    RelativisticPairing,
)

CASES = {
    "R1": R1,
    "R2": R2,
    "AdversarialFDivergence": AdversarialFDivergence,
    "AdversarialHinge": AdversarialHinge,
    "AdversarialJensenShannon": AdversarialJensenShannon,
    "AdversarialKullbackLeibler": AdversarialKullbackLeibler,
    "AdversarialLeastSquares": AdversarialLeastSquares,
    "AdversarialNonSaturating": AdversarialNonSaturating,
    "AdversarialWassersteinDistance": AdversarialWassersteinDistance,
    "GradientPenalty": GradientPenalty,
    "RelativisticAverage": RelativisticAverage,
    "RelativisticPairing": RelativisticPairing,
}


def sides(device):
    torch.manual_seed(0)
    generator = Deterministic("p(x|z)", x=nn.Linear(2, 3)) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    critic = Deterministic("d(t|x)", t=nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)))
    return generator.to(device).marginalize_var("z"), critic.to(device)


def test_the_table_has_every_public_game():
    every = {name: getattr(pixyz.gan, name) for name in pixyz.gan.__all__}
    assert {name for name, x in every.items() if inspect.isclass(x) and issubclass(x, Loss)} == CASES.keys()


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_a_public_game_obeys_the_laws(name, device):
    p, d = sides(device)
    game = CASES[name](p, d)
    values = {"x": torch.randn(4, 3).to(device)} if game.input_var else {}
    size = None if values else 4
    assert game.is_game
    check_loss(game, values, batch_size=size)
    for player in (d,) if game.is_penalty else (p, d):
        share = (-game if game.is_penalty else game).for_player(player)
        assert set(player.parameters()) <= set(share.parameters())
        check_loss(share, values, batch_size=size)
