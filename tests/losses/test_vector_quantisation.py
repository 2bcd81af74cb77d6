"""Codes, their gradients and their moving averages, in float64."""

import copy

import pytest
import torch
from losses.test_set_losses import f64, normals, quantizer
from torch import nn

from pixyz.distributions import Normal, VectorQuantizer
from pixyz.losses import ELBO, Commitment, LogProb


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


def test_vector_quantisation():
    torch.manual_seed(2)
    q = quantizer()
    x = torch.randn(6, 3)
    h = q.given_networks(x=x)["z"]
    nearest = (h[:, None] - q.codebook).square().sum(-1).argmin(-1)
    z = q.sample({"x": x})["z"]
    assert torch.equal(z, q.codebook[nearest])
    assert torch.equal(q.indices({"x": x}), nearest)
    (straight,) = torch.autograd.grad((z * f64([1.0, 2.0])).sum(), q.given_networks.get_parameter("z.bias"))
    torch.testing.assert_close(straight, f64([6.0, 12.0]))
    value = Commitment(q, beta=0.25).estimate({"x": x})
    torch.testing.assert_close(value, 1.25 * (h - q.codebook[nearest]).square().sum(-1))
    value.sum().backward()
    wanted = torch.zeros(4, 2).index_add(0, nearest, 2 * (q.codebook[nearest] - h))
    torch.testing.assert_close(q.codebook.grad, wanted.detach())
    torch.testing.assert_close(q.given_networks.get_parameter("z.bias").grad, (0.5 * (h - q.codebook[nearest])).sum(0).detach())


def test_the_codes_of_an_image():
    q = VectorQuantizer("q(z|x)", z=nn.Conv2d(1, 2, 1), num_codes=4, dim=2, axis=0)
    x = torch.randn(5, 1, 3, 4)
    z, indices = q.sample({"x": x})["z"], q.indices({"x": x})
    assert (z.shape, indices.shape) == ((5, 2, 3, 4), (5, 3, 4))
    torch.testing.assert_close(z.movedim(1, -1), q.codebook[indices])
    assert Commitment(q).estimate({"x": x}).shape == (5,)


def test_moving_averages_follow_in_train_mode_only_and_once():
    q = quantizer(decay=0.9)
    p = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=f64(1.0))
    x = torch.randn(6, 3)
    loss = (Commitment(q) - LogProb(p).expectation(q)).mean()
    before = q.codebook.clone()
    h = q.given_networks(x=x)["z"].detach()
    nearest = (h[:, None] - before).square().sum(-1).argmin(-1)
    with torch.no_grad():
        loss.estimate({"x": x})
    q.eval()
    loss.estimate({"x": x})
    q.indices({"x": x})
    assert torch.equal(q.codebook, before)
    q.train()
    loss.estimate({"x": x}).backward()
    counts, sums = 0.9 * torch.ones(4), 0.9 * before
    for i, k in enumerate(nearest):
        counts[k] += 0.1
        sums[k] += 0.1 * h[i]
    torch.testing.assert_close(q.codebook, sums / counts.unsqueeze(-1))
    assert q.given_networks.get_parameter("z.bias").grad.abs().sum() > 0
    # a copy goes its own way
    other = copy.deepcopy(q)
    other.sample({"x": x})
    assert not torch.equal(other.codebook, q.codebook)


def test_dead_codes_start_again_on_the_data():
    q = quantizer(decay=0.5, restart_below=0.3)
    q.codebook[3] = q.code_sums[3] = 1e6
    x = torch.randn(8, 3)
    for _ in range(3):
        q.sample({"x": x})
    h = q.given_networks(x=x)["z"]
    assert (q.codebook[3] - h).norm(dim=-1).min() < 10
    loss = ELBO(
        Normal("p(x|z)", loc=nn.Linear(2, 3), scale=f64(1.0)) * normals((2,))[0], Normal("q(z)", loc=f64([0.0, 0.0]), scale=f64(1.0))
    )
    assert loss.estimate({"x": x}).shape == (8,)


def test_dead_codes_start_again_on_any_row_of_the_data():
    torch.manual_seed(0)
    q = quantizer(decay=0.5, restart_below=1e6)
    x = torch.randn(16, 3)
    h = q.given_networks(x=x)["z"]
    started = set()
    for _ in range(30):
        q.sample({"x": x})
        away, row = (q.codebook[:, None] - h).norm(dim=-1).min(-1)
        assert away.max() < 1e-12
        started.update(row.tolist())
    assert len(started) > 12
