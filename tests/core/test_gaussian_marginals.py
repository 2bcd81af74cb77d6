"""Marginals and posteriors of linear Gaussian trees and of mixtures of them, against dense Gaussians."""

import functools
import itertools
import operator

import pytest
import torch
from graphical import Prior, linear_pair, one_hot, switching
from placed import on, there
from torch import nn

from pixyz.core import FormulaError, IntractableError
from pixyz.distributions import Affine, Components, Normal
from pixyz.losses import ELBO

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.gpu
def test_linear_gaussian_tree_against_the_dense_gaussian(device):
    """Two levels, the identity as a map, a number without features, and an observed input."""
    torch.manual_seed(2)
    left, right, leaf = nn.Linear(2, 2), nn.Linear(2, 3), nn.Linear(3, 1)
    p = (
        Normal("p(d|c)", loc=leaf, scale=0.3)
        * Normal("p(c|a)", loc=right, scale=torch.tensor([0.5, 1.0, 1.5]))
        * Normal("p(e|b)", loc="b", scale=0.2)
        * Normal("p(b|a)", loc=left, scale=0.7)
        * Normal("p(a)", loc=0.5, scale=1.2, dim=2)
    )
    mean_a = torch.full((2,), 0.5)
    w1, w2, w3 = left.weight.detach(), right.weight.detach(), leaf.weight.detach()
    # x = M (a - mean) + noise, for x = (d, e)
    m = torch.cat([w3 @ w2, w1])
    mean = torch.cat([w3 @ (w2 @ mean_a + right.bias.detach()) + leaf.bias.detach(), w1 @ mean_a + left.bias.detach()])
    cov = 1.44 * m @ m.T
    cov[:1, :1] += w3 @ torch.diag(torch.tensor([0.25, 1.0, 2.25])) @ w3.T + 0.09
    cov[1:, 1:] += (0.49 + 0.04) * torch.eye(2)
    d, e = torch.randn(4, 1), torch.randn(4, 2)
    p = there(p, device)
    ours = p.marginalize_var(["a", "b", "c"]).log_likelihood(on(device, {"d": d, "e": e}))
    truth = torch.distributions.MultivariateNormal(mean, cov).log_prob(torch.cat([d, e], 1))
    torch.testing.assert_close(ours.detach().cpu(), truth, rtol=1e-10, atol=1e-9)
    # The mean of d alone, by the tower rule.
    torch.testing.assert_close(p.marginalize_var(["a", "b", "c", "e"]).mean().detach().cpu()[0], mean[:1])
    torch.testing.assert_close(p.marginalize_var(["a", "b", "c", "e"]).variance().detach().cpu()[0], cov[:1, 0])


@pytest.mark.gpu
def test_affine_in_several_variables(device):
    """p(z|h,u) with h hidden and u seen, and p(x|z,h) with both hidden."""
    torch.manual_seed(9)
    move, see = Affine(2, h=2, u=1), Affine(2, z=2, h=2, bias=False)
    p = Normal("p(x|z,h)", loc=see, scale=0.4) * Normal("p(z|h,u)", loc=move, scale=0.6) * Normal("p(h)", loc=0.0, scale=1.0, dim=2)
    x, u = torch.randn(3, 2), torch.randn(3, 1)
    a, b = move.linear_maps["h"].detach(), move.linear_maps["u"].detach()
    c, d = see.linear_maps["z"].detach(), see.linear_maps["h"].detach()
    m = c @ a + d
    cov = m @ m.T + 0.36 * c @ c.T + 0.16 * torch.eye(2)
    truth = torch.distributions.MultivariateNormal((u @ b.T + move.bias.detach()) @ c.T, cov).log_prob(x)
    p, given = there(p, device), on(device, {"x": x, "u": u})
    torch.testing.assert_close(p.marginalize_var(["z", "h"]).log_likelihood(given).detach().cpu(), truth)
    gain = m.T @ torch.linalg.inv(cov)
    mean = (x - (u @ b.T + move.bias.detach()) @ c.T) @ gain.T
    torch.testing.assert_close(p.marginalize_var("z").posterior("h").mean(given).detach().cpu(), mean)
    with pytest.raises(FormulaError, match="name the variables it is linear in"):
        Affine(3)
    with pytest.raises(FormulaError, match="linear in z; it was called with h, without z"):
        Affine(3, z=2)(h=x)
    # What it is not linear in may be another parameter's.
    assert Normal("p(x|z,u)", loc=Affine(3, z=2), scale=lambda u: u.exp()).linear_var == {"z"}


@pytest.mark.gpu
def test_a_gaussian_below_a_finite_variable_is_a_mixture(device):
    p, net, switch, weights, parts = switching()
    x = torch.randn(4, 2)
    joint = torch.stack([part.log_prob(x) for part in parts], -1) + weights.log()
    marginal, given = there(p.marginalize_var(["z", "k"]), device), {"x": x.to(device)}
    torch.testing.assert_close(marginal.log_likelihood(given).cpu(), joint.logsumexp(-1), rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(marginal.posterior("k").mean(given).cpu(), joint.softmax(-1), rtol=1e-9, atol=1e-10)
    # z given x: a mixture of three normals, by the laws of total expectation and variance.
    q = marginal.posterior("z")
    assert not q.has_rsample
    assert not q.has_enumerate
    gains = [torch.diag(s.square()) @ net.weight.T @ torch.linalg.inv(part.covariance_matrix) for s, part in zip(switch.scale_net, parts)]
    means = torch.stack([m + (x - part.mean) @ g.T for m, part, g in zip(switch.loc_net, parts, gains)], 1)
    covs = torch.stack([torch.diag(s.square()) - g @ net.weight @ torch.diag(s.square()) for s, g in zip(switch.scale_net, gains)])
    w = joint.softmax(-1).unsqueeze(-1)
    mean = (w * means).sum(1)
    variance = (w * (covs.diagonal(dim1=-2, dim2=-1) + means.square())).sum(1) - mean.square()
    torch.testing.assert_close(q.mean(given).cpu(), mean, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(q.variance(given).cpu(), variance, rtol=1e-9, atol=1e-10)
    drawn = q.sample(given, sample_shape=[50_000])["z"].cpu()
    assert (((drawn.mean(0) - mean) / (variance / 50_000).sqrt()).abs() < 4.5).all()
    assert (drawn.var(0) / variance - 1).abs().max() < 0.05
    z = torch.randn(4, 2)
    parts_z = [torch.distributions.MultivariateNormal(means[:, i], covs[i]).log_prob(z) for i in range(3)]
    torch.testing.assert_close(
        q.log_likelihood({**given, "z": z.to(device)}).cpu(), (torch.stack(parts_z, -1) + joint.log_softmax(-1)).logsumexp(-1)
    )
    with pytest.raises(IntractableError, match="has no entropy in closed form"):
        q.entropy(given)


@pytest.mark.gpu
def test_the_moments_of_a_marginal(device):
    p, _, switch, weights, _ = switching()
    z = there(p.marginalize_var(["x", "k"]), device)
    mean = weights @ switch.loc_net
    torch.testing.assert_close(z.mean()[0].cpu(), mean)
    torch.testing.assert_close(z.variance()[0].cpu(), weights @ (switch.scale_net.square() + switch.loc_net.square()) - mean.square())


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_evidence_whose_parts_have_different_enumerated_variables(order):
    """The potential over z and k has those of y's alone, in the middle of which x's may stand."""
    torch.manual_seed(11)
    components = Components([Normal("p(z)", loc=torch.randn(2), scale=s) for s in (0.5, 1.0, 2.0)], "k")
    x = Normal("p(x|w,a)", loc=Affine(2, w=2, a=3), scale=0.7)
    y = Normal("p(y|z,b,c)", loc=Affine(2, z=2, b=3, c=3), scale=0.6)
    p = x * y * Normal("p(w|z)", loc=nn.Linear(2, 2), scale=0.8) * components * Prior("k", 3)
    p = p.marginalize_var(["z", "w", "k"])
    qs = {v: Prior(v, 3, "q") for v in "abc"}
    values = {"x": torch.randn(4, 2), "y": torch.randn(4, 2)}
    truth = torch.zeros(4)
    for choice in itertools.product(range(3), repeat=3):
        weight = sum(qs[v].log_table()[i] for v, i in zip("abc", choice)).exp()
        truth = truth + weight * p.log_likelihood({**values, **{v: one_hot([i] * 4, 3) for v, i in zip("abc", choice)}})
    q = functools.reduce(operator.mul, [qs[v] for v in order])
    torch.testing.assert_close(p.log_prob().expectation(q).estimate(values), truth)


@pytest.mark.parametrize("loc", ["z", "network"])
def test_a_mean_of_one_element_for_all_features(loc):
    """x and y hang on one number; y is integrated out as well."""
    torch.manual_seed(12)
    net = nn.Linear(1, 1)
    a = torch.ones(3, 1) if loc == "z" else net.weight.detach().expand(3, 1)
    b = torch.zeros(3) if loc == "z" else net.bias.detach().expand(3)
    move, c = nn.Linear(3, 2), torch.tensor([0.5, 0.6, 0.7])
    p = Normal("p(x|y)", loc=move, scale=1.0) * Normal("p(y|z)", loc="z" if loc == "z" else net, scale=c)
    p = (p * Normal("p(z)", loc=0.0, scale=2.0, dim=1)).marginalize_var(["y", "z"])
    w = move.weight.detach()
    cov = w @ (4 * a @ a.T + torch.diag(c.square())) @ w.T + torch.eye(2)
    x = torch.randn(4, 2)
    truth = torch.distributions.MultivariateNormal(w @ b + move.bias.detach(), cov).log_prob(x)
    torch.testing.assert_close(p.log_likelihood({"x": x}).detach(), truth)


def test_a_mixture_posterior_in_a_bound_compiles_to_one_graph():
    """Its own density is planned when it is made, and not while an evaluation is traced."""
    p, *_ = switching()
    q = p.posterior("z") * p.marginalize_var("z").posterior("k")
    values = {"x": torch.randn(3, 2)}
    loss = ELBO(p, q).mean()
    loss.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(loss.estimate(values), p.marginalize_var(["z", "k"]).log_likelihood(values).mean())


def test_a_posterior_of_a_value_that_is_drawn():
    """Of 4 data, 2 draws of x each, and of each x one draw of z."""
    likelihood, z = linear_pair()
    q = Normal("q(x|y)", loc="y", scale=1.0)
    drawn = ((likelihood * z).posterior("z") * q).sample({"y": torch.zeros(4, 3)}, sample_shape=[2])
    assert drawn["x"].shape == (2, 4, 3)
    assert drawn["z"].shape == (2, 4, 2)
