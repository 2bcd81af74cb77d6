"""Under autocast the networks of an evaluation are in half precision, and densities, kernels and exact sums in float32.

The truth has the same network outputs: the value in float32 of the formula whose networks round as autocast does.
"""

import pytest
import torch
from torch import nn

from pixyz.core import Loss, Score
from pixyz.distributions import Bernoulli, MultivariateNormal, Normal
from pixyz.losses import MMD, EnergyDistance, InfoNCE

D = 5
KINDS = {"bf16": torch.bfloat16, "f16": torch.float16}


class Rounds(nn.Module):
    """A layer that rounds as autocast does, by itself, and so gives the same outputs with and without autocast around it."""

    def __init__(self, *sizes):
        super().__init__()
        self.net = nn.Linear(*sizes)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            y = self.net(x)
        return y.float()


class Seen(nn.Linear):
    """A layer that keeps the dtype of its product."""

    dtype = None

    def forward(self, input):
        y = super().forward(input)
        self.dtype = y.dtype
        return y


class Summed(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, z):
        return self.layer(z).sum(-1)


class Pairs(Summed):
    def forward(self, x, y):
        return (self.layer(x) * y).sum(-1)


def normal_of_full_covariance():
    lower = torch.tril(torch.randn(D, D)) + 3 * torch.eye(D)
    p = MultivariateNormal("p(x|y)", loc=Rounds(2, D), scale_tril=lower)
    return p.log_prob(), {"x": torch.randn(8, D), "y": torch.randn(8, 2)}


def linear_gaussian():
    p = Normal("p(x|z)", loc=nn.Linear(3, D, bias=False), scale=0.3) * Normal("p(z)", loc=0.0, scale=1.0, dim=3)
    return p.marginalize_var("z").log_prob(), {"x": torch.randn(8, D)}


def kernels():
    q = Normal("q(x|y)", loc=Rounds(2, D), scale=1.0)
    p = Normal("p(x)", loc=0.0, scale=1.0, dim=D)
    return MMD(q, p), {"y": torch.randn(32, 2)}


def distances():
    q = Normal("q(x|y)", loc=Rounds(2, D), scale=1.0)
    return EnergyDistance(q, Normal("p(x)", loc=0.0, scale=1.0, dim=D)), {"y": torch.randn(32, 2)}


def plain_function():
    weight = torch.randn(D, D)
    return Loss.from_function(lambda x: ((x @ weight) * x).sum(-1), "energy", var=["x"]), {"x": torch.randn(8, D)}


FORMULAS = {f.__name__: f for f in (normal_of_full_covariance, linear_gaussian, kernels, distances, plain_function)}


def seeded_estimate(loss, values):
    torch.manual_seed(1)
    return loss.estimate(values)


@pytest.mark.parametrize("make", FORMULAS.values(), ids=FORMULAS)
def test_what_is_no_network_is_as_without_autocast(make):
    torch.manual_seed(0)
    loss, values = make()
    expected = seeded_estimate(loss, values)
    with torch.autocast("cpu", torch.bfloat16):
        found = seeded_estimate(loss, values)
        assert torch.is_autocast_enabled("cpu")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_methods_of_distributions_agree_too():
    p = MultivariateNormal("p(x)", loc=torch.zeros(D), scale_tril=torch.tril(torch.randn(D, D)) + 3 * torch.eye(D))
    methods = [lambda: p.sample(batch_size=4)["x"], lambda: p.log_likelihood({"x": torch.ones(2, D)}), p.entropy, p.variance]
    for method in methods:
        torch.manual_seed(2)
        expected = method()
        torch.manual_seed(2)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(method(), expected)


@pytest.mark.parametrize("dtype", KINDS.values(), ids=KINDS)
def test_networks_are_in_half_precision(dtype):
    layers = {name: Seen(3, 3) for name in ("loc", "function", "baseline", "critic")}
    q = Bernoulli("q(z|x)", logits=layers["loc"])
    function = Loss.from_function(Summed(layers["function"]), "f", var=["z"])
    loss = function.expectation(q, estimator=Score(baseline=nn.Sequential(layers["baseline"], nn.Linear(3, 1))), num_samples=2).mean()
    bound = InfoNCE(Normal("q(y|x)", loc="x", scale=1.0), critic=Pairs(layers["critic"]))
    with torch.autocast("cpu", dtype):
        value = (loss - bound).estimate({"x": torch.randn(4, 3)})
    value.backward()
    assert value.dtype == torch.float32
    assert [layer.dtype for layer in layers.values()] == [dtype] * 4
    assert layers["loc"].weight.grad.dtype == torch.float32


def test_weights_are_converted_anew_after_they_have_changed():
    """Torch keeps converted weights as long as its outermost autocast lasts, here the whole of a training."""
    layer = nn.Linear(2, 2)
    loss = Normal("p(y|x)", loc=layer, scale=1.0).log_prob().mean()
    values = {"x": torch.ones(3, 2), "y": torch.zeros(3, 2)}
    with torch.autocast("cpu", torch.bfloat16):
        before = loss.estimate(values)
        with torch.no_grad():
            layer.weight.add_(1.0)
        after = loss.estimate(values)
    assert before != after


def test_a_compiled_loss_follows_autocast():
    layer = nn.Linear(2, 2)
    loss = Normal("p(y|x)", loc=layer, scale=1.0).log_prob().mean()
    values = {"x": torch.randn(3, 2), "y": torch.randn(3, 2)}
    expected = loss.estimate(values)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss.estimate(values)
    loss.compile(fullgraph=True, backend="eager")
    for _ in range(2):
        assert torch.equal(loss.estimate(values), expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(loss.estimate(values), rounded)
    assert rounded != expected
