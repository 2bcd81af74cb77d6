"""Divergences of joints and mixtures, factor by factor, against closed forms of one's own and quadrature, in float64."""

import math

import pytest
import torch
import torch.distributions as td
from torch import nn

from pixyz.core import testing
from pixyz.distributions import Categorical, Deterministic, MixtureModel, Normal
from pixyz.losses import Expectation, KullbackLeibler, LogProb


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


def f64(x):
    return torch.tensor(x, dtype=torch.float64)


class Steps(Normal):
    """Normal with a linear mean."""

    def __init__(self, text, weight, scale=1.0):
        super().__init__(text)
        self.weight, self.sd = nn.Parameter(f64(weight)), scale

    def forward(self, **given):
        (x,) = given.values()
        return {"loc": self.weight * x, "scale": torch.full_like(x, self.sd)}


def chain_normal(mean, scale, weight, below):
    """The joint of z ~ N(mean, scale²) and w ~ N(weight·z, below²)."""
    a = f64([[scale, 0.0], [weight * scale, below]])
    return td.MultivariateNormal(f64([mean, weight * mean]), scale_tril=a)


def chains():
    q = Steps("q(w|z)", 0.8, 0.5) * Normal("q(z)", loc=f64(1.0), scale=f64(0.7))
    p = Steps("p(w|z)", -0.3, 1.2) * Normal("p(z)", loc=f64(0.0), scale=f64(1.0))
    truth = td.kl_divergence(chain_normal(1.0, 0.7, 0.8, 0.5), chain_normal(0.0, 1.0, -0.3, 1.2)).item()
    return q, p, truth


def test_a_joint_by_the_chain_rule():
    q, p, truth = chains()
    loss = KullbackLeibler(q, p)
    assert str(loss) == "KL[q(z)||p(z)] + E_q(w,z)[KL[q(w|z)||p(w|z)]]"
    assert not loss.is_analytic
    draws = loss.estimate(batch_size=100_000)
    assert abs(draws.mean().item() - truth) < 4 * draws.std().item() / math.sqrt(len(draws))
    # less noise than by Monte Carlo alone
    assert draws.std() < 0.7 * KullbackLeibler(q, p, analytic=False).estimate(batch_size=100_000).std()


def test_factors_that_are_independent_are_a_closed_form():
    q = Normal("q(z)", loc=f64(1.0), scale=f64(0.7)) * Normal("q(w)", loc=f64(0.3), scale=f64(1.3))
    p = Normal("p(w)", loc=f64(0.0), scale=f64(1.0)) * Normal("p(z)", loc=f64(0.0), scale=f64(1.0))
    loss = KullbackLeibler(q, p)
    assert loss.is_analytic
    assert str(loss) == "KL[q(z,w)||p(w,z)]"
    truth = sum(td.kl_divergence(td.Normal(*map(f64, a)), td.Normal(f64(0.0), f64(1.0))) for a in ((1.0, 0.7), (0.3, 1.3)))
    torch.testing.assert_close(loss.estimate(), truth.reshape(1))


def test_where_the_right_side_runs_the_other_way_it_is_monte_carlo():
    """q(w|z)q(z) against p(z|w)p(w): no factor has what it depends on above it, so only p(w), whose q depends on z, is left to draws."""
    q, _, _ = chains()
    p = Steps("p(z|w)", 0.4, 0.9) * Normal("p(w)", loc=f64(0.0), scale=f64(1.0))
    loss = KullbackLeibler(q, p, num_samples=50)
    a = f64([[0.9, 0.4], [0.0, 1.0]])
    truth = td.kl_divergence(chain_normal(1.0, 0.7, 0.8, 0.5), td.MultivariateNormal(torch.zeros(2), covariance_matrix=a @ a.T)).item()
    draws = loss.estimate(batch_size=4000)
    assert "log" in str(loss)
    assert abs(draws.mean().item() - truth) < 4 * draws.std().item() / math.sqrt(len(draws))


def test_a_label_above_is_summed_out_exactly():
    """KL of q(z|y)q(y|x) from p(z|y)p(y): nothing is left to chance."""
    weights = nn.Parameter(f64([0.2, -0.5, 0.4]))

    class Of(Normal):
        def __init__(self, text, means, scale):
            super().__init__(text)
            self.means, self.sd = f64(means), scale

        def forward(self, y):
            loc = y @ self.means
            return {"loc": loc, "scale": torch.full_like(loc, self.sd)}

    qy = Categorical("q(y)", logits=weights)
    q, p = Of("q(z|y)", [0.0, 1.0, 2.0], 0.5) * qy, Of("p(z|y)", [0.5, 0.5, -1.0], 1.0) * Categorical("p(y)", probs=f64([0.2, 0.3, 0.5]))
    loss = KullbackLeibler(q, p)
    assert str(loss) == "KL[q(y)||p(y)] + E_q(z,y)[KL[q(z|y)||p(z|y)]]"
    pi = weights.softmax(-1)
    inner = td.kl_divergence(td.Normal(f64([0.0, 1.0, 2.0]), f64(0.5)), td.Normal(f64([0.5, 0.5, -1.0]), f64(1.0)))
    truth = (pi * ((pi / f64([0.2, 0.3, 0.5])).log() + inner)).sum()
    value = loss.estimate()
    torch.testing.assert_close(value, truth.reshape(1))
    torch.testing.assert_close(torch.autograd.grad(value.sum(), weights), torch.autograd.grad(truth, weights))


def test_what_is_computed_above_is_known():
    """A hidden layer that is shared, marginalised out, and conditioning on a value."""
    f = Deterministic("f(h|x)", h=nn.Linear(3, 2))
    q = (Normal("q(z|h)", loc=nn.Linear(2, 2), scale=f64(0.5)) * f).marginalize_var("h")
    p = Normal("p(z)", loc=f64([0.0, 0.0]), scale=f64(1.0))
    loss = KullbackLeibler(q, p)
    assert loss.is_analytic
    assert str(loss) == "KL[q(z|x)||p(z)]" or str(loss) == f"KL[{q.prob_text}||p(z)]"
    x = torch.randn(4, 3)
    loc = q.mean({"x": x})
    truth = td.kl_divergence(td.Normal(loc, f64(0.5)), td.Normal(f64(0.0), f64(1.0))).sum(-1)
    torch.testing.assert_close(loss.estimate({"x": x}), truth)
    at = Normal("q(z|y)", loc="y", scale=f64(1.0)).condition(y=f64([1.0, 2.0]))
    to = Normal("p(z|y)", loc="y", scale=f64(2.0)).condition(y=f64([0.0, 0.0]))
    both = KullbackLeibler(at, to)
    assert both.is_analytic
    truth = td.kl_divergence(td.Normal(f64([1.0, 2.0]), f64(1.0)), td.Normal(f64(0.0), f64(2.0))).sum()
    torch.testing.assert_close(both.estimate(), truth.reshape(1))


def test_the_terms_of_a_joint_share_the_draws_of_other_expectations():
    """Reconstruction minus KL at q = p(z|x): the same number for every draw."""
    q, p, _ = chains()
    difference = Expectation(q, LogProb(p)) + KullbackLeibler(q, p, analytic=False) - Expectation(q, LogProb(q))
    torch.testing.assert_close(difference.estimate(batch_size=7), torch.zeros(7), rtol=0, atol=1e-12)


def test_an_encoder_runs_once_for_a_hierarchical_divergence():
    runs = []

    class Encoder2(Normal):
        def forward(self, x):
            runs.append(len(x))
            return {"loc": x, "scale": torch.ones_like(x)}

    q = Steps("q(w|z)", 0.8) * Encoder2("q(z|x)")
    p = Steps("p(w|z)", -0.3) * Normal("p(z)", loc=f64(0.0), scale=f64(1.0))
    seen = Normal("p(x|w)", loc="w", scale=f64(1.0))
    loss = Expectation(q, LogProb(seen)) - KullbackLeibler(q, p)
    loss.estimate({"x": torch.randn(5)})
    assert runs == [5]


def test_mixtures_are_estimated():
    k = Categorical("q(k)", probs=f64([0.3, 0.7]))
    q = MixtureModel([Normal("a(z)", loc=f64(-1.0), scale=f64(0.5)), Normal("b(z)", loc=f64(1.0), scale=f64(1.0))], k, name="q")
    p = Normal("p(z)", loc=f64(0.0), scale=f64(1.0))
    loss = KullbackLeibler(q, p, num_samples=100)
    assert not loss.is_analytic
    nodes = testing.line(n=4001)
    a, b = (side.log_likelihood({"z": nodes.points}) for side in (q, p))
    truth = (nodes.weights * a.exp() * (a - b)).sum().item()
    draws = loss.estimate(batch_size=2000)
    assert abs(draws.mean().item() - truth) < 4 * draws.std().item() / math.sqrt(len(draws))
