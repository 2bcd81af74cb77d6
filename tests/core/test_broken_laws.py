"""The laws of `pixyz.core.testing` fail for a distribution that breaks them, and their nodes integrate what has a known integral."""

import math

import pytest
import torch
from planted import planted, slowed

from pixyz.core import testing
from pixyz.core.testing import line, simplex
from pixyz.distributions import Normal

pytestmark = pytest.mark.usefixtures("float64")


def with_draws(monkeypatch, change):
    """Each draw of a normal distribution is changed."""
    planted(monkeypatch, Normal, "sample", lambda f: lambda self, *a, **o: {v: change(t) for v, t in f(self, *a, **o).items()})


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e4])
def test_draws_that_are_too_wide_are_found_at_every_scale(scale, monkeypatch):
    p, nodes = Normal(loc=0.0, scale=scale), line(width=scale, n=401)
    testing.check_draws(p, nodes, draws=4_000)
    with_draws(monkeypatch, lambda t: 1.3 * t)
    with pytest.raises(AssertionError, match=r"over 4000 samples is .* standard errors off"):
        testing.check_draws(p, nodes, draws=4_000)


def test_draws_with_a_wrong_gradient_are_found(monkeypatch):
    def of_a_location(t):
        return Normal(loc=t[0], scale=1.0)

    def check():
        testing.check_free_gradients(of_a_location, lambda t: line(center=t[0].item(), n=401), torch.tensor([0.4]), draws=4_000)

    check()
    with_draws(monkeypatch, lambda t: slowed(t, 1.5))
    with pytest.raises(AssertionError, match=r"the gradient of E\[cos\(0.3 x\)\] through samples is"):
        check()


def test_nodes_of_an_interval_integrate_what_is_singular_at_both_ends():
    x, weights = line(0.0, 1.0)
    assert ((x > 0) & (x < 1)).all()
    assert (weights / (x * (1 - x)).sqrt()).sum().item() == pytest.approx(math.pi, rel=1e-7)  # B(1/2, 1/2)
    assert (weights * x).sum().item() == pytest.approx(0.5, rel=1e-12)
    near = x[x < 1e-8]
    assert near.min() < 1e-15
    assert len(near.unique()) == len(near)  # the distances from 0 are not differences of numbers near 1


def test_nodes_of_a_triangle_are_probability_vectors():
    x, weights = simplex(3, n=61)
    assert x.shape == (len(weights), 3)
    torch.testing.assert_close(x.sum(-1), torch.ones(len(x)))
    assert weights.sum().item() == pytest.approx(1 / 2, rel=1e-7)
    found = (weights * x[:, 0] * x[:, 1].square() * x[:, 2] ** 3).sum()  # ∫ x_1 x_2² x_3³ dx = 1! 2! 3! / 8!
    assert found.item() == pytest.approx(12 / math.factorial(8), rel=1e-7)
