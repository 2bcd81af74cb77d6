"""Baselines of the score: what they learn, follow and are registered as."""

import copy
import io

import pytest
import torch
from losses.test_estimators import NEARLY_EQUAL, Learned
from torch import nn

from pixyz.core import KindError, Loss, MovingAverage, Score, ShapeError
from pixyz.distributions import Bernoulli


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("k", [1, 4])
def test_a_learned_baseline_goes_to_the_mean_cost_whatever_the_sign(sign, k):
    baseline = Learned(-1.0)
    q = Bernoulli("q(b|theta)", probs="theta")
    loss = sign * NEARLY_EQUAL.expectation(q, num_samples=k, estimator=Score(baseline=baseline)).mean()
    rows = torch.full((500, 1), 0.3, requires_grad=True)
    optimiser = torch.optim.SGD(loss.parameters(), lr=0.2)
    for _ in range(30):
        optimiser.zero_grad()
        loss.estimate({"theta": rows}).backward()
        optimiser.step()
    assert baseline.value.item() == pytest.approx(0.2496, abs=2e-4)


def test_a_baseline_that_sees_the_condition_learns_its_cost_and_gives_q_nothing():
    """Costs are x³ whatever b is, so the exact baseline leaves no gradient; the weight of each datum is that in the loss."""
    network = nn.Sequential(nn.Linear(1, 1))
    q = Bernoulli("q(b|x)", logits=nn.Linear(1, 1))
    f = Loss.from_function(lambda b, x: (3 * x - 1 + 0 * b).sum(-1), "f", var=["b", "x"])
    loss = f.expectation(q, estimator=Score(baseline=network)).mean()
    x = torch.randn(200, 1)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        loss.estimate({"x": x}).backward()
        optimiser.step()
    assert network[0].weight.item() == pytest.approx(3, abs=1e-3)
    assert network[0].bias.item() == pytest.approx(-1, abs=1e-3)
    inputs = x.clone().requires_grad_()
    with torch.no_grad():
        network[0].weight += 5
    value = loss.estimate({"x": inputs})
    (slope,) = torch.autograd.grad(value, [inputs], retain_graph=True)
    assert not torch.allclose(slope, torch.full_like(x, 3 / 200))  # through q's log-density, as it should be
    assert value.item() == pytest.approx((3 * x - 1).mean().item())


def test_a_baseline_below_a_sum_learns_the_cost_itself():
    """Not the cost times the probability of what is summed."""
    learned, average = Learned(0.0), MovingAverage()
    f = Loss.from_function(lambda b, y: 3 + 0 * (b + y).sum(-1), "f", var=["b", "y"])
    q = Bernoulli("q(b|y)", logits="y") * Bernoulli("q(y)", probs=0.2, dim=1)
    loss = f.expectation(q, estimator={"b": Score(baseline=learned), "y": "enumerate"}).mean()
    optimiser = torch.optim.SGD(loss.parameters(), lr=0.3)
    for _ in range(50):
        optimiser.zero_grad()
        loss.estimate().backward()
        optimiser.step()
    assert learned.value.item() == pytest.approx(3)
    f.expectation(q, estimator={"b": Score(baseline=average), "y": "enumerate"}).estimate()
    assert average().item() == pytest.approx(3)


def test_a_moving_average_follows_the_costs_in_training_mode_only():
    baseline = MovingAverage(decay=0.5)
    c = Loss.from_function(lambda b: 0 * b[:, 0] + 2.0, "f", var=["b"])
    loss = c.expectation(Bernoulli("q(b)", probs=0.5, dim=1), estimator=Score(baseline=baseline))
    assert baseline().item() == 0
    loss.estimate()
    assert baseline().item() == pytest.approx(2.0)
    before = copy.deepcopy(baseline.state_dict())
    loss.eval().estimate()
    assert baseline.state_dict() == before
    baseline.train().observe(torch.tensor([5.0, 7.0]))
    assert baseline().item() == pytest.approx((2.0 * 0.25 + 6 * 0.5) / 0.75)


def test_baselines_stand_in_the_module_tree():
    q = Bernoulli("q(b|x)", logits=nn.Linear(2, 1))
    first, second = nn.Linear(2, 1), MovingAverage()
    a, b = (NEARLY_EQUAL.expectation(q, estimator=Score(baseline=m)) for m in (first, second))
    loss = (a + 2 * b - a).mean()
    names = dict(loss.named_children())
    assert names["baseline[q(b|x)]"] is first
    assert names["baseline[q(b|x)]_1"] is second
    assert set(loss.state_dict()) >= {"baseline[q(b|x)].weight", "baseline[q(b|x)]_1.mean"}
    assert any(w is first.weight for w in loss.parameters())
    other = (b * 2).mean()
    assert [name for name in dict(other.named_children()) if "baseline" in name] == ["baseline[q(b|x)]"]
    restored = copy.deepcopy(loss)
    with torch.no_grad():
        first.weight.fill_(7.0)
    restored.load_state_dict(loss.state_dict())
    x = torch.randn(4, 2)
    restored.estimate({"x": x}).backward()
    assert dict(restored.named_children())["baseline[q(b|x)]"].weight.grad is not None
    assert first.weight.grad is None
    stream = io.BytesIO()
    torch.save(MovingBaseline().loss, stream)
    stream.seek(0)
    torch.load(stream, weights_only=False).estimate({"x": x}).sum().backward()


def squares(b):
    return (b - 0.499).square().sum(-1)


class MovingBaseline:
    """What can be pickled: no lambda in it."""

    def __init__(self):
        q = Bernoulli("q(b|x)", logits=nn.Linear(2, 1))
        self.loss = Loss.from_function(squares, "f", var=["b"]).expectation(q, estimator=Score(baseline=MovingAverage()))


class Wrong(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.new_zeros(len(x), *self.shape)


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


@pytest.mark.parametrize(("value", "came"), [(3, "a int"), (torch.zeros(5, dtype=torch.int64), "one of torch.int64")])
def test_a_baseline_that_is_no_real_number_is_an_error(value, came):
    loss = NEARLY_EQUAL.expectation(Bernoulli("q(b|x)", logits="x"), estimator=Score(baseline=Returns(value)))
    said = rf"baseline\[q\(b\|x\)\]: a baseline must return a tensor of real numbers; it returned {came}\."
    with pytest.raises(KindError, match=said):
        loss.estimate({"x": torch.zeros(5, 1)})


def test_a_baseline_of_a_wrong_shape_is_an_error():
    loss = NEARLY_EQUAL.expectation(Bernoulli("q(b|x)", logits="x"), estimator=Score(baseline=Wrong((3,))))
    said = r"baseline\[q\(b\|x\)\]: for 5 inputs a baseline must return one value for each, \(5,\); it returned \(5, 3\)"
    with pytest.raises(ShapeError, match=said):
        loss.estimate({"x": torch.zeros(5, 1)})
