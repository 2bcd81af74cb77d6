"""Divergences whose sides agree somewhere: the integrand has a slope where the ratio is 1."""

import pytest
import torch
from torch import nn

from pixyz.distributions import Categorical
from pixyz.losses import Renyi


@pytest.mark.parametrize("alpha", [0.3, 2.0])
def test_the_slope_of_renyi_where_one_probability_is_the_same(alpha):
    probs, other = (torch.tensor(v, dtype=torch.float64) for v in ([0.2, 0.3, 0.5], [0.2, 0.5, 0.3]))
    p, q = Categorical("p(x)", probs=nn.Parameter(probs.clone())), Categorical("q(x)", probs=other)
    (slope,) = torch.autograd.grad(Renyi(p, q, alpha, analytic=False).estimate().sum(), list(p.parameters()))
    free = probs.requires_grad_()
    truth = (free**alpha * other ** (1 - alpha)).sum().log() / (alpha - 1)
    expected = torch.autograd.grad(truth, free)[0]
    # Within the simplex: a step that keeps the sum.
    torch.testing.assert_close(slope - slope.mean(), expected - expected.mean(), rtol=1e-12, atol=0)
