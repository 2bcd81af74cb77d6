"""What has nothing to be trained in or above it is drawn plainly: one pass of f, no score, no warning; all else keeps its estimator."""

import warnings

import pytest
import torch
from torch import nn

from pixyz.core import FormulaError, Loss, Sample, seeded
from pixyz.distributions import Bernoulli, Categorical, CategoricalIndex, Normal, Poisson
from pixyz.losses import CrossEntropy, KullbackLeibler


class Counted(nn.Module):
    """A network that counts what it is called with."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.5))
        self.rows = []

    def forward(self, t):
        self.rows.append(len(t))
        return self.weight * t.reshape(len(t), -1).sum(-1)


def trained(*shape):
    return nn.Parameter(torch.zeros(shape))


def times(n):
    return CategoricalIndex("p(t)", probs=torch.ones(n) / n)


@pytest.mark.parametrize("n", [2, 256, 257, 1000])
@pytest.mark.parametrize("options", [{}, {"estimator": "sample"}, {"estimator": {"t": Sample()}}], ids=["auto", "name", "object"])
def test_a_time_without_parameters_is_drawn_once(n, options):
    network = Counted()
    loss = Loss.from_function(network, "f", var=["t"]).expectation(times(n), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss.mean().estimate(batch_size=8).backward()
        assert loss.explain(batch_size=8).how == "t drawn 1 time"
    assert network.rows == [8, 8]
    assert network.weight.grad is not None
    assert not loss.is_biased
    many = loss.estimate(batch_size=20_000).detach()
    assert many.mean().item() == pytest.approx(1.5 * (n - 1) / 2, rel=0.1)
    assert many.std() > 0


def test_several_draws_are_averaged():
    loss = Loss.from_function(Counted(), "f", var=["t"]).expectation(times(10), num_samples=5)
    assert loss.explain(batch_size=3).how == "t drawn 5 times"
    assert loss.estimate(batch_size=3).shape == (3,)


F_T = Loss.from_function(lambda t: t.reshape(len(t), -1).sum(-1), "f", var=["t"])
ESTIMATED = {
    "a parameter": lambda: CategoricalIndex("p(t)", logits=trained(5)),
    "a tensor with a gradient": lambda: CategoricalIndex("p(t)", logits=torch.zeros(5) * trained(5)),
    "a network": lambda: CategoricalIndex("p(t|z)", logits=nn.Linear(2, 5)) * Normal("p(z)", loc=torch.zeros(2), scale=1.0),
    "a function with a weight of its own": lambda: (
        CategoricalIndex("p(t|z)", logits=Hidden()) * Normal("p(z)", loc=torch.zeros(2), scale=1.0)
    ),
    "a parent drawn pathwise": lambda: (
        CategoricalIndex("p(t|z)", logits=lambda z: torch.cat([z, -z], -1)) * Normal("p(z)", loc=trained(2), scale=1.0)
    ),
    "a parent that is summed": lambda: CategoricalIndex("p(t|y)", logits=lambda y: 2 * y) * Categorical("p(y)", logits=trained(4)),
    "a grandparent": lambda: (
        CategoricalIndex("p(t|w)", logits=lambda w: 2 * w)
        * Bernoulli("p(w|y)", logits=lambda y: y - 1)
        * Categorical("p(y)", logits=trained(4))
    ),
}


class Hidden:
    """A function that nobody sees into."""

    def __init__(self):
        self.weight = torch.zeros(2, 5, requires_grad=True)

    def __call__(self, z):
        return z @ self.weight


@pytest.mark.parametrize("name", ESTIMATED)
def test_what_is_to_be_trained_in_or_above_it_is_estimated(name):
    q = ESTIMATED[name]()
    loss = F_T.expectation(q, num_samples=2, max_enumerate=1024)
    assert "t summed exactly" in loss.explain(batch_size=3).how
    with torch.no_grad():
        assert "t summed exactly" in loss.explain(batch_size=3).how


def test_a_given_value_with_a_gradient_is_something_to_be_trained():
    q = Bernoulli("q(t|theta)", logits="theta")
    loss, theta = F_T.expectation(q), torch.zeros(3, 1)
    assert loss.explain({"theta": theta}).how == "t drawn 1 time"
    assert "t summed exactly" in loss.explain({"theta": theta.requires_grad_()}).how


def test_freezing_the_parameters_makes_it_a_draw():
    q = Poisson("q(t)", rate=nn.Parameter(torch.ones(())))
    loss = F_T.expectation(q, num_samples=2)
    assert "score" in loss.explain(batch_size=1).how
    q.requires_grad_(False)
    assert loss.explain(batch_size=1).how == "t drawn 2 times"


def test_a_constant_above_what_is_trained_is_summed_with_it():
    """A chain is summed as a whole, and so is exact, from its first state on."""
    first = Categorical("q(s)", probs=torch.tensor([0.2, 0.8]))
    second = Categorical("q(t|s)", logits=nn.Linear(2, 3))
    loss = Loss.from_function(lambda s, t: s[:, 0] + t[:, 1], "f", var=["s", "t"]).expectation(second * first)
    assert loss.estimate(batch_size=2).unique().numel() == 1


def test_divergences_of_constants_are_exact():
    p, q = Categorical("p(t)", probs=torch.tensor([0.2, 0.8])), Categorical("q(t)", probs=torch.tensor([0.5, 0.5]))
    truth = 0.5 * torch.tensor(0.5 / 0.2).log() + 0.5 * torch.tensor(0.5 / 0.8).log()
    for loss in (KullbackLeibler(q, p, analytic=False), CrossEntropy(q, p) - CrossEntropy(q, q)):
        torch.testing.assert_close(loss.estimate(batch_size=1), truth.reshape(1))


SAID = {
    "nothing above": (lambda: times(5), False),
    "constants above": (lambda: CategoricalIndex("p(t|y)", logits=lambda y: y) * Categorical("p(y)", probs=torch.ones(4) / 4), False),
    "parameters": (lambda: CategoricalIndex("p(t)", logits=trained(5)), True),
    "parameters above": (lambda: CategoricalIndex("p(t|y)", logits=lambda y: y) * Categorical("p(y)", logits=trained(4)), True),
    "a given value above, which may be trained": (lambda: Bernoulli("p(t|theta)", logits="theta"), True),
}


@pytest.mark.parametrize("name", SAID)
def test_a_draw_asked_for_says_whether_it_may_lose_a_gradient(name):
    make, biased = SAID[name]
    q = make()
    assert F_T.expectation(q, estimator=dict.fromkeys(q.var, "sample")).is_biased is biased


def test_a_draw_asked_for_has_no_gradient():
    q = Normal("q(t)", loc=trained(1), scale=1.0)
    value = F_T.expectation(q, estimator="sample").estimate(batch_size=3)
    assert not value.requires_grad


def test_an_unknown_estimator_is_told_of_it():
    with pytest.raises(FormulaError, match="straight_through, rebar, sample"):
        F_T.expectation(times(3), estimator="draw")


def test_a_function_without_a_slope_is_no_control_variate():
    q = Bernoulli("q(t)", logits=trained(1))
    rounded = Loss.from_function(lambda t: t.detach().sum(-1), "f", var=["t"])
    said = r"f\(t\): the estimator 'rebar' needs the slope of f along t, but the function returns a value without a gradient"
    with pytest.raises(FormulaError, match=said):
        rounded.expectation(q, estimator="rebar").estimate(batch_size=2)


class Unregistered(Categorical):
    """A distribution without conditioning variables whose `forward` uses a tensor that is no parameter."""

    def __init__(self):
        super().__init__(var=["t"], name="q")
        self.kept = [torch.zeros(3, requires_grad=True)]

    def forward(self):
        return {"logits": self.kept[0]}


def test_a_tensor_that_forward_uses_gets_its_gradient():
    q = Unregistered()
    loss = Loss.from_function(lambda t: t @ torch.tensor([1.0, 2.0, 6.0]), "f", var=["t"]).expectation(q)
    loss.estimate(batch_size=1).sum().backward()
    torch.testing.assert_close(q.kept[0].grad, torch.tensor([-2.0, -1.0, 3.0]) / 3)


@pytest.mark.parametrize("of", ["a constant", "a given value"])
def test_a_derivative_that_is_carried_forward_has_the_part_of_the_probabilities(of):
    """In `torch.func.jvp` no tensor says that it requires a gradient."""
    if of == "a constant":
        loss = F_T.expectation(Bernoulli("q(t)", probs=torch.tensor([0.3])))
        (name,) = [name for name, _ in loss.named_buffers()]

        def value(probs):
            return torch.func.functional_call(loss, {name: probs}, ({},), {"batch_size": 1}).sum()
    else:
        loss = F_T.expectation(Bernoulli("q(t|theta)", probs="theta"))

        def value(probs):
            return loss.estimate({"theta": probs[:, None]}).sum()

    _, slope = torch.func.jvp(value, (torch.tensor([0.3]),), (torch.ones(1),))
    torch.testing.assert_close(slope, torch.tensor(1.0))


@pytest.mark.parametrize("sum_first", [True, False])
def test_a_divergence_stays_a_sum_beside_a_draw_of_the_same_distribution(sum_first):
    """Nothing is trained: the divergence sums over the 5 values, the other expectation draws one of them, and neither changes the other."""
    q, p = CategoricalIndex("q(t)", logits=torch.arange(5.0)), CategoricalIndex("p(t)", logits=torch.zeros(5))
    divergence, mean = KullbackLeibler(q, p, analytic=False), F_T.expectation(q)
    loss = divergence + mean if sum_first else mean + divergence
    with seeded(0):
        both = loss.estimate(batch_size=4)
    with seeded(0):
        drawn = mean.estimate(batch_size=4)
    torch.testing.assert_close(both - drawn, KullbackLeibler(q, p).estimate(batch_size=4))
    assert set(drawn.tolist()).issubset(range(5))
