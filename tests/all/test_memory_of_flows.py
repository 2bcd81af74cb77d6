"""memory_report of flows: what starts from data, and slopes that a flow takes itself."""

import torch

from pixyz.cuda_utils import memory_report
from pixyz.distributions import Normal
from pixyz.flows import FFJORD, ActNorm, Coupling, InverseTransformedDistribution
from pixyz.models import ML

VALUES = {"x": torch.randn(32, 8, generator=torch.Generator().manual_seed(0))}


def test_what_starts_from_data_waits_for_the_training_as_before():
    noise = Normal(var=["z"], loc=0.0, scale=1.0, features_shape=[8])
    model = ML(InverseTransformedDistribution(noise, ActNorm(8) >> Coupling(8, hidden=[4]), "p(x)"))
    tensors = [t.clone() for t in (*model.loss.parameters(), *model.loss.buffers())]
    report = memory_report(model, VALUES)
    assert report.live > 0
    assert model.needs_start
    assert model.loss.needs_start
    assert all(torch.equal(a, b) for a, b in zip(tensors, (*model.loss.parameters(), *model.loss.buffers()), strict=True))


def test_a_flow_that_takes_slopes_of_its_own():
    p = FFJORD("p(x)", features=2, hidden=[4], steps=2)
    assert memory_report(p.log_prob().mean(), {"x": torch.randn(4, 2)}).live > 0
