"""The same weights in zuko and normflows: the same log-likelihoods, gradients and draws.

What a network gives is parametrised otherwise here and there; `Translated` says how, so that everything else must agree.
"""

import math

import normflows
import pytest
import torch
import zuko
from torch import Tensor, nn

from pixyz.distributions import Normal
from pixyz.flows import (
    MAF,
    NSF,
    AffineMap,
    Chain,
    Coupling,
    InverseTransformedDistribution,
    MaskedAutoregressive,
    MonotoneMap,
    Permutation,
    SplineMap,
    TransformedDistribution,
    testing,
)

D, CONTEXT, BINS = 4, 3, 6


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


class Translated(MonotoneMap):
    """A map of ours, given by the parameters of another library."""

    def __init__(self, of, translate):
        super().__init__()
        self.of, self.translate = of, translate
        self.size, self.domain = of.size, of.domain

    def push(self, x, params):
        return self.of.push(x, self.translate(params))

    def pull(self, y, params):
        return self.of.pull(y, self.translate(params))


def for_log_scale(log_scale: Tensor, bound: float = -math.log(1e-3)) -> Tensor:
    """The parameter from which an `AffineMap` makes this logarithm of the scale."""
    return bound * (log_scale / bound).atanh()


def unbounded(a: Tensor, bound: float) -> Tensor:
    """The parameter from which a `SplineMap` makes a: the inverse of a / (1 + |a| / bound)."""
    return a / (1 - a.abs() / bound)


def affine_of_zuko(params):
    shift, a = params.unbind(-1)
    return torch.stack([shift, for_log_scale(a / (1 + (a / math.log(1e-3)).abs()))], -1)


def affine_of_normflows(params):
    shift, log_scale = params.unbind(-1)
    return torch.stack([shift, for_log_scale(log_scale)], -1)


def spline_of_normflows(params, smallest=1e-3):
    """Bins have at least this size there, and slopes are a softplus and this; here both are bounded softly."""
    *sizes, slopes = params.split([BINS, BINS, BINS - 1], -1)
    logs = [(smallest + (1 - smallest * BINS) * size.softmax(-1)).log() for size in sizes]
    bound = -math.log(1e-3)
    centred = [unbounded(log - (log.amax(-1, True) + log.amin(-1, True)) / 2, bound / 2) for log in logs]
    return torch.cat([*centred, unbounded((smallest + nn.functional.softplus(slopes)).log(), bound)], -1)


def stirred(module, by=0.4):
    with torch.no_grad():
        for w in module.parameters():
            w.add_(by * torch.randn_like(w))
    return module


def noise():
    return Normal(var=["e"], loc=0.0, scale=1.0, features_shape=[D])


@torch.no_grad()
def take_weights(ours, theirs):
    """Those of a masked network of zuko's, whose units stand in another order, and whose context stands behind the features."""
    units = [*range(D, theirs.hyper.in_features), *range(D)]
    seen = torch.eye(theirs.hyper.in_features)[:, :D]
    linear = [layer for layer in theirs.hyper if isinstance(layer, nn.Linear)]
    for i, (to, layer) in enumerate(zip(ours.layers, linear, strict=True)):
        seen = (layer.mask.double() @ seen > 0).double()
        rows = seen.sum(1).argsort(stable=True) if i < len(linear) - 1 else torch.arange(len(seen))
        to.weight.copy_((layer.weight * layer.mask)[rows][:, units])
        to.bias.copy_(layer.bias[rows])
        units = rows.tolist()


def zuko_pair(kind, context):
    options = {"features": D, "context": context, "transforms": 3}
    if kind == "MAF":
        theirs = zuko.flows.MAF(**options, hidden_features=[24, 12])
        ours = MAF("p(x|y)" if context else "p(x)", **options, hidden=[24, 12])
    else:
        theirs = zuko.flows.NSF(**options, bins=BINS, hidden_features=[24, 12])
        ours = NSF("p(x|y)" if context else "p(x)", **options, bins=BINS, hidden=[24, 12], kind="autoregressive")
    stirred(theirs)
    layers = [f for f in ours.generator.inverse.layers if isinstance(f, MaskedAutoregressive)]
    for layer, transform in zip(layers, theirs.transform.transforms, strict=True):
        take_weights(layer, transform)
        if kind == "MAF":
            layer.map = Translated(layer.map, affine_of_zuko)

    def given(y):
        return theirs(y if context else None)

    return ours, lambda x, y: given(y).log_prob(x), lambda z, y: given(y).transform.inv(z)


def normflows_affine(context):
    """From noise to data, in turns with a swap of the halves."""
    layers, blocks = [], []
    for _ in range(3):
        net = stirred(normflows.nets.MLP([D // 2, 8, 8, D]), 0.1)  # of which nothing bounds the scale
        blocks += [normflows.flows.AffineCouplingBlock(net), normflows.flows.Permute(D, mode="swap")]
        layers += [Coupling(D, map=Translated(AffineMap(), affine_of_normflows), network=lambda n, m, net=net: net)]
        layers += [Permutation(D, order=[2, 3, 0, 1])]
    theirs = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(D, trainable=False), blocks)
    return TransformedDistribution(noise(), Chain(layers), "p(x)"), lambda x, y: theirs.log_prob(x), lambda z, y: theirs.forward(z)


class OnBoth(nn.Module):
    """An MLP that takes the context beside the features, or behind them."""

    def __init__(self, n, m):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n, 8), nn.Tanh(), nn.Linear(8, m))
        self.hidden_features = 1  # by whose root normflows divides what the sizes of bins are made of

    def forward(self, x, context=None):
        return self.net(x if context is None else torch.cat([x, context], 1))


def normflows_spline(context):
    """From data to noise."""
    layers, blocks = [], []
    for i in range(3):
        net = stirred(OnBoth(D // 2 + context, (D // 2) * (3 * BINS - 1)))
        mask = torch.tensor([0, 0, 1, 1]) if i % 2 == 0 else torch.tensor([1, 1, 0, 0])
        blocks.append(
            normflows.flows.neural_spline.coupling.PiecewiseRationalQuadraticCoupling(
                mask, lambda n, m, net=net: net, num_bins=BINS, tails="linear", tail_bound=3.0
            )
        )
        spline = Translated(SplineMap(BINS, 3.0), spline_of_normflows)
        layers.append(Coupling(D, map=spline, swap=i % 2 == 1, context=context, network=lambda n, m, net=net: net))

    def log_prob(x, y):
        total = torch.zeros(len(x))
        for block in blocks:
            x, log_det = block(x, y if context else None)
            total = total + log_det
        return total + torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)

    def draw(z, y):
        for block in reversed(blocks):
            z, _ = block.inverse(z, y if context else None)
        return z

    return InverseTransformedDistribution(noise(), Chain(layers), "p(x|y)" if context else "p(x)"), log_prob, draw


PEERS = {
    "zuko, MAF": lambda: zuko_pair("MAF", 0),
    "zuko, MAF, conditional": lambda: zuko_pair("MAF", CONTEXT),
    "zuko, NSF": lambda: zuko_pair("NSF", 0),
    "zuko, NSF, conditional": lambda: zuko_pair("NSF", CONTEXT),
    "normflows, affine coupling": lambda: normflows_affine(0),
    "normflows, spline coupling": lambda: normflows_spline(0),
    "normflows, spline coupling, conditional": lambda: normflows_spline(CONTEXT),
}


@pytest.mark.parametrize("name", PEERS)
def test_the_same_weights_give_the_same(name):
    ours, log_prob, draw = PEERS[name]()
    x, y, z = 2 * torch.randn(40, D), torch.randn(40, CONTEXT), 1.5 * torch.randn(40, D)
    ours_x, theirs_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = ours.log_likelihood({"x": ours_x, "y": y}), log_prob(theirs_x, y)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    gradients = [torch.autograd.grad(t.sum(), by)[0] for t, by in ((found, ours_x), (expected, theirs_x))]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)
    conditional = ours.generator.context > 0
    drawn, _ = ours.generator.forward_and_log_det(z, y if conditional else None)
    torch.testing.assert_close(drawn, draw(z, y), rtol=1e-7, atol=1e-7)
    assert expected.std() > 1  # far from the identity, where all would agree


def test_what_is_translated_obeys_the_laws():
    spline = lambda: Coupling(D, map=Translated(SplineMap(BINS, 3.0), spline_of_normflows), hidden=[6])  # noqa: E731
    testing.check(spline, torch.randn(5, D), depth=None, traceable=False, sizes=())
