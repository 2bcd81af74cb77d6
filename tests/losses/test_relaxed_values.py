"""Values between the discrete ones, and the temperatures at which they are drawn."""

import math

import pytest
import torch
from losses.test_estimators import NEARLY_EQUAL
from torch import nn

from pixyz.core import FormulaError, Rebar, Relaxed, StraightThrough, SupportError, seeded
from pixyz.distributions import Bernoulli, Categorical, Components, Multinomial, Normal
from pixyz.losses import LogProb, StoppedLogProb


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


HALF = 0.25 * math.log(0.3) + 0.75 * math.log(0.7)
EXTENDED = {
    "Bernoulli": (lambda: Bernoulli("p(x)", probs=0.3, dim=1), [[0.25]], HALF),
    "Bernoulli, logits": (lambda: Bernoulli("p(x)", logits=math.log(3 / 7), dim=1), [[0.25]], HALF),
    "Categorical": (
        lambda: Categorical("p(x)", probs=torch.tensor([0.2, 0.8])),
        [[0.1, 0.9]],
        0.1 * math.log(0.2) + 0.9 * math.log(0.8),
    ),
}


@pytest.mark.parametrize("name", EXTENDED)
def test_log_densities_extend_linearly_and_have_a_gradient_in_the_value(name):
    build, x, truth = EXTENDED[name]
    p = build()
    with pytest.raises(SupportError, match="must be"):
        p.log_likelihood({"x": torch.tensor(x)})
    assert type(p).log_density(p.get_params(), torch.tensor(x)).sum().item() == pytest.approx(truth)
    hard = torch.tensor(x).round().requires_grad_()
    (slope,) = torch.autograd.grad(p.log_prob().estimate({"x": hard}).sum(), hard)
    assert slope.abs().sum() > 0.2


@pytest.mark.parametrize("estimator", ["relaxed", "rebar", "straight_through"])
def test_a_relaxed_value_is_in_the_support_of_what_can_be_relaxed(estimator):
    q, prior = Categorical("q(y)", probs=torch.tensor([0.2, 0.8])), Categorical("p(y)", probs=torch.tensor([0.5, 0.5]))
    for body in (LogProb(prior) - LogProb(q), LogProb(prior) - StoppedLogProb(q)):
        assert body.expectation(q, num_samples=2, estimator=estimator).estimate(batch_size=3).isfinite().all()
    counts = LogProb(Multinomial("p(y)", total_count=1.0, probs=torch.tensor([0.5, 0.5]))).expectation(q, estimator=estimator)
    if estimator == "straight_through":
        assert counts.estimate().isfinite().all()
    else:
        with pytest.raises(SupportError, match="y must be whole numbers"):
            counts.estimate()


def test_the_index_of_a_mixture_has_a_gradient():
    parts = Components([Normal("p(x)", loc=0.0, scale=1.0), Normal("p(x)", loc=3.0, scale=1.0)], "k")
    k = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    x = torch.tensor([0.5, 0.5])
    (slope,) = torch.autograd.grad(parts.log_prob().estimate({"x": x, "k": k}).sum(), k)
    each = -0.5 * (x[:1] - torch.tensor([0.0, 3.0])).square() - 0.5 * math.log(2 * math.pi)
    assert torch.allclose(slope, each.expand(2, 2))
    q = Categorical("q(k)", probs=nn.Parameter(torch.tensor([0.2, 0.8])))
    with pytest.raises(FormulaError, match="a draw of x has no gradient for k, which chooses the component"):
        LogProb(Normal("p(x)", loc=0.0, scale=1.0)).expectation(parts * q, estimator={"k": "straight_through"}).estimate()


@pytest.mark.parametrize("kind", [Relaxed, StraightThrough, Rebar])
def test_a_temperature_is_a_number_a_tensor_or_given_with_the_data(kind):
    q = Bernoulli("q(b)", logits=nn.Parameter(torch.tensor([0.3])))
    tensor = torch.tensor(0.5)

    def slope(temperature, values, tau):
        loss = NEARLY_EQUAL.expectation(q, estimator=kind(temperature=temperature)).mean()
        tensor.fill_(tau)
        with seeded(1):
            return torch.autograd.grad(loss.estimate(values), q.parameters())[0].item()

    for tau in (0.5, 1.5):
        wanted = slope(tau, {}, tau)
        assert slope(tensor, {}, tau) == wanted
        assert slope("tau", {"tau": tau}, tau) == wanted
    assert slope(0.5, {}, 0) != slope(1.5, {}, 0)
    with pytest.raises(SupportError, match="tau: a temperature must be a positive number; got -1"):
        slope("tau", {"tau": -1.0}, 0)


@pytest.mark.parametrize("kind", [Relaxed, StraightThrough])
def test_a_temperature_given_with_the_data_has_a_gradient(kind):
    q = Bernoulli("q(b)", probs=0.3, dim=1)
    loss = NEARLY_EQUAL.expectation(q, estimator=kind("tau")).mean()
    tau = torch.tensor(0.5, requires_grad=True)

    def value(tau):
        with seeded(1):
            return loss.estimate({"tau": tau})

    (slope,) = torch.autograd.grad(value(tau), tau)
    if kind is Relaxed:  # the value of a straight-through draw does not depend on the temperature, only its gradient does
        step = 1e-2
        assert slope.item() == pytest.approx((value(0.5 + step) - value(0.5 - step)).item() / (2 * step), rel=1e-2)
    assert slope.item() != 0


def test_a_common_temperature_shares_draws():
    tau = torch.tensor(0.5)
    q = Bernoulli("q(b)", probs=0.3, dim=3)
    difference = NEARLY_EQUAL.expectation(q, estimator=Relaxed(tau)) - NEARLY_EQUAL.expectation(q, estimator=Relaxed(tau))
    assert difference.estimate().item() == 0
    two = NEARLY_EQUAL.expectation(q, estimator=Relaxed(0.5)) - NEARLY_EQUAL.expectation(q, estimator=Relaxed(0.6))
    assert two.estimate().item() != 0
