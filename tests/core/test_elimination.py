"""Likelihoods of marginals, and posteriors, against brute force, dense Gaussians and other libraries."""

import functools
import itertools
import math
import operator

import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from torch import nn
from zoo import Computed

from pixyz.core import FormulaError, IntractableError, LogProb, MissingVariableError, ShapeError, SupportError
from pixyz.distributions import Affine, Bernoulli, Categorical, Components, Deterministic, Laplace, MultivariateNormal, Normal
from pixyz.losses import ELBO


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Table(Categorical):
    """p(child|parents): one random table of logits, one-hot parents multiplied in."""

    def __init__(self, child, parents, sizes, size, name="p"):
        super().__init__(var=[child], cond_var=parents, name=name)
        self.table = nn.Parameter(torch.randn(*sizes, size))

    def forward(self, **given):
        t = self.table
        out = torch.ones_like(next(iter(given.values()))[:, :1])
        for v in self.cond_var:  # the tensor product of one-hot vectors chooses the row
            out = (out.unsqueeze(-1) * given[v].unsqueeze(1)).flatten(1)
        return {"logits": out @ t.flatten(0, -2)}

    def log_table(self):
        return self.table.log_softmax(-1)


class Prior(Categorical):
    def __init__(self, var, size, name="p"):
        super().__init__(var=[var], name=name, logits=nn.Parameter(torch.randn(size)))

    def log_table(self):
        return self.logits.log_softmax(-1)


class Emission(Normal):
    """p(x|z) with a mean for every state."""

    def __init__(self, states, features, var="x", cond="z"):
        super().__init__(var=[var], cond_var=[cond], name="p")
        self.means = nn.Parameter(2 * torch.randn(states, features))

    def forward(self, **given):
        (z,) = given.values()
        loc = z @ self.means
        return {"loc": loc, "scale": torch.ones_like(loc)}


def one_hot(index, size):
    return nn.functional.one_hot(torch.as_tensor(index), size).to(torch.get_default_dtype())


# --- finite graphs against the full table ---------------------------------------------------------------------------------------


@st.composite
def graphs(draw):
    """The sizes of up to 8 variables, the parents of each, which of them are shown, and the one that is asked for."""
    sizes = draw(st.lists(st.integers(2, 3), min_size=2, max_size=8))
    count = len(sizes)
    parents = [sorted(draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else [] for i in range(count)]
    shown = sorted(draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=count - 1)))
    asked = draw(st.sampled_from([i for i in range(count) if i not in shown]))
    return sizes, parents, shown, asked, draw(st.integers(0, 2**20))


def compare_with_the_table(sizes, parents, shown, asked, seed):
    """A marginal's likelihood, and the posterior of a hidden variable, whether it was marginalised out or not."""
    torch.manual_seed(seed)
    names = [f"v{i}" for i in range(len(sizes))]
    joint, full = None, torch.zeros(sizes)
    for i, above in enumerate(parents):
        leaf = Table(names[i], [names[j] for j in above], [sizes[j] for j in above], sizes[i]) if above else Prior(names[i], sizes[i])
        full = full + leaf.log_table().detach().reshape([n if j in (*above, i) else 1 for j, n in enumerate(sizes)])
        joint = leaf if joint is None else leaf * joint
    values = [torch.randint(sizes[i], (3,)) for i in shown]
    given = {names[i]: one_hot(v, sizes[i]) for i, v in zip(shown, values)}
    hidden = [i for i in range(len(sizes)) if i not in shown]
    rest = [i for i in hidden if i != asked]
    table = full.logsumexp(rest) if rest else full
    table = table.movedim(sorted([*shown, asked]).index(asked), -1)[tuple(values)]
    marginal = joint.marginalize_var([names[i] for i in hidden])
    torch.testing.assert_close(marginal.log_likelihood(given).detach(), table.logsumexp(-1), rtol=0, atol=1e-10)
    # A variable on which nothing shown depends was left out of the marginal altogether; the joint still has it.
    known = marginal if names[asked] in marginal.hidden_var else joint.marginalize_var([names[i] for i in rest]) if rest else joint
    posterior = known.posterior(names[asked])
    probs = posterior.mean({v: given[v] for v in posterior.cond_var}).detach()
    torch.testing.assert_close(probs.expand(3, -1), table.softmax(-1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("block", range(4))
def test_random_graphs_against_the_full_table(block):
    @seed(block)
    @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(graph=graphs())
    def check(graph):
        compare_with_the_table(*graph)

    check()


# --- chains -----------------------------------------------------------------------------------------------------------------------


def chain(prior, transition, emission, steps):
    """p(z_1)p(x_1|z_1) Π p(z_t|z_{t-1})p(x_t|z_t), the transition being p(z|h)."""
    p = prior * emission.replace_var(z="z_1", x="x_1")
    for t in range(2, steps + 1):
        p = p * transition.replace_var(z=f"z_{t}", h=f"z_{t - 1}") * emission.replace_var(z=f"z_{t}", x=f"x_{t}")
    return p


def states(steps):
    return [f"z_{t}" for t in range(1, steps + 1)]


def hidden_markov(steps, size=5, features=2):
    torch.manual_seed(0)
    prior, transition, emission = Prior("z_1", size), Table("z", ["h"], [size], size), Emission(size, features)
    return chain(prior, transition, emission, steps), prior, transition, emission


def series(batch, steps, features):
    x = 2 * torch.randn(batch, steps, features)
    return x, {f"x_{t + 1}": x[:, t] for t in range(steps)}


def forward_algorithm(prior, transition, emission, x):
    """log p(x_1, ..., x_T), written out by hand."""
    log_b = -0.5 * (x.unsqueeze(2) - emission.means).square().sum(-1) - 0.5 * x.shape[-1] * math.log(2 * math.pi)
    alpha = prior.log_table() + log_b[:, 0]
    for t in range(1, x.shape[1]):
        alpha = (alpha.unsqueeze(-1) + transition.log_table()).logsumexp(1) + log_b[:, t]
    return alpha.logsumexp(-1)


@pytest.mark.parametrize(("steps", "size"), [(2, 5), (3, 5), (7, 2), (50, 5), (51, 5), (20, 40)])
def test_hidden_markov_against_the_forward_algorithm(steps, size):
    """With its gradients; 40 states take the sequential order."""
    p, *parts = hidden_markov(steps, size)
    x, values = series(3, steps, 2)
    ours = p.marginalize_var(states(steps)).log_likelihood(values)
    truth = forward_algorithm(*parts, x)
    torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-9)
    parameters = [w for part in parts for w in part.parameters()]
    for a, b in zip(torch.autograd.grad(ours.sum(), parameters), torch.autograd.grad(truth.sum(), parameters)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_hidden_markov_against_enumeration():
    steps, size = 4, 3
    p, prior, transition, emission = hidden_markov(steps, size)
    x, values = series(2, steps, 2)
    paths = list(itertools.product(range(size), repeat=steps))
    scores = torch.stack(
        [p.log_likelihood({**values, **{z: one_hot([k] * 2, size) for z, k in zip(states(steps), path)}}) for path in paths]
    )
    marginal = p.marginalize_var(states(steps))
    torch.testing.assert_close(marginal.log_likelihood(values), scores.logsumexp(0), rtol=1e-12, atol=1e-10)
    # Smoothing: each state's posterior, and that of two neighbours at once, by sums over the paths.
    weights = scores.softmax(0)
    for t in range(steps):
        truth = torch.stack([sum(w for w, path in zip(weights, paths) if path[t] == k) for k in range(size)], -1)
        torch.testing.assert_close(marginal.posterior(f"z_{t + 1}").mean(values), truth, rtol=1e-9, atol=1e-10)
    both = marginal.posterior(["z_2", "z_3"])
    given = {**values, "z_2": one_hot([1, 1], size), "z_3": one_hot([2, 2], size)}
    truth = sum(w for w, path in zip(weights, paths) if path[1:3] == (1, 2))
    torch.testing.assert_close(both.log_likelihood(given), truth.log(), rtol=1e-9, atol=1e-10)
    # Draws of the whole path have the posterior's frequencies.
    drawn = marginal.posterior().sample(values, sample_shape=[40_000])
    codes = sum(drawn[z].argmax(-1) * size**i for i, z in enumerate(states(steps)))
    for i, path in enumerate(paths):
        hits = (codes == sum(k * size**j for j, k in enumerate(path))).double().mean(0)
        spread = (weights[i] * (1 - weights[i]) / 40_000).sqrt()
        assert ((hits - weights[i]).abs() <= 5 * spread + 2e-4).all(), path


def dense_chain(mean, cov, transition, offset, noise, steps):
    """The mean and covariance of z_1, ..., z_T stacked, by hand."""
    means, blocks = [mean], [[None] * steps for _ in range(steps)]
    blocks[0][0] = cov
    for t in range(1, steps):
        means.append(transition @ means[-1] + offset)
        for s in range(t):
            blocks[t][s] = transition @ blocks[t - 1][s]
            blocks[s][t] = blocks[t][s].T
        blocks[t][t] = transition @ blocks[t - 1][t - 1] @ transition.T + noise
    return torch.cat(means), torch.cat([torch.cat(row, 1) for row in blocks])


def linear_system(steps):
    torch.manual_seed(1)
    move, see = nn.Linear(2, 2), nn.Linear(2, 3)
    noise, scale = torch.tensor([[0.4, 0.1], [0.1, 0.3]]), torch.tensor([0.5, 0.6, 0.7])
    p = chain(
        MultivariateNormal("p(z_1)", loc=torch.tensor([1.0, -1.0]), covariance_matrix=torch.tensor([[1.0, 0.2], [0.2, 2.0]])),
        MultivariateNormal("p(z|h)", loc=move, covariance_matrix=noise),
        Normal("p(x|z)", loc=see, scale=scale),
        steps,
    )
    mean, cov = dense_chain(
        torch.tensor([1.0, -1.0]), torch.tensor([[1.0, 0.2], [0.2, 2.0]]), move.weight.detach(), move.bias.detach(), noise, steps
    )
    c = torch.block_diag(*[see.weight.detach()] * steps)
    r = torch.diag(scale.square().repeat(steps))
    return p, mean, cov, c, see.bias.detach().repeat(steps), r


@pytest.mark.parametrize("steps", [2, 3, 50])
def test_linear_dynamical_system_against_the_dense_gaussian(steps):
    p, mean, cov, c, b, r = linear_system(steps)
    x, values = series(3, steps, 3)
    marginal = p.marginalize_var(states(steps))
    dense = torch.distributions.MultivariateNormal(c @ mean + b, c @ cov @ c.T + r)
    torch.testing.assert_close(marginal.log_likelihood(values).detach(), dense.log_prob(x.flatten(1)), rtol=1e-10, atol=1e-8)
    gain = cov @ c.T @ torch.linalg.inv(c @ cov @ c.T + r)
    post_mean = mean + (x.flatten(1) - c @ mean - b) @ gain.T
    post_cov = cov - gain @ c @ cov
    for t in {1, steps // 2 + 1, steps}:
        smoothed = marginal.posterior(f"z_{t}")
        at = slice(2 * t - 2, 2 * t)
        torch.testing.assert_close(smoothed.mean(values).detach(), post_mean[:, at], rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(smoothed.variance(values).detach()[0], post_cov[at, at].diagonal(), rtol=1e-8, atol=1e-9)
        exact = torch.distributions.MultivariateNormal(post_mean[:, at], post_cov[at, at])
        torch.testing.assert_close(smoothed.entropy(values).detach(), exact.entropy().expand(3), rtol=1e-8, atol=1e-9)


def test_paths_of_a_linear_dynamical_system_are_drawn_from_its_posterior():
    steps, draws = 5, 40_000
    p, mean, cov, c, b, r = linear_system(steps)
    x, values = series(1, steps, 3)
    q = p.posterior(states(steps))
    drawn = q.sample(values, sample_shape=[draws])
    path = torch.cat([drawn[z] for z in states(steps)], -1).squeeze(1).detach()
    gain = cov @ c.T @ torch.linalg.inv(c @ cov @ c.T + r)
    post_mean, post_cov = mean + gain @ (x.flatten() - c @ mean - b), cov - gain @ c @ cov
    sd = post_cov.diagonal().sqrt()
    assert ((path.mean(0) - post_mean) / (sd / draws**0.5)).abs().max() < 4.5
    z = (torch.cov(path.T) - post_cov) / ((post_cov.square() + sd[:, None].square() * sd.square()) / draws).sqrt()
    assert z.abs().max() < 4.5
    exact = torch.distributions.MultivariateNormal(post_mean, post_cov)
    first = {**values, **{z: drawn[z][0] for z in states(steps)}}
    torch.testing.assert_close(q.log_likelihood(first).detach()[0], exact.log_prob(path[0]))
    # The draws have gradients: those of E[z_T] are those of the posterior's mean.
    bias = [w for name, w in p.named_parameters() if name.endswith("bias")]
    ours = torch.autograd.grad(drawn["z_5"].mean(0).sum(), bias)
    truth = torch.autograd.grad(p.marginalize_var(states(steps)).posterior("z_5").mean(values).sum(), bias)
    torch.testing.assert_close(ours, truth, rtol=1e-9, atol=1e-9)


def test_a_gap_in_a_series_is_a_marginal_like_any_other():
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
    torch.testing.assert_close(unseen.log_likelihood(values), alpha.logsumexp(-1), rtol=1e-12, atol=1e-9)


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


# --- Gaussian trees, factor analysis, mixtures of both ------------------------------------------------------------------------------


def test_linear_gaussian_tree_against_the_dense_gaussian():
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
    ours = p.marginalize_var(["a", "b", "c"]).log_likelihood({"d": d, "e": e})
    truth = torch.distributions.MultivariateNormal(mean, cov).log_prob(torch.cat([d, e], 1))
    torch.testing.assert_close(ours.detach(), truth, rtol=1e-10, atol=1e-9)
    # The mean of d alone, by the tower rule.
    torch.testing.assert_close(p.marginalize_var(["a", "b", "c", "e"]).mean().detach()[0], mean[:1])
    torch.testing.assert_close(p.marginalize_var(["a", "b", "c", "e"]).variance().detach()[0], cov[:1, 0])


def test_affine_in_several_variables():
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
    torch.testing.assert_close(p.marginalize_var(["z", "h"]).log_likelihood({"x": x, "u": u}).detach(), truth)
    gain = m.T @ torch.linalg.inv(cov)
    mean = (x - (u @ b.T + move.bias.detach()) @ c.T) @ gain.T
    torch.testing.assert_close(p.marginalize_var("z").posterior("h").mean({"x": x, "u": u}).detach(), mean)
    with pytest.raises(FormulaError, match="name the variables it is linear in"):
        Affine(3)
    with pytest.raises(FormulaError, match="linear in z; it was called with h, without z"):
        Affine(3, z=2)(h=x)
    # What it is not linear in may be another parameter's.
    assert Normal("p(x|z,u)", loc=Affine(3, z=2), scale=lambda u: u.exp()).linear_var == {"z"}


class Switch(Normal):
    """p(z|k): a mean and a scale for each state."""

    def __init__(self):
        super().__init__(var=["z"], cond_var=["k"])
        self.loc_net, self.scale_net = nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.rand(3, 2) + 0.5)

    def forward(self, k):
        return {"loc": k @ self.loc_net, "scale": k @ self.scale_net}


def switching():
    torch.manual_seed(3)
    net, switch = nn.Linear(2, 2), Switch()
    weights = torch.tensor([0.2, 0.3, 0.5])
    p = Normal("p(x|z)", loc=net, scale=0.5) * switch * Categorical("p(k)", probs=weights)
    cov = [net.weight @ torch.diag(s.square()) @ net.weight.T + 0.25 * torch.eye(2) for s in switch.scale_net]
    parts = [torch.distributions.MultivariateNormal(net(m), c) for m, c in zip(switch.loc_net, cov)]
    return p, net, switch, weights, parts


def test_a_gaussian_below_a_finite_variable_is_a_mixture():
    p, net, switch, weights, parts = switching()
    x = torch.randn(4, 2)
    joint = torch.stack([part.log_prob(x) for part in parts], -1) + weights.log()
    marginal = p.marginalize_var(["z", "k"])
    torch.testing.assert_close(marginal.log_likelihood({"x": x}), joint.logsumexp(-1), rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(marginal.posterior("k").mean({"x": x}), joint.softmax(-1), rtol=1e-9, atol=1e-10)
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
    torch.testing.assert_close(q.mean({"x": x}), mean, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(q.variance({"x": x}), variance, rtol=1e-9, atol=1e-10)
    drawn = q.sample({"x": x}, sample_shape=[50_000])["z"]
    assert (((drawn.mean(0) - mean) / (variance / 50_000).sqrt()).abs() < 4.5).all()
    assert (drawn.var(0) / variance - 1).abs().max() < 0.05
    z = torch.randn(4, 2)
    parts_z = [torch.distributions.MultivariateNormal(means[:, i], covs[i]).log_prob(z) for i in range(3)]
    torch.testing.assert_close(q.log_likelihood({"x": x, "z": z}), (torch.stack(parts_z, -1) + joint.log_softmax(-1)).logsumexp(-1))
    with pytest.raises(IntractableError, match="has no entropy in closed form"):
        q.entropy({"x": x})


def test_the_moments_of_a_marginal():
    p, _, switch, weights, _ = switching()
    z = p.marginalize_var(["x", "k"])
    mean = weights @ switch.loc_net
    torch.testing.assert_close(z.mean()[0], mean)
    torch.testing.assert_close(z.variance()[0], weights @ (switch.scale_net.square() + switch.loc_net.square()) - mean.square())


# --- what else stands in a formula --------------------------------------------------------------------------------------------------


def test_hidden_variables_that_are_computed():
    """h = f(k) between a finite variable and x; and a hidden one that is computed from what is given."""
    torch.manual_seed(4)
    double = Deterministic("f(h|k)", h=lambda k: 2 * k)
    see = Normal("p(x|h,c)", loc=lambda h, c: h.sum(-1, keepdim=True) + c * (h[:, :1] - 1), scale=1.0)
    shift = Deterministic("g(c|u)", c=lambda u: u + 1)
    weights = torch.tensor([0.3, 0.7])
    p = (see * double * Categorical("p(k)", probs=weights) * shift).marginalize_var(["h", "k", "c"])
    assert p.prob_text == "p(x|u)"
    x, u = torch.randn(5, 1), torch.randn(5, 1)
    parts = [torch.distributions.Normal(2 + (u + 1) * (2 * k - 1), 1.0).log_prob(x)[:, 0] for k in (1, 0)]
    truth = (torch.stack(parts, -1) + weights.log()).logsumexp(-1)
    torch.testing.assert_close(p.log_likelihood({"x": x, "u": u}), truth)
    torch.testing.assert_close(p.posterior("k").mean({"x": x, "u": u}), (torch.stack(parts, -1) + weights.log()).softmax(-1))


def test_copies_below_a_shared_variable():
    """N observed copies of one conditional: one call of its network, whatever N."""
    torch.manual_seed(5)
    calls = []

    class See(Emission):
        def forward(self, **given):
            calls.append(next(iter(given.values())).shape[0])
            return super().forward(**given)

    see, prior = See(3, 2), Prior("z", 3)
    p = prior
    for i in range(6):
        p = p * see.replace_var(x=f"x_{i}")
    x = torch.randn(4, 6, 2)
    ours = p.marginalize_var("z").log_likelihood({f"x_{i}": x[:, i] for i in range(6)})
    assert calls == [3]
    log_b = torch.distributions.Normal(see.means, 1.0).log_prob(x.unsqueeze(2)).sum((-1, 1))
    torch.testing.assert_close(ours, (log_b + prior.log_table()).logsumexp(-1))


def test_independent_hidden_factors_are_summed_one_by_one():
    """Twelve variables of 8 states each: 8**12 points at once would be too many."""
    torch.manual_seed(6)
    p, truth, values = None, 0.0, {}
    for i in range(12):
        prior, see = Prior(f"k_{i}", 8), Emission(8, 1, f"x_{i}", f"k_{i}")
        p = prior * see if p is None else p * prior * see
        values[f"x_{i}"] = torch.randn(3, 1)
        truth = truth + (
            torch.distributions.Normal(see.means, 1.0).log_prob(values[f"x_{i}"].unsqueeze(1)).sum(-1) + prior.log_table()
        ).logsumexp(-1)
    ours = p.marginalize_var([f"k_{i}" for i in range(12)]).log_likelihood(values)
    torch.testing.assert_close(ours, truth)


def test_samples_and_enumerated_variables_around_a_marginal():
    """A marginal inside an expectation: its evidence has sample dims and enumerated ones."""
    torch.manual_seed(7)
    net = nn.Linear(2, 2)
    inner = (Normal("p(x|z,y)", loc=lambda z, y: z + y, scale=0.7) * Prior("w", 2)).marginalize_var("w")
    assert inner.hidden_var == frozenset()  # nothing depends on w
    seen = (Emission(2, 2, "x", "k") * Table("k", ["y"], [3], 2)).marginalize_var("k")
    y = Categorical("q(y|u)", probs=net_probs())
    u, x = torch.randn(4, 2), torch.randn(4, 2)
    ours = LogProb(seen).expectation(y, estimator="enumerate").estimate({"x": x, "u": u})
    probs = y.get_params({"u": u})["probs"]
    truth = sum(probs[:, i] * seen.log_likelihood({"x": x, "y": one_hot([i] * 4, 3)}) for i in range(3))
    torch.testing.assert_close(ours, truth)
    moved = (Normal("p(x|z)", loc=net, scale=0.5) * Normal("p(z|v)", loc="v", scale=1.0)).marginalize_var("z")
    v = Normal("q(v|u)", loc="u", scale=0.3)
    drawn = v.sample({"u": u}, sample_shape=[5])
    many = moved.log_likelihood({"x": x, "v": drawn["v"]}, sample_dims={"v": 1})
    torch.testing.assert_close(many, torch.stack([moved.log_likelihood({"x": x, "v": one}) for one in drawn["v"]]))


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


def net_probs():
    net = nn.Linear(2, 3)
    return Computed(lambda u: net(u).softmax(-1), net)


@pytest.mark.parametrize(
    "make", [lambda: hidden_markov(6)[0].marginalize_var(states(6)), lambda: linear_system(6)[0].marginalize_var(states(6))]
)
def test_marginals_compile_to_one_graph(make):
    p = make()
    features = 2 if "x_1" in p.var and p.factors[0].dist.has_enumerate else 3
    _, values = series(3, 6, features)
    loss = LogProb(p)
    eager = loss.estimate(values)
    loss.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(loss.estimate(values), eager)


def test_the_exact_posterior_makes_the_bound_tight():
    p, *_ = linear_system(4)
    _, values = series(3, 4, 3)
    q = p.posterior(states(4))
    bound = ELBO(p, q).estimate(values)
    torch.testing.assert_close(bound, p.marginalize_var(states(4)).log_likelihood(values))
    h, *_ = hidden_markov(1)
    x = {"x_1": torch.randn(3, 2)}
    loss = ELBO(h, h.posterior("z_1"))  # enumerated
    torch.testing.assert_close(loss.estimate(x), h.marginalize_var("z_1").log_likelihood(x))
    assert str(loss) == "E_p(z_1|x_1)[log p(z_1,x_1)/p(z_1|x_1)]"
    assert sorted(loss.state_dict()) == ["p(x|z).means", "p(z_1).logits"]


# --- conditioning, dividing, importance sampling ------------------------------------------------------------------------------------


def linear_pair():
    torch.manual_seed(8)
    return Normal("p(x|z)", loc=nn.Linear(2, 3), scale=0.5), Normal("p(z)", loc=0.0, scale=1.0, dim=2)


def test_dividing_by_a_marginal_or_a_factor():
    see, prior = linear_pair()
    p = see * prior
    assert (p / prior).factors == see.factors
    assert (p / see).factors == prior.factors
    x = torch.randn(4, 3)
    q = p / p.marginalize_var("z")
    assert str(q.formula) == "p(z|x) = p(x,z)/p(x)"
    torch.testing.assert_close(q.mean({"x": x}), p.posterior("z").mean({"x": x}))
    with pytest.raises(FormulaError, match=r"p\(x,z\)/q\(z\) is a distribution only where .* marginalize_var.*LogRatio"):
        p / Normal("q(z)", loc=0.0, scale=1.0, dim=2)


def test_conditioning_on_a_number():
    """Both are numbers, and the precisions add."""
    p = Normal("p(x|z)", loc="z", scale=0.5) * Normal("p(z)", loc=1.0, scale=2.0)
    q = p.condition(x=3.0)
    variance = 1 / (1 / 0.25 + 1 / 4)
    mean = torch.tensor([variance * (3.0 / 0.25 + 1.0 / 4)])
    torch.testing.assert_close(q.mean(), mean)
    z = torch.randn(4)
    torch.testing.assert_close(q.log_likelihood({"z": z}), torch.distributions.Normal(mean, variance**0.5).log_prob(z))
    assert q.sample(batch_size=2, sample_shape=[3])["z"].shape == (3, 2)


def test_what_is_hidden_is_no_divisor():
    """p(x) = ∫p(x|z)p(z)dz is not p(z) times something."""
    see, prior = linear_pair()
    other = Normal("p(y|z)", loc=nn.Linear(2, 1), scale=1.0)
    p = (see * other * prior).marginalize_var("z")
    for q in (prior, see):
        with pytest.raises(FormulaError, match="is a distribution only where"):
            p / q


def test_a_posterior_of_several_variables_is_taken_apart():
    """Conditioned twice, marginalised after it was conditioned, a posterior of a posterior, renamed: all as if done at once."""
    torch.manual_seed(10)
    see, other = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=0.7), Normal("p(y|z)", loc=nn.Linear(2, 2), scale=1.0)
    p = see * other * Normal("p(z|k)", loc=nn.Linear(3, 2), scale=0.5) * Prior("k", 3)
    x, y, z, k = torch.randn(1, 3), torch.randn(1, 2), torch.randn(1, 2), one_hot([1], 3)
    values = {"x": x, "y": y, "z": z, "k": k}
    once, twice = p.condition(x=x[0], y=y[0]), p.condition(x=x[0]).condition(y=y[0])
    assert twice.prob_text == once.prob_text
    assert twice.var == once.var == ("z", "k")
    torch.testing.assert_close(twice.log_likelihood(values), once.log_likelihood(values))
    of_k, of_z = p.posterior("k").mean(values), p.marginalize_var("k").posterior("z").mean(values)
    torch.testing.assert_close(twice.condition(z=z[0]).mean(), of_k)
    torch.testing.assert_close(once.posterior("k").mean({"z": z}), of_k)
    torch.testing.assert_close(twice.marginalize_var("k").mean(), of_z)
    both = p.posterior(["z", "k"]).replace_var(x="k", k="x", y="z", z="y")
    renamed = {"k": x, "z": y, "y": z}
    torch.testing.assert_close(both.marginalize_var("x").mean(renamed), of_z)
    torch.testing.assert_close(both.posterior("x").mean(renamed), of_k)
    # What depends on it keeps it whole where it must, and does not where it need not.
    below = p.posterior(["z", "k"]) * Normal("p(u|z)", loc=nn.Linear(2, 1), scale=1.0)
    u = {**values, "u": torch.zeros(1, 1)}
    truth = p.marginalize_var("k").posterior("z").log_likelihood(values) + below.factors[1].dist.log_likelihood(u)
    torch.testing.assert_close(below.marginalize_var("k").log_likelihood(u), truth)
    with pytest.raises(IntractableError, match="neither finitely many values"):
        below.marginalize_var("z").log_prob()


def test_a_mixture_posterior_in_a_bound_compiles_to_one_graph():
    """Its own density is planned when it is made, and not while an evaluation is traced."""
    p, *_ = switching()
    q = p.posterior("z") * p.marginalize_var("z").posterior("k")
    values = {"x": torch.randn(3, 2)}
    loss = ELBO(p, q).mean()
    loss.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(loss.estimate(values), p.marginalize_var(["z", "k"]).log_likelihood(values).mean())


def test_conditioning_on_values():
    see, prior = linear_pair()
    p = see * prior
    x = torch.randn(3)
    q = p.condition(x=x)
    z = torch.randn(5, 2)
    torch.testing.assert_close(q.log_likelihood({"z": z}), p.posterior("z").log_likelihood({"z": z, "x": x.expand(5, 3)}))
    torch.testing.assert_close(q.mean(), p.posterior("z").mean({"x": x[None]}))
    forward = p.condition(z=z[0])
    assert forward.prob_text == f"p(x|z=[{z[0, 0].item():.6g},{z[0, 1].item():.6g}])"
    torch.testing.assert_close(forward.mean()[0], see.mean({"z": z[:1]})[0])
    assert forward.sample(batch_size=6)["x"].shape == (6, 3)
    assert set(forward.sample(batch_size=6)) == {"x"}
    # Two values of one variable in one formula.
    gap = p.condition(z=z[0]).log_prob() - p.condition(z=z[1]).log_prob()
    xs = torch.randn(4, 3)
    truth = see.log_likelihood({"x": xs, "z": z[:1].expand(4, 2)}) - see.log_likelihood({"x": xs, "z": z[1:2].expand(4, 2)})
    torch.testing.assert_close(gap.estimate({"x": xs}), truth)
    assert str(Normal("p(x|y)", loc="y", scale=1.0).condition(y=2).formula) == "p(x|y=2)"
    joint = Normal("p(x|z,y)", loc=lambda z, y: z + y, scale=1.0) * Normal("p(z|y)", loc="y", scale=1.0)
    assert str(joint.condition(y=1.5).formula) == "p(x,z|y=1.5) = p(x|z,y=1.5)p(z|y=1.5)"


def test_a_posterior_asks_only_for_what_tells_it_something():
    """What is independent of z, given what is given, may be as intractable as it likes."""
    see, prior = linear_pair()
    apart = (Normal("p(v|w)", loc=nn.Linear(2, 2), scale=1.0) * Laplace("p(w)", loc=0.0, scale=1.0, dim=2)).marginalize_var("w")
    x = torch.randn(4, 3)
    q = (see * prior * apart).posterior("z")
    assert q.prob_text == "p(z|x)"
    torch.testing.assert_close(q.mean({"x": x}), (see * prior).posterior("z").mean({"x": x}))


def test_posteriors_that_need_no_elimination():
    see, prior = linear_pair()
    assert (see * prior).posterior("x").factors == see.factors
    assert (Bernoulli("p(t|x)", probs=torch.sigmoid) * see * prior).posterior(["t", "x"]).prob_text == "p(t,x|z)"


@pytest.mark.parametrize("proposal", ["prior", "posterior", "wide"])
def test_importance_sampling_against_the_exact_likelihood(proposal):
    see, prior = linear_pair()
    p = (see * prior).marginalize_var("z")
    torch.manual_seed(0)
    x = p.sample(batch_size=3)["x"].detach()
    posterior = p.posterior()
    wide = Normal("q(z|x)", loc=lambda x: posterior.mean({"x": x}).detach(), scale=1.0)
    q = {"prior": prior, "posterior": posterior, "wide": wide}[proposal]
    exact = p.log_likelihood({"x": x})
    for model in (p, see * prior):  # z hidden, or merely without a value
        estimate = model.log_likelihood({"x": x}, proposal=q, num_samples=40_000)
        torch.testing.assert_close(estimate, exact, rtol=0, atol=1e-9 if proposal == "posterior" else 0.1)


def test_a_proposal_for_some_variables_leaves_the_others_to_exact_sums():
    p, *_ = switching()
    marginal = p.marginalize_var(["z", "k"])
    x = torch.randn(4, 2)
    exact = marginal.log_likelihood({"x": x})
    q = p.marginalize_var("k").posterior("z")
    torch.testing.assert_close(marginal.log_likelihood({"x": x}, proposal=q, num_samples=3), exact)


# --- what cannot be done ------------------------------------------------------------------------------------------------------------


def too_many():
    """Nine bits at once."""
    return (Emission(9, 1, "x", "b") * Bernoulli("p(b)", probs=torch.full((9,), 0.5))).marginalize_var("b")


def too_dense():
    """Four variables of 200 values above one: a table of 200**4 entries."""
    p = Bernoulli("p(x|a,b,c,d)", logits=lambda a, b, c, d: (a + b + c + d).sum(-1, keepdim=True))
    for v in "abcd":
        p = p * Prior(v, 200)
    return p.marginalize_var(list("abcd"))


def two_children(first, second):
    """x and y of different batches, below one k."""
    x, y = (Normal(f"p({v}|k)", loc=nn.Linear(3, 2), scale=1.0) for v in "xy")
    return (x * y * Prior("k", 3)).marginalize_var("k").log_likelihood({"x": torch.zeros(first, 2), "y": torch.zeros(second, 2)})


def below_computed():
    """h = f(k) between k and what is seen."""
    return (Normal("p(x|h)", loc=nn.Linear(3, 2), scale=1.0) * Deterministic("f(h|k)", h=lambda k: k) * Prior("k", 3)).marginalize_var("k")


class Exponential(nn.Linear):
    """No linear map, whatever it inherits."""

    def forward(self, z):
        return super().forward(z).exp()


def many(count, size):
    names = [f"k_{i}" for i in range(count)]
    return names, functools.reduce(operator.mul, [Categorical(f"p({v})", probs=torch.full((size,), 1 / size)) for v in names])


def clique(count, size):
    """Each pair of k_i, k_j has a child."""
    names, p = many(count, size)
    for i in range(count):
        for j in range(i):
            p = p * Normal(f"p(x_{i}_{j}|k_{i},k_{j})", loc=lambda a, b: (a - b)[:, 0], scale=1.0)
    return p.marginalize_var(names)


def laplace():
    return Laplace("p(z)", loc=0.0, scale=1.0, dim=2)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: (Bernoulli("p(x|z)", logits=nn.Linear(2, 3)) * linear_pair()[1]).marginalize_var("z").log_prob(),
            IntractableError,
            r"log p\(x\) needs the integral over z.*p\(x\|z\) \(Bernoulli\) is not declared linear in z.*proposal=q",
        ),
        (
            lambda: (linear_pair()[0] * laplace()).marginalize_var("z").log_prob(),
            IntractableError,
            r"z from p\(z\) \(Laplace\) has neither finitely many values nor a normal density",
        ),
        (
            lambda: (Normal("p(x|z)", loc=lambda z: z, scale=1.0) * linear_pair()[1]).marginalize_var("z").log_prob(),
            IntractableError,
            r"p\(x\|z\) \(Normal\) is not declared linear in z",
        ),
        (
            lambda: (Normal("p(x|z)", loc="z", scale=nn.Linear(2, 2)) * linear_pair()[1]).marginalize_var("z").log_prob(),
            IntractableError,
            r"a scale that does not depend on z",
        ),
        (
            lambda: (linear_pair()[0] * laplace()).posterior("z"),
            IntractableError,
            r"p\(z\|x\) needs the integral over z.*ELBO",
        ),
        (
            lambda: (Deterministic("f(h|k)", h=lambda k: k) * Prior("k", 3)).marginalize_var("k").log_prob(),
            IntractableError,
            r"h is computed by f\(h\|k\) from what would be integrated out, so it has no density",
        ),
        (
            lambda: (
                (Emission(1, 1, "x", "b") * Bernoulli("p(b)", probs=torch.full((9,), 0.5)))
                .marginalize_var("b")
                .log_likelihood({"x": torch.zeros(2, 1)})
            ),
            IntractableError,
            r"summing out b from p\(b\) takes 512 values, more than 256",
        ),
        (
            lambda: too_dense().log_likelihood({"x": torch.zeros(2, 1)}),
            IntractableError,
            r"log p\(x\) takes a table over a, b, c, d with 1600000000 entries, more than 67108864.*proposal",
        ),
        (lambda: linear_pair()[0].posterior("z"), FormulaError, r"p\(x\|z\) has no variable z to infer"),
        (lambda: linear_pair()[0].posterior(), FormulaError, r"hides nothing that is drawn, so say what to infer"),
        (
            lambda: (linear_pair()[0] * linear_pair()[1]).condition(x=torch.zeros(3)).posterior(),
            FormulaError,
            r"hides nothing that is drawn",
        ),
        (
            lambda: (linear_pair()[0] * linear_pair()[1]).condition(x=torch.zeros(3)).posterior("x"),
            FormulaError,
            r"has no variable x to infer",
        ),
        (
            lambda: two_children(1, 4),
            ShapeError,
            r"log p\(x,y\): p\(y\|k\) has batch 4 and p\(x\|k\) has batch 1; one density needs one batch",
        ),
        (lambda: two_children(3, 4), ShapeError, r"has batch 4 and .* has batch 3"),
        (
            lambda: below_computed().posterior("h"),
            IntractableError,
            r"p\(h\|x\) needs.*h is computed by f\(h\|k\), so it has no density; ask for what it is computed from",
        ),
        (lambda: below_computed().posterior(["k", "h"]), IntractableError, r"h is computed by f\(h\|k\)"),
        (
            lambda: (Deterministic("f(h|k)", h=lambda k: k) * Prior("k", 3)).marginalize_var("k").mean(),
            IntractableError,
            r"h is computed by f\(h\|k\).*Estimate it from draws",
        ),
        (
            lambda: (Normal("p(x|z)", loc=Exponential(2, 3), scale=1.0) * linear_pair()[1]).marginalize_var("z").log_prob(),
            IntractableError,
            r"not declared linear in z",
        ),
        (
            lambda: clique(8, 20).log_likelihood({f"x_{i}_{j}": torch.zeros(2) for i in range(8) for j in range(i)}),
            IntractableError,
            r"takes a table over k_\d.* with 25600000000 entries, more than 67108864",
        ),
        (lambda: linear_pair()[0].condition(y=1.0), FormulaError, r"p\(x\|z\) has no variable y to condition on"),
        (lambda: linear_pair()[0].condition(x=1.0), FormulaError, r"with x given, nothing is left"),
        (lambda: linear_pair()[0].condition(), FormulaError, r"nothing is given"),
        (
            lambda: (linear_pair()[0] * linear_pair()[1]).log_likelihood({"x": torch.zeros(2, 3)}),
            MissingVariableError,
            r"needs z",
        ),
        (
            lambda: (linear_pair()[0] * linear_pair()[1]).log_likelihood(
                {"x": torch.zeros(2, 3)}, proposal=Normal("q(w)", loc=0.0, scale=1.0)
            ),
            FormulaError,
            r"the proposal q\(w\) draws w, which is no variable of it",
        ),
    ],
)
def test_what_cannot_be_done_says_so(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_an_impossible_condition_is_named():
    p = Categorical("p(x|k)", probs=lambda k: k @ torch.tensor([[1.0, 0.0], [1.0, 0.0]])) * Prior("k", 2)
    seen = one_hot([0, 1], 2)
    assert p.marginalize_var("k").log_likelihood({"x": seen})[1] == -torch.inf
    with pytest.raises(SupportError, match=r"p\(k\|x\): x has probability zero for 1 of 2 data"):
        p.posterior("k").sample({"x": seen})
