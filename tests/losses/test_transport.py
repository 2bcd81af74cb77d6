"""Wasserstein distances and Sinkhorn divergences: against closed forms, brute force and another solver, in float64."""

import itertools
import math

import pytest
import torch
from losses.test_set_losses import Given, f64, normals
from torch import nn

from pixyz.distributions import Empirical, MultivariateNormal, Normal
from pixyz.losses import Sinkhorn, Wasserstein


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


A = f64([[1.2, 0.0], [0.5, 0.8]])
B = f64([[0.9, 0.0], [-0.3, 1.6]])


def root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.sqrt()) @ vectors.T


def test_wasserstein_in_closed_form():
    assert Wasserstein(*normals()).estimate().item() == pytest.approx(1.118034, abs=1e-6)
    p, q = MultivariateNormal("p(z)", loc=f64([0.0, 0.5]), scale_tril=A), MultivariateNormal("q(z)", loc=f64([1.0, 0.0]), scale_tril=B)
    s, t = A @ A.T, B @ B.T
    truth = (1.25 + torch.trace(s + t - 2 * root(root(t) @ s @ root(t)))).sqrt()
    torch.testing.assert_close(Wasserstein(p, q).estimate().squeeze(), truth)
    same = MultivariateNormal("r(z)", loc=nn.Parameter(f64([0.0, 0.5])), scale_tril=A)
    value = Wasserstein(p, same).estimate()
    value.sum().backward()
    assert value.item() == pytest.approx(0.0, abs=1e-7)
    assert same.loc.grad.isfinite().all()
    q = Normal("q(z|x)", loc="x", scale=f64(2.0))
    x = f64([[0.0, 0.0], [3.0, 4.0]])
    each = Wasserstein(q, Normal("p(z)", loc=f64([0.0, 0.0]), scale=f64(2.0)), conditional=True)
    torch.testing.assert_close(each.estimate({"x": x}), f64([0.0, 5.0]))
    assert not each.mixes_batch
    assert Wasserstein(q, Normal("p(z)", loc=f64([0.0, 0.0]), scale=f64(2.0))).is_biased


def points(*rows):
    return Empirical("p(z)", z=f64(list(rows)))


def assignment(x, y, order):
    """The cheapest of all ways to carry N points to N others."""
    costs = [(x - y[list(way)]).norm(dim=-1).pow(order).mean() for way in itertools.permutations(range(len(y)))]
    return min(costs).item()


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("features", [1, 2])
def test_wasserstein_between_draws_by_brute_force(features, order):
    if features > 1:
        pytest.importorskip("ot")
    x, y = torch.randn(5, features), torch.randn(5, features) + 1
    loss = Wasserstein(Given("x", "p"), Given("y", "q"), order=order)
    assert loss.is_biased
    y.requires_grad_()
    value = loss.estimate({"x": x, "y": y})
    assert value.item() == pytest.approx(assignment(x, y.detach(), order) ** (1 / order), abs=1e-9)
    value.backward()
    moved = y.detach() + 1e-6 * y.grad
    slope = (loss.estimate({"x": x, "y": moved}).item() - value.item()) / 1e-6
    assert slope == pytest.approx(y.grad.square().sum().item(), rel=1e-3)


def test_sets_of_different_size_on_a_line_are_those_of_repeated_points():
    x, y = torch.randn(3), torch.randn(2)
    loss = Wasserstein(Given("x", "p"), Given("y", "q"), order=2)
    wanted = loss.estimate({"x": x.repeat_interleave(2), "y": y.repeat_interleave(3)})
    torch.testing.assert_close(loss.estimate({"x": x, "y": y}), wanted)


def sinkhorn_by_hand(x, y, epsilon):
    """The dual of the regularised problem, by updates of the potentials until they stand still."""
    cost = torch.cdist(x, y).square()
    f, g = torch.zeros(len(x)), torch.zeros(len(y))
    for _ in range(2000):
        before, f = f, -epsilon * ((g - cost) / epsilon - math.log(len(y))).logsumexp(1)
        g = -epsilon * ((f.unsqueeze(1) - cost) / epsilon - math.log(len(x))).logsumexp(0)
    assert (f - before).abs().max() < 1e-12
    return f.mean() + g.mean()


def test_sinkhorn():
    pytest.importorskip("ot")
    x, y = torch.randn(6, 2), torch.randn(4, 2) + 1
    values = {"x": x, "y": y.requires_grad_()}
    loss = Sinkhorn(Given("x", "p"), Given("y", "q"), epsilon=0.5)
    cost = sinkhorn_by_hand(x, y, 0.5) - 0.5 * sinkhorn_by_hand(x, x, 0.5) - 0.5 * sinkhorn_by_hand(y, y, 0.5)
    torch.testing.assert_close(loss.estimate(values), cost, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(torch.autograd.grad(loss.estimate(values), y), torch.autograd.grad(cost, y), rtol=1e-4, atol=1e-5)
    assert loss.estimate({"x": x, "y": x}).item() == pytest.approx(0.0, abs=1e-9)
    values = {"x": x[:4], "y": y.detach()}
    exact = Wasserstein(Given("x", "p"), Given("y", "q")).estimate(values).square()
    torch.testing.assert_close(Sinkhorn(Given("x", "p"), Given("y", "q"), epsilon=0.01).estimate(values), exact, rtol=0, atol=0.05)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install pixyz-losses\[transport\]"):
        Sinkhorn(*normals())
    with pytest.raises(ImportError, match=r"empirical\(W_2\[p\(z\)\|\|q\(z\)\]\).*pixyz-losses\[transport\]"):
        Wasserstein(*normals((2,)), analytic=False).estimate(batch_size=3)


def test_compiled_transport():
    pytest.importorskip("ot")
    sides = normals((2,))
    loss = Sinkhorn(*sides) + 2 * Wasserstein(*sides, analytic=False)
    torch.manual_seed(1)
    eager = loss.estimate(batch_size=4)
    loss.compile(fullgraph=True, backend="eager")
    torch.manual_seed(1)
    torch.testing.assert_close(loss.estimate(batch_size=4), eager)
