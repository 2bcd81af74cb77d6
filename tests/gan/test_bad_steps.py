"""A step of a game that is bad for one player, where the error comes late."""

import pytest
import torch
from torch import nn, optim

from pixyz.core import NonFiniteLossError
from pixyz.distributions import Deterministic, Normal
from pixyz.gan import AdversarialNonSaturating
from pixyz.models import Model, Optimizer

GOOD = [torch.bernoulli(torch.full((4, 6), 0.5), generator=torch.Generator().manual_seed(n)) for n in range(2)]


def game(**options):
    torch.manual_seed(0)
    p = (Deterministic("p(x|z)", x=nn.Linear(2, 6)) * Normal("p(z)", loc=torch.zeros(2), scale=torch.ones(2))).marginalize_var("z")
    d = Deterministic("d(t|x)", t=nn.Linear(6, 1))
    optimizers = [Optimizer([side], optim.SGD, {"lr": 0.1}) for side in (p, d)]
    return Model(AdversarialNonSaturating(p, d), optimizers=optimizers, validate="deferred", **options), p, d


@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_bad_for_the_discriminator_leaves_out_the_generator(at_once):
    model, p, d = game(at_once=at_once)
    model.train({"x": GOOD[0]})
    before = [w.detach().clone() for w in (*p.parameters(), *d.parameters())]
    model.train({"x": GOOD[0] * torch.nan})
    with pytest.raises(NonFiniteLossError, match=r"d\(x_data\)|E_p_data"):
        model.check()
    assert all(map(torch.equal, before, (*p.parameters(), *d.parameters())))
    model.train({"x": GOOD[1]})
    model.check()
    assert not any(map(torch.equal, before, (*p.parameters(), *d.parameters())))


def test_at_once_what_is_bad_for_the_generator_leaves_out_the_discriminator():
    model, p, d = game(at_once=True)
    model.train({"x": GOOD[0]})
    before = [w.detach().clone() for w in d.parameters()]
    with torch.no_grad():
        next(p.parameters()).fill_(torch.nan)
    model.train({"x": GOOD[0]})
    assert all(map(torch.equal, before, d.parameters()))
