"""Hidden Markov models and linear dynamical systems, against the forward algorithm, enumeration and dense Gaussians."""

import itertools
import math

import pytest
import torch
from graphical import chain, hidden_markov, linear_system, one_hot, series, states
from placed import on, there
from torch import nn

from pixyz.core import LogProb
from pixyz.distributions import Categorical, Normal
from pixyz.losses import ELBO

pytestmark = pytest.mark.usefixtures("float64")


def forward_algorithm(prior, transition, emission, x):
    """log p(x_1, ..., x_T), written out by hand."""
    log_b = -0.5 * (x.unsqueeze(2) - emission.means).square().sum(-1) - 0.5 * x.shape[-1] * math.log(2 * math.pi)
    alpha = prior.log_table() + log_b[:, 0]
    for t in range(1, x.shape[1]):
        alpha = (alpha.unsqueeze(-1) + transition.log_table()).logsumexp(1) + log_b[:, t]
    return alpha.logsumexp(-1)


@pytest.mark.gpu
@pytest.mark.parametrize(("steps", "size"), [(2, 5), (3, 5), (7, 2), (50, 5), (51, 5), (20, 40)])
def test_hidden_markov_against_the_forward_algorithm(steps, size, device):
    """With its gradients; 40 states take the sequential order."""
    p, *parts = hidden_markov(steps, size)
    x, values = series(3, steps, 2)
    marginal = there(p.marginalize_var(states(steps)), device)
    ours = marginal.log_likelihood(on(device, values))
    truth = forward_algorithm(*parts, x)
    torch.testing.assert_close(ours.cpu(), truth, rtol=1e-12, atol=1e-9)
    found, expected = torch.autograd.grad(ours.sum(), [*marginal.parameters()]), torch.autograd.grad(truth.sum(), [*p.parameters()])
    assert len(found) == len(expected) == 3
    for a, b in zip(found, expected):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-9, atol=1e-9)


@pytest.mark.gpu
def test_hidden_markov_against_enumeration(device):
    steps, size = 4, 3
    p, prior, transition, emission = hidden_markov(steps, size)
    x, values = series(2, steps, 2)
    paths = list(itertools.product(range(size), repeat=steps))
    scores = torch.stack(
        [p.log_likelihood({**values, **{z: one_hot([k] * 2, size) for z, k in zip(states(steps), path)}}) for path in paths]
    )
    marginal, values = there(p.marginalize_var(states(steps)), device), on(device, values)
    torch.testing.assert_close(marginal.log_likelihood(values).cpu(), scores.logsumexp(0), rtol=1e-12, atol=1e-10)
    # Smoothing: each state's posterior, and that of two neighbours at once, by sums over the paths.
    weights = scores.softmax(0)
    for t in range(steps):
        truth = torch.stack([sum(w for w, path in zip(weights, paths) if path[t] == k) for k in range(size)], -1)
        torch.testing.assert_close(marginal.posterior(f"z_{t + 1}").mean(values).cpu(), truth, rtol=1e-9, atol=1e-10)
    both = marginal.posterior(["z_2", "z_3"])
    given = on(device, {**values, "z_2": one_hot([1, 1], size), "z_3": one_hot([2, 2], size)})
    truth = sum(w for w, path in zip(weights, paths) if path[1:3] == (1, 2))
    torch.testing.assert_close(both.log_likelihood(given).cpu(), truth.log(), rtol=1e-9, atol=1e-10)
    # Draws of the whole path have the posterior's frequencies.
    drawn = marginal.posterior().sample(values, sample_shape=[40_000])
    codes = sum(drawn[z].argmax(-1).cpu() * size**i for i, z in enumerate(states(steps)))
    for i, path in enumerate(paths):
        hits = (codes == sum(k * size**j for j, k in enumerate(path))).double().mean(0)
        spread = (weights[i] * (1 - weights[i]) / 40_000).sqrt()
        assert ((hits - weights[i]).abs() <= 5 * spread + 2e-4).all(), path


@pytest.mark.gpu
@pytest.mark.parametrize("steps", [2, 3, 50])
def test_linear_dynamical_system_against_the_dense_gaussian(steps, device):
    p, mean, cov, c, b, r = linear_system(steps)
    x, values = series(3, steps, 3)
    marginal, given = there(p.marginalize_var(states(steps)), device), on(device, values)
    dense = torch.distributions.MultivariateNormal(c @ mean + b, c @ cov @ c.T + r)
    torch.testing.assert_close(marginal.log_likelihood(given).detach().cpu(), dense.log_prob(x.flatten(1)), rtol=1e-10, atol=1e-8)
    gain = cov @ c.T @ torch.linalg.inv(c @ cov @ c.T + r)
    post_mean = mean + (x.flatten(1) - c @ mean - b) @ gain.T
    post_cov = cov - gain @ c @ cov
    for t in {1, steps // 2 + 1, steps}:
        smoothed = marginal.posterior(f"z_{t}")
        at = slice(2 * t - 2, 2 * t)
        torch.testing.assert_close(smoothed.mean(given).detach().cpu(), post_mean[:, at], rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(smoothed.variance(given).detach().cpu()[0], post_cov[at, at].diagonal(), rtol=1e-8, atol=1e-9)
        exact = torch.distributions.MultivariateNormal(post_mean[:, at], post_cov[at, at])
        torch.testing.assert_close(smoothed.entropy(given).detach().cpu(), exact.entropy().expand(3), rtol=1e-8, atol=1e-9)


@pytest.mark.gpu
def test_paths_of_a_linear_dynamical_system_are_drawn_from_its_posterior(device):
    steps, draws = 5, 40_000
    p, mean, cov, c, b, r = linear_system(steps)
    x, values = series(1, steps, 3)
    p, values = there(p, device), on(device, values)
    q = p.posterior(states(steps))
    drawn = q.sample(values, sample_shape=[draws])
    path = torch.cat([drawn[z] for z in states(steps)], -1).squeeze(1).detach().cpu()
    gain = cov @ c.T @ torch.linalg.inv(c @ cov @ c.T + r)
    post_mean, post_cov = mean + gain @ (x.flatten() - c @ mean - b), cov - gain @ c @ cov
    sd = post_cov.diagonal().sqrt()
    assert ((path.mean(0) - post_mean) / (sd / draws**0.5)).abs().max() < 4.5
    z = (torch.cov(path.T) - post_cov) / ((post_cov.square() + sd[:, None].square() * sd.square()) / draws).sqrt()
    assert z.abs().max() < 4.5
    exact = torch.distributions.MultivariateNormal(post_mean, post_cov)
    first = {**values, **{z: drawn[z][0] for z in states(steps)}}
    torch.testing.assert_close(q.log_likelihood(first).detach()[0].cpu(), exact.log_prob(path[0]))
    # The draws have gradients: those of E[z_T] are those of the posterior's mean.
    bias = [w for name, w in p.named_parameters() if name.endswith("bias")]
    ours = torch.autograd.grad(drawn["z_5"].mean(0).sum(), bias)
    truth = torch.autograd.grad(p.marginalize_var(states(steps)).posterior("z_5").mean(values).sum(), bias)
    torch.testing.assert_close(ours, truth, rtol=1e-9, atol=1e-9)


@pytest.mark.gpu
def test_a_gap_in_a_series_is_a_marginal_like_any_other(device):
    """x_3 unseen: its emission integrates to one, and the chain goes through."""
    steps = 6
    p, prior, transition, emission = hidden_markov(steps)
    x, values = series(2, steps, 2)
    unseen = p.marginalize_var([*states(steps), "x_3"])
    del values["x_3"]
    log_b = -0.5 * (x.unsqueeze(2) - emission.means).square().sum(-1) - math.log(2 * math.pi)
    log_b[:, 2] = 0
    alpha = prior.log_table() + log_b[:, 0]
    for t in range(1, steps):
        alpha = (alpha.unsqueeze(-1) + transition.log_table()).logsumexp(1) + log_b[:, t]
    torch.testing.assert_close(there(unseen, device).log_likelihood(on(device, values)).cpu(), alpha.logsumexp(-1), rtol=1e-12, atol=1e-9)


def test_forbidden_transitions_leave_the_gradients_finite():
    steps = 9
    allowed = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    loc = nn.Parameter(torch.randn(3, 1))

    class Move(Categorical):
        def __init__(self):
            super().__init__(var=["z"], cond_var=["h"])

        def forward(self, h):
            return {"probs": h @ allowed}

    class See(Normal):
        def __init__(self):
            super().__init__(var=["x"], cond_var=["z"])

        def forward(self, z):
            return {"loc": z @ loc, "scale": torch.ones_like(z @ loc)}

    p = chain(Categorical("p(z_1)", probs=torch.tensor([1.0, 0.0, 0.0])), Move(), See(), steps).marginalize_var(states(steps))
    x, values = series(2, steps, 1)
    value = p.log_likelihood(values)
    (grad,) = torch.autograd.grad(value.sum(), [loc])
    log_b = -0.5 * (x - loc.T).square() - 0.5 * math.log(2 * math.pi)
    alpha = torch.tensor([1.0, 0.0, 0.0]) * log_b[:, 0].exp()
    for t in range(1, steps):
        alpha = (alpha @ allowed) * log_b[:, t].exp()
    (truth,) = torch.autograd.grad(alpha.sum(-1).log().sum(), [loc])
    torch.testing.assert_close(value, alpha.sum(-1).log(), rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(grad, truth, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "make", [lambda: hidden_markov(4)[0].marginalize_var(states(4)), lambda: linear_system(4)[0].marginalize_var(states(4))]
)
def test_marginals_compile_to_one_graph(make):
    p = make()
    features = 2 if "x_1" in p.var and p.factors[0].dist.has_enumerate else 3
    _, values = series(3, 4, features)
    loss = LogProb(p)
    eager = loss.estimate(values)
    loss.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(loss.estimate(values), eager)


@pytest.mark.gpu
def test_the_exact_posterior_makes_the_bound_tight(device):
    p, *_ = linear_system(4)
    _, values = series(3, 4, 3)
    p, values = there(p, device), on(device, values)
    q = p.posterior(states(4))
    bound = ELBO(p, q).estimate(values)
    torch.testing.assert_close(bound, p.marginalize_var(states(4)).log_likelihood(values))
    h, *_ = hidden_markov(1)
    h, x = there(h, device), {"x_1": torch.randn(3, 2).to(device)}
    loss = ELBO(h, h.posterior("z_1"))  # enumerated
    torch.testing.assert_close(loss.estimate(x), h.marginalize_var("z_1").log_likelihood(x))
    assert str(loss) == "E_p(z_1|x_1)[log p(z_1,x_1)/p(z_1|x_1)]"
    assert sorted(loss.state_dict()) == ["p(x|z).means", "p(z_1).logits"]
