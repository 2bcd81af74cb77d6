"""Losses at constant values, losses that a function computes, and formulas without data."""

import pytest
import torch
from torch import nn

from pixyz.core import seeded
from pixyz.distributions import Normal
from pixyz.losses import CrossEntropy, Entropy, Expectation, KullbackLeibler, Loss, Parameter, logsumexp, maximum, minimum


def test_a_constant_variable_need_not_be_given():
    torch.set_default_dtype(torch.float64)
    x = torch.randn(4, 2)
    p, q = Normal("p(x|z)", loc="z", scale=1.0), Normal("q(z|x)", loc=nn.Linear(2, 2), scale=0.5)
    elbo = p.log_prob().expectation(q, num_samples=3) - KullbackLeibler(q, Normal("p(z)", loc=0.0, scale=1.0, dim=2))
    held = elbo.constant_var({"x": x})
    assert held.input_var == ()
    assert str(held) == "[E_q(z|x)[log p(x|z)] - KL[q(z|x)||p(z)]]_{x=tensor[4,2]}"
    with seeded(0):
        value = held.estimate()
    with seeded(0):
        torch.testing.assert_close(value, elbo.estimate({"x": x}))
    with seeded(0):
        torch.testing.assert_close(held.sum().estimate({"x": torch.zeros(9, 2)}), value.sum())
    assert torch.equal((held - held).estimate(), torch.zeros(4))
    # what is drawn inside hides nothing outside, and moves with the loss
    assert [k for k in held.state_dict() if "constant" in k] == ["constant_0.value"]
    held.compile(fullgraph=True, backend="eager")
    with seeded(0):
        torch.testing.assert_close(held.estimate(), value)


def test_a_constant_variable_is_copied_and_a_parameter_is_trained():
    a = Normal("p(x)", loc=0.0, scale=1.0).log_prob()
    x = torch.zeros(3)
    held = a.constant_var({"x": x})
    x += 7
    torch.testing.assert_close(held.estimate(), a.estimate({"x": torch.zeros(3)}))
    w = nn.Parameter(torch.ones(3))
    learnt = a.constant_var({"x": w})
    (g,) = torch.autograd.grad(learnt.estimate().sum(), w)
    assert torch.equal(g, -torch.ones(3))
    assert next(learnt.parameters()) is w


def test_constants_one_after_another():
    p = Normal("p(x|z)", loc="z", scale=1.0)
    once = p.log_prob().constant_var({"x": torch.ones(2), "z": torch.zeros(2)})
    twice = p.log_prob().constant_var({"x": torch.ones(2)}).constant_var({"z": torch.zeros(2)})
    assert str(once) == "[log p(x|z)]_{x=[1,1],z=[0,0]}"
    assert str(twice) == "[[log p(x|z)]_{x=[1,1]}]_{z=[0,0]}"
    torch.testing.assert_close(once.estimate(), twice.estimate())


def test_a_function_sees_one_batch_and_is_run_once_for_each_input():
    torch.set_default_dtype(torch.float64)
    seen = []

    class Gap(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 1)

        def forward(self, x, z, t):
            seen.append((x.shape, z.shape, t.shape))
            return (self.fc(x) - z.sum(-1, keepdim=True)).squeeze(-1) * t

    net = Gap()
    gap = Loss.from_function(net, "gap", var=["x", "z", "t"])
    q = Normal("q(z)", loc=0.0, scale=1.0, dim=3)
    loss = gap.expectation(q, num_samples=4) + gap.expectation(q, num_samples=4) ** 2
    values = {"x": torch.randn(5, 2), "t": 0.5}
    assert str(loss) == "E_q(z)[gap(x,z,t)] + E_q(z)[gap(x,z,t)]^2"
    assert sorted(loss.state_dict())[:2] == ["gap(x,z,t).function.fc.bias", "gap(x,z,t).function.fc.weight"]
    with seeded(0):
        value = loss.estimate(values)
    assert seen == [((20, 2), (20, 3), (20,))] * 2  # the square's second factor has draws of its own
    with seeded(0):
        z = [q.sample(batch_size=5, sample_shape=[4])["z"] for _ in range(2)]
    each = [((net.fc(values["x"]) - w.sum(-1, keepdim=True)).squeeze(-1) * 0.5).mean(0) for w in z]
    torch.testing.assert_close(value, each[0] + each[0] * each[1])
    value.sum().backward()
    assert all(w.grad is not None for w in net.parameters())
    loss.compile(fullgraph=True, backend="eager")
    with seeded(0):
        torch.testing.assert_close(loss.estimate(values), value)


def test_a_function_that_is_no_module_registers_nothing():
    loss = Loss.from_function(torch.sum, "total", var=["input"])
    assert [*loss.state_dict()] == [*loss.children()] == []
    assert isinstance(loss, Loss)


Q = Normal("q(z)", loc=0.5, scale=1.0)
F = Normal("p(z)", loc=0.0, scale=2.0).log_prob()
WITHOUT_DATA = {
    "power": Expectation(Q, F) ** 2,
    "elementwise": (Expectation(Q, F).exp() + 1).log().abs().clamp(max=3.0),
    "several": logsumexp(Expectation(Q, F), maximum(KullbackLeibler(Q, Q), 0.1), minimum(Expectation(Q, F.abs()), 1)),
    "detach": Expectation(Q, F.detach()) - Expectation(Q, F).detach(),
    "entropy": Entropy(Q) + Entropy(Q, analytic=False) - CrossEntropy(Q, Q),
    "constant": (F * Parameter("t")).constant_var({"t": 0.3}).expectation(Q) * Entropy(Q),
    "function": Loss.from_function(torch.sin, "sin", var=["input"]).expectation(Normal("q(input)", loc=0.0, scale=1.0)),
}


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_a_formula_without_data_has_the_batch_that_is_asked_for(name):
    loss = WITHOUT_DATA[name]
    assert loss.estimate().shape == (1,)
    assert loss.estimate(batch_size=7).shape == (7,)
    assert loss.estimate(batch_size=0).shape == (0,)
    assert loss.mean().estimate(batch_size=7).shape == ()
    with seeded(1):
        total = loss.sum().estimate(batch_size=7)
    with seeded(1):
        torch.testing.assert_close(total, loss.estimate(batch_size=7).sum())


def test_formulas_without_data_are_one_graph():
    loss = sum((1 + 0.1 * i) * each for i, each in enumerate(WITHOUT_DATA.values()))
    with seeded(1):
        value = loss.estimate(batch_size=7)
    loss.compile(fullgraph=True, backend="eager")
    with seeded(1):
        torch.testing.assert_close(loss.estimate(batch_size=7), value)
