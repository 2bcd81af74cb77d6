"""Entropic plans that have not converged are reported."""

import warnings

import pytest
import torch

from pixyz.core import seeded
from pixyz.distributions import Normal
from pixyz.losses import Sinkhorn

ot = pytest.importorskip("ot")


def loss(epsilon):
    return Sinkhorn(Normal("p(z)", loc=0.0, scale=1.0, dim=2), Normal("q(z)", loc=3.0, scale=1.0, dim=2), epsilon=epsilon)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-4])
def test_a_plan_that_has_not_converged_is_reported(epsilon):
    message = (
        r"^Sinkhorn\[p\(z\)\|\|q\(z\)\]: the plan has not converged after 2000 iterations: .* % of the mass is not where the marginals "
        rf"have it, so the value is off. epsilon={epsilon:g} is small beside costs of up to .*; take a larger epsilon"
    )
    with pytest.warns(UserWarning, match=message):
        loss(epsilon).estimate(batch_size=32)


def test_the_share_that_is_told_is_that_of_the_plan():
    x, y = torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [9.0], [12.0]])
    cost = torch.cdist(x, y).double() ** 2
    plan = ot.bregman.sinkhorn_log([0.5] * 2, [1 / 3] * 3, cost.numpy(), 1e-3, numItermax=2000, warn=False)
    share = 0.5 * (abs(plan.sum(0) - 1 / 3).sum() + abs(plan.sum(1) - 0.5).sum())
    assert share > 0.01
    with pytest.warns(UserWarning, match=rf"{100 * share:.3g} % of the mass"):
        torch.ops.pixyz.transport_plan(cost, 1e-3, "a loss")


def test_a_plan_that_has_converged_is_not_reported():
    with warnings.catch_warnings(), seeded(0):
        warnings.simplefilter("error")
        small, exact = (loss(epsilon).estimate(batch_size=32) for epsilon in (0.1, 1.0))
    assert torch.isfinite(torch.stack([small, exact])).all()
