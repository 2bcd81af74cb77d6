"""InfoNCE and the total correlation, by hand, by brute force and by quadrature, in float64."""

import itertools
import math

import pytest
import torch
from losses.test_set_losses import f64, mean_is
from torch import nn

from pixyz.core import ShapeError
from pixyz.distributions import Deterministic, Normal
from pixyz.losses import InfoNCE, TotalCorrelation


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


RHO = 0.8


def critics():
    """x ~ N(0,1), z = ρx + noise: I(x;z) = -½ log(1-ρ²). The log-density as a function, a distribution, and known."""
    q = Normal("q(z|x)", loc=lambda x: RHO * x, scale=f64(math.sqrt(1 - RHO**2)))
    score = lambda x, z: -0.5 * (z - RHO * x).square().squeeze(-1) / (1 - RHO**2)  # noqa: E731
    return {
        "log-density": InfoNCE(q),
        "function": InfoNCE(q, lambda x, z: score(x, z)),
        "Deterministic": InfoNCE(q, Deterministic("f(t|x,z)", t=lambda x, z: score(x, z).unsqueeze(-1))),
        "negatives of the other side": InfoNCE(q, lambda x, z: score(x, z) + 0.5 * z.square().squeeze(-1), negatives="z"),
    }


@pytest.mark.parametrize("name", critics())
def test_info_nce_is_by_hand_and_a_tight_lower_bound(name):
    loss = critics()[name]
    x = torch.randn(6, 1)
    q = Normal("q(z|x)", loc=lambda x: RHO * x, scale=f64(math.sqrt(1 - RHO**2)))
    torch.manual_seed(3)
    value = loss.estimate({"x": x})
    torch.manual_seed(3)
    z = q.sample({"x": x})["z"]
    score = lambda i, j: -0.5 * (z[j] - RHO * x[i]).square() / (1 - RHO**2) + ("other" in name) * 0.5 * z[j].square()  # noqa: E731
    pairs = lambda i: [score(i, j) if "other" in name else score(j, i) for j in range(6)]  # noqa: E731
    by_hand = sum(score(i, i) - torch.stack(pairs(i)).exp().mean().log() for i in range(6)) / 6
    torch.testing.assert_close(value, by_hand.squeeze())
    truth = -0.5 * math.log(1 - RHO**2)
    means = [torch.stack([loss.estimate({"x": torch.randn(n, 1)}) for _ in range(300)]) for n in (2, 128)]
    small, large = (m.mean().item() for m in means)
    assert small < math.log(2)
    assert small < large < truth + 4 * means[1].std().item() / math.sqrt(300)
    assert large > truth - 0.05


def test_an_info_nce_critic_is_trained():
    net = nn.Bilinear(1, 1, 1)
    loss = -InfoNCE(Normal("q(z|x)", loc="x", scale=f64(0.5)), lambda x, z: (x * z).sum(-1))
    module = -InfoNCE(Normal("q(z|x)", loc="x", scale=f64(0.5)), Pair(net))
    assert len(list(module.parameters())) == 2
    module.estimate({"x": torch.randn(4, 1)}).backward()
    assert net.weight.grad.abs().sum() > 0
    assert str(loss) == "-InfoNCE(q(z|x))"


class Pair(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, z):
        return self.net(x, z)


DATA = f64([[-1.0, 0.5], [0.3, 1.0], [1.5, -0.7], [0.0, 2.0], [0.9, 0.9]])


def encoder():
    return Normal("q(z|x)", loc="x", scale=f64([0.4, 0.6]))


def test_total_correlation_of_the_whole_data_set():
    """At M = N the stratified density is exact, so the mean of the loss is the true total correlation, here by quadrature."""
    line = torch.linspace(-5, 6, 401)
    z = torch.cartesian_prod(line, line)
    each = torch.stack([torch.distributions.Normal(x, f64([0.4, 0.6])).log_prob(z) for x in DATA]).exp()
    joint, product = each.prod(-1).mean(0), each.mean(0).prod(-1)
    truth = ((joint * (joint / product).log()).nan_to_num().sum() * (11 / 400) ** 2).item()
    loss = TotalCorrelation(encoder(), 5, estimator="stratified")
    draws = torch.stack([loss.estimate({"x": DATA}) for _ in range(1000)])
    assert mean_is(draws, truth)


def test_total_correlation_given_one_number_is_of_the_batch_of_the_loss():
    """Where q depends on a number alone, all draws have one law, as many as there are data."""
    q = Normal("q(z|b)", loc=lambda b: b.reshape(-1, 1) + torch.zeros(2), scale=f64([0.4, 0.6]))
    beside = Normal("p(x)", loc=0.0, scale=1.0).log_prob().mean()
    loss = TotalCorrelation(q, 4, estimator="stratified")
    value = (loss + 0.0 * beside).estimate({"x": torch.zeros(4), "b": 0.5})
    torch.testing.assert_close(value, torch.zeros_like(value), atol=1e-12, rtol=0)
    with pytest.raises(ShapeError, match="at most dataset_size, 4; it is 5"):
        (loss + beside).estimate({"x": torch.zeros(5), "b": 0.5})


@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
def test_total_correlation_by_brute_force(estimator):
    x, n = DATA[:3], 20
    q = encoder()
    torch.manual_seed(5)
    value = TotalCorrelation(q, n, estimator=estimator).estimate({"x": x})
    torch.manual_seed(5)
    z = q.sample({"x": x})["z"]
    total = 0.0
    for i in range(3):
        weights = [1 / (n * 3) if estimator == "weighted" else 1 / n if j == i else (n - 1) / (n * 2) for j in range(3)]
        densities = [torch.distributions.Normal(x[j], f64([0.4, 0.6])).log_prob(z[i]).exp() for j in range(3)]
        joint = sum(w * d.prod() for w, d in zip(weights, densities))
        total += (joint.log() - sum(w * d for w, d in zip(weights, densities)).log().sum()) / 3
    torch.testing.assert_close(value, total)


def test_the_stratified_density_is_unbiased():
    """Over all minibatches with a datum of its own, the mean of the weighted densities is the mean over the data."""
    n, m = 5, 3
    for own in range(n):
        others = [i for i in range(n) if i != own]
        found = [
            1 / n * (own == 0) + sum((n - 1) / (n * (m - 1)) * (j == 0) for j in batch) for batch in itertools.combinations(others, m - 1)
        ]
        assert sum(found) / len(found) == pytest.approx(1 / n)
