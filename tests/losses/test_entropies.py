"""Densities, entropies and cross-entropies, against integrals, sums and closed forms."""

import math

import pytest
import torch
from losses.test_expressions import Rows
from torch import nn

from pixyz.distributions import Bernoulli, Categorical, Normal
from pixyz.losses import CrossEntropy, Entropy, KullbackLeibler, Prob


def test_prob_is_the_density():
    torch.set_default_dtype(torch.float64)
    p = Normal("p(x)", loc=0.2, scale=1.5)
    x = torch.linspace(-15, 15, 4001)
    assert torch.trapezoid(Prob(p).estimate({"x": x}), x).item() == pytest.approx(1, abs=1e-9)


def test_entropies():
    torch.set_default_dtype(torch.float64)
    probs = torch.tensor([0.2, 0.7, 0.1])
    scale = nn.Parameter(torch.tensor([0.5, 2.0]))
    p = Normal("p(x)", loc=0.0, scale=scale)
    exact = Entropy(p)
    assert exact.is_analytic
    assert (str(exact), exact.latex(), exact.unicode()) == ("H[p(x)]", r"\mathrm{H}\left[p(x)\right]", "H[p(x)]")
    truth = torch.distributions.Normal(0.0, scale).entropy().sum()
    torch.testing.assert_close(exact.estimate(), truth.reshape(1))
    torch.testing.assert_close(torch.autograd.grad(exact.mean().estimate(), scale)[0], 1 / scale.detach())
    drawn = Entropy(p, analytic=False, num_samples=1000)
    assert not drawn.is_analytic
    assert str(drawn) == "-E_p(x)[log p(x)]"
    seen = drawn.estimate(batch_size=200)
    assert abs(seen.mean().item() - truth.item()) < 4.5 * seen.std().item() / math.sqrt(200)
    y = Categorical("p(y)", probs=probs)
    torch.testing.assert_close(Entropy(y).estimate(), -(probs * probs.log()).sum().reshape(1))
    torch.testing.assert_close(Entropy(y, analytic=False).estimate(), Entropy(y).estimate())


def test_the_entropy_of_a_joint_a_conditional_and_a_marginal():
    torch.set_default_dtype(torch.float64)
    y = Categorical("p(y)", probs=torch.tensor([0.3, 0.7]))
    x = Bernoulli("p(x|y)", logits=Rows(torch.tensor([0.5, -1.0])))
    rho = torch.tensor([0.5, -1.0]).sigmoid()
    table = torch.tensor([0.3, 0.7])[:, None] * torch.stack([1 - rho, rho], -1)
    joint, marginal = Entropy(x * y), Entropy((x * y).marginalize_var("y"))
    assert str(joint) == "-E_p(x,y)[log p(x,y)]"
    assert str(marginal) == "-E_p(x)[log p(x)]"
    torch.testing.assert_close(joint.estimate(), -(table * table.log()).sum().reshape(1))
    truth = -(table.sum(0) * table.sum(0).log()).sum()
    draws = Entropy((x * y).marginalize_var("y"), num_samples=500).estimate(batch_size=200)
    assert abs(draws.mean().item() - truth.item()) <= 4.5 * draws.std().item() / math.sqrt(200) + 1e-12
    conditional = Entropy(x)
    assert conditional.is_analytic
    value = conditional.estimate({"y": torch.eye(2)})
    torch.testing.assert_close(value, torch.distributions.Bernoulli(rho).entropy())
    torch.testing.assert_close(Entropy(x.condition(y=torch.tensor([0.0, 1.0]))).estimate(), value[1:])


def test_cross_entropies():
    """-E_q[log p] = H[q] + KL[q||p]."""
    torch.set_default_dtype(torch.float64)
    q, p = Categorical("q(y)", probs=torch.tensor([0.2, 0.7, 0.1])), Categorical("p(y)", probs=torch.tensor([0.3, 0.3, 0.4]))
    torch.testing.assert_close(CrossEntropy(q, p).estimate(), (Entropy(q) + KullbackLeibler(q, p)).estimate())
    q, p = Normal("q(x)", loc=0.0, scale=1.0), Normal("p(x)", loc=1.0, scale=1.5)
    loss = CrossEntropy(q, p, num_samples=1000)
    assert str(loss) == "-E_q(x)[log p(x)]"
    seen, truth = loss.estimate(batch_size=200), (Entropy(q) + KullbackLeibler(q, p)).estimate().item()
    assert abs(seen.mean().item() - truth) < 4.5 * seen.std().item() / math.sqrt(200)
