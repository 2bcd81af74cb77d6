"""Gradient estimators against closed forms, sums over all values, and quadrature; their baselines, errors and graphs."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pixyz.core import Loss, MovingAverage, Rebar, Relaxed, Score, StraightThrough, seeded
from pixyz.distributions import Bernoulli, Categorical, Normal
from pixyz.losses import ELBO, IWAE, LogProb


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


class Learned(nn.Module):
    """A baseline that is one number."""

    def __init__(self, value=0.2):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self):
        return self.value


def warmed(loss, values):
    """The loss after one evaluation, in which a moving average sees its first costs."""
    loss.estimate({k: v[:100] for k, v in values.items()})
    return loss


def deviations(loss, theta, n, truth, device):
    """How many standard errors the value and the gradient for θ, one row of it for each of n data, are from the truth.

    The loss is on the device; the truth is a function of θ, on the CPU. Where nothing varies, what is left must be rounding, and is 0.
    """
    rows = theta.to(device).expand(n, -1).clone().requires_grad_()
    value = warmed(loss.to(device), {"theta": rows.detach()}).estimate({"theta": rows})
    (gradients,) = torch.autograd.grad(value.sum(), rows)
    exact = theta.clone().requires_grad_()
    wanted = truth(exact)
    (slope,) = torch.autograd.grad(wanted, exact)
    found, at = torch.cat([value.detach().unsqueeze(-1), gradients], -1).cpu(), torch.cat([wanted.detach().unsqueeze(-1), slope])
    variance, mean = torch.var_mean(found, 0)
    gap = mean - at
    gap[gap.abs() < 1e-12] = 0.0
    return (gap / (variance / n).sqrt().clamp_min(1e-12)).tolist()


def agrees(loss, theta, truth, n=100_000, device="cpu"):
    found = deviations(loss, theta, n, truth, device)
    assert all(abs(z) < 4 for z in found), found
    return found


def moving():
    return Score(baseline=MovingAverage())


UNBIASED = {
    "plain score": (Score(baseline=0.0), 1),
    "score, one draw": ("score", 1),
    "leave-one-out": ("score", 4),
    "a number": (Score(baseline=0.25), 4),
    "moving average": (moving, 4),
    "learned": (lambda: Score(baseline=Learned()), 4),
}
DISCRETE = {
    "enumerate": ("enumerate", 1),
    **UNBIASED,
    "rebar, one draw": ("rebar", 1),
    "rebar": (Rebar(temperature=0.3, scale=0.7), 4),
}


def made(estimator):
    return estimator() if callable(estimator) else estimator


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["pathwise", *UNBIASED])
def test_the_scale_of_a_normal(name, device):
    """d/ds E_N(0,s²)[z²] = 2s."""
    estimator, k = {**UNBIASED, "pathwise": ("pathwise", 4)}[name]
    q = Normal("q(z|theta)", loc=0.0, scale="theta")
    f = Loss.from_function(lambda z: z.square().sum(-1), "f", var=["z"])
    agrees(f.expectation(q, num_samples=k, estimator=made(estimator)), torch.tensor([1.3]), lambda s: s.square().sum(), device=device)


NEARLY_EQUAL = Loss.from_function(lambda b: (b - 0.499).square().sum(-1), "f", var=["b"])


def nearly_equal(p):
    return (p * 0.501**2 + (1 - p) * 0.499**2).sum()


@pytest.mark.gpu
@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("parameter", ["probs", "logits"])
def test_a_bernoulli_whose_costs_are_nearly_equal(name, parameter, device):
    """E_Bern(.3)[(b-.499)²] = .249601, its derivative for p .002, for the logit .00042."""
    estimator, k = DISCRETE[name]
    theta = torch.tensor([0.3]) if parameter == "probs" else torch.tensor([0.3]).logit()
    truth = nearly_equal if parameter == "probs" else lambda a: nearly_equal(a.sigmoid())
    at = theta.clone().requires_grad_()
    value = truth(at)
    assert value.item() == pytest.approx(0.249601)
    assert torch.autograd.grad(value, at)[0].item() == pytest.approx(0.002 if parameter == "probs" else 0.00042)
    q = Bernoulli("q(b|theta)", **{parameter: "theta"})
    agrees(NEARLY_EQUAL.expectation(q, num_samples=k, estimator=made(estimator)), theta, truth, n=1_000_000 // k, device=device)


def test_leave_one_out_is_calmer_than_no_baseline():
    q, rows = Bernoulli("q(b|theta)", probs="theta"), torch.full((10_000, 1), 0.3, requires_grad=True)

    def variance(estimator):
        value = NEARLY_EQUAL.expectation(q, num_samples=4, estimator=estimator).estimate({"theta": rows})
        return torch.autograd.grad(value.sum(), rows)[0].var().item()

    assert variance("enumerate") < 1e-20
    assert variance("score") < 1e-3 * variance(Score(baseline=0.0))


def test_the_published_librarys_reinforce_is_biased_by_default():
    """There, REINFORCE draws pathwise unless told otherwise, so its gradient is s for 2s. Here, a factor has one estimator."""
    q = Normal("q(z|theta)", loc=0.0, scale="theta")
    f = Loss.from_function(lambda z: z.square().sum(-1), "f", var=["z"])
    theirs = (f.detach() * LogProb(q) + f).expectation(q, estimator="pathwise")
    rows = torch.full((100_000, 1), 1.3, requires_grad=True)
    slope = torch.autograd.grad(theirs.estimate({"theta": rows}).sum(), rows)[0].mean().item()
    assert slope == pytest.approx(1.3, abs=0.1)
    agrees(f.expectation(q, num_samples=2, estimator="score"), torch.tensor([1.3]), lambda s: s.square().sum())


def test_the_published_gradient_through_a_bernoulli_q_is_missing():
    """There, an expectation over a Bernoulli q has no gradient for q, silently. Here, by default, it is exact or warns."""
    q = Bernoulli("q(b|theta)", probs="theta")
    agrees(NEARLY_EQUAL.expectation(q), torch.tensor([0.3]), nearly_equal, n=10)
    wide = Loss.from_function(lambda b: b.sum(-1), "f", var=["b"]).expectation(q, num_samples=2)
    rows = torch.full((1000, 20), 0.3, requires_grad=True)
    slope = torch.autograd.grad(wide.estimate({"theta": rows}).sum(), rows)[0].mean(0)
    assert slope.mean().item() == pytest.approx(1.0, abs=0.2)


@pytest.mark.gpu
@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_relaxed_is_its_own_definition_by_quadrature(tau, device):
    def truth(p):
        noise = torch.linspace(-40, 40, 8001)
        density = noise.sigmoid() * (-noise).sigmoid() * 0.01
        return (density * (((p.logit() + noise) / tau).sigmoid() - 0.499).square()).sum()

    loss = NEARLY_EQUAL.expectation(Bernoulli("q(b|theta)", probs="theta"), num_samples=2, estimator=Relaxed(tau))
    assert loss.is_biased
    agrees(loss, torch.tensor([0.3]), truth, device=device)


@pytest.mark.gpu
def test_straight_through_has_the_gradient_of_the_mean(device):
    """E[f'(b)] dπ, which is no derivative of E[f(b)]."""
    q, rows = Bernoulli("q(b|theta)", probs="theta"), torch.full((200_000, 1), 0.3, device=device, requires_grad=True)
    loss = NEARLY_EQUAL.expectation(q, estimator="straight_through")
    value = loss.estimate({"theta": rows})
    (slope,) = torch.autograd.grad(value.sum(), rows)
    assert value.detach().unique().tolist() == pytest.approx([0.499**2, 0.501**2])
    assert slope.mean().item() == pytest.approx(2 * 0.3 * 0.501 - 2 * 0.7 * 0.499, abs=0.01)
    assert loss.is_biased  # the gradient


@pytest.mark.parametrize("family", [Bernoulli, Categorical])
def test_straight_through_gumbel_has_the_gradient_of_the_relaxed_draw(family):
    """With a linear f both gradients are those of the draw itself; the value is that of a hard one."""
    q = family("q(b|theta)", logits="theta")
    f = Loss.from_function(lambda b: b @ torch.tensor([1.0, -2.0, 0.5]), "f", var=["b"])
    rows = torch.randn(50, 3, requires_grad=True)

    def by(estimator):
        with seeded(3):
            value = f.expectation(q, num_samples=2, estimator=estimator).estimate({"theta": rows})
        return value, torch.autograd.grad(value.sum(), rows)[0]

    (hard, slope), (_, other) = by(StraightThrough(temperature=0.7)), by(Relaxed(0.7))
    assert torch.allclose(slope, other)
    assert torch.allclose(hard * 4, (hard * 4).round())


@pytest.mark.gpu
@pytest.mark.parametrize("k", [1, 3])
def test_rebar_of_a_categorical(k, device):
    weights = torch.randn(2, 3)

    def f(y):
        return ((y * weights.to(y.device)).sum((-2, -1)) - 0.4).pow(3)

    def truth(theta):
        probs, eye = theta.reshape(2, 3).softmax(-1), torch.eye(3)
        return sum(probs[0, i] * probs[1, j] * f(torch.stack([eye[i], eye[j]])) for i in range(3) for j in range(3))

    q = Categorical("q(y|theta)", logits=lambda theta: theta.reshape(-1, 2, 3))
    loss = Loss.from_function(f, "f", var=["y"]).expectation(q, num_samples=k, estimator=Rebar(temperature=0.6))
    agrees(loss, 0.5 * torch.randn(6), truth, device=device)


TERNARY = torch.tensor([0.3, -0.2, 0.5, 0.4, -0.6, 0.1, 0.8], dtype=torch.float64)


def chain():
    """y → b → c, three of each factor's numbers in θ, and a cost of all."""
    y = Bernoulli("q(y|theta)", logits=lambda theta: theta[:, :1])
    b = Bernoulli("q(b|y,theta)", logits=lambda y, theta: theta[:, 1:2] + theta[:, 2:3] * y)
    c = Bernoulli("q(c|b,y,theta)", logits=lambda b, y, theta: theta[:, 3:4] + theta[:, 4:5] * b + theta[:, 5:6] * y)
    f = Loss.from_function(lambda y, b, c, theta: cost_of_chain(y, b, c, theta)[:, 0], "f", var=["y", "b", "c", "theta"])

    def truth(theta):
        total = theta.new_zeros(())
        rows = theta.unsqueeze(0)
        for values in itertools.product((0.0, 1.0), repeat=3):
            vy, vb, vc = (torch.full((1, 1), v) for v in values)
            logits = (rows[:, :1], rows[:, 1:2] + rows[:, 2:3] * vy, rows[:, 3:4] + rows[:, 4:5] * vb + rows[:, 5:6] * vy)
            p = math.prod(v * a.sigmoid() + (1 - v) * (-a).sigmoid() for v, a in zip((vy, vb, vc), logits))
            total = total + (p * cost_of_chain(vy, vb, vc, rows)).sum()
        return total

    return c * b * y, f, truth


def cost_of_chain(y, b, c, theta):
    return (1.5 * y - b + 2 * b * c + theta[:, 6:] * y * b).square()


class Joined(nn.Linear):
    """A linear baseline of all that it is given."""

    def __init__(self, count):
        super().__init__(count, 1)

    def forward(self, *inputs):
        return super().forward(torch.cat(inputs, -1))


MIXES = {
    "rebar on top": {"y": "rebar", "b": "score", "c": "enumerate"},
    "rebar in the middle": {"y": "enumerate", "b": Rebar(0.8), "c": "enumerate"},
    "rebar in the middle of scores": {"y": "score", "b": "rebar", "c": "score"},
    "rebar at the bottom": {"y": "score", "b": "enumerate", "c": "rebar"},
    "moving average below a sum": {"y": "enumerate", "b": moving, "c": "score"},
    "learned below a sum": {"y": "enumerate", "b": lambda: Score(baseline=Joined(8)), "c": "enumerate"},
    "two learned": {"y": lambda: Score(baseline=Joined(7)), "b": lambda: Score(baseline=Joined(8)), "c": "score"},
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", MIXES)
def test_estimators_of_a_chain_mix(name, device):
    q, f, truth = chain()
    estimator = {v: made(e) for v, e in MIXES[name].items()}
    agrees(f.expectation(q, num_samples=2, estimator=estimator), TERNARY, truth, n=50_000, device=device)


@pytest.mark.gpu
@pytest.mark.parametrize("how", ["enumerate", "score", "rebar", moving])
def test_a_mixed_model_against_a_sum_and_quadrature(how, device):
    """An ELBO with b ~ Bernoulli and z|b ~ Normal, pathwise, below it."""
    q_b = Bernoulli("q(b|theta)", logits=lambda theta: theta[:, :1])
    q_z = Normal("q(z|b,theta)", loc=lambda b, theta: theta[:, 1:2] + theta[:, 2:3] * b, scale=lambda b, theta: (theta[:, 3:] - b).exp())
    p = (
        Normal("p(x|z,b)", loc=lambda z, b: z.sin() + 1.5 * b, scale=0.7)
        * Normal("p(z)", loc=0.0, scale=1.0, dim=1)
        * Bernoulli("p(b)", probs=0.4, dim=1)
    )
    loss = ELBO(p, q_z * q_b, num_samples=2, estimator={"b": made(how), "z": "pathwise"})

    def truth(theta):
        points, weights = (torch.tensor(t) for t in np.polynomial.hermite_e.hermegauss(80))
        total = theta.new_zeros(())
        log_normal = lambda x, loc, scale: -0.5 * ((x - loc) / scale).square() - torch.log(scale) - 0.5 * math.log(2 * math.pi)  # noqa: E731
        one = torch.ones(())
        for b in (0.0, 1.0):
            log_qb = F.logsigmoid(theta[0] if b else -theta[0])
            scale = (theta[3] - b).exp()
            z = theta[1] + theta[2] * b + scale * points
            ratio = log_normal(torch.tensor(0.8), z.sin() + 1.5 * b, 0.7 * one) + log_normal(z, 0 * one, one) + math.log(0.4 if b else 0.6)
            ratio = ratio - log_normal(z, theta[1] + theta[2] * b, scale) - log_qb
            total = total + log_qb.exp() * (weights / weights.sum() * ratio).sum()
        return total

    theta, n = torch.tensor([0.4, 0.1, -0.5, -0.3]), 50_000
    rows, x = theta.to(device).expand(n, -1).clone().requires_grad_(), torch.full((n, 1), 0.8, device=device)
    loss.to(device).estimate({"theta": rows[:10], "x": x[:10]})
    value = loss.estimate({"theta": rows, "x": x})
    (gradients,) = torch.autograd.grad(value.sum(), rows)
    exact = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(truth(exact), exact)
    variance, mean = torch.var_mean(torch.cat([value.detach().unsqueeze(-1), gradients], -1).cpu(), 0)
    z = (mean - torch.cat([truth(theta).unsqueeze(0), slope])) / (variance / n).sqrt()
    assert z.abs().max() < 4, z


@pytest.mark.gpu
def test_one_variable_enumerated_and_one_pathwise(device):
    means, targets = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([0.5, 0.2, 1.0])
    means_there, targets_there = means.to(device), targets.to(device)
    q = Normal("q(z|y,theta)", loc=lambda y, theta: y @ means_there[:, None] + theta[:, 3:], scale=0.5) * Categorical(
        "q(y|theta)", logits=lambda theta: theta[:, :3]
    )
    f = Loss.from_function(lambda y, z: (z[:, 0] - y @ targets_there).square(), "f", var=["y", "z"])
    loss = f.expectation(q, num_samples=2, estimator={"y": "enumerate", "z": "pathwise"})
    truth = lambda t: (t[:3].softmax(0) * ((means + t[3] - targets).square() + 0.25)).sum()  # noqa: E731
    agrees(loss, torch.tensor([0.3, -0.1, 0.2, 0.4]), truth, device=device)


@pytest.mark.gpu
@pytest.mark.parametrize("how", ["score", moving, Score(baseline=0.5)])
def test_in_a_weighted_bound_the_score_multiplies_the_aggregate(how, device):
    """IWAE with three draws of a Bernoulli, against the sum over all eight."""
    q, p = Bernoulli("q(b|theta)", logits="theta"), Bernoulli("p(b)", probs=0.35, dim=1)
    x = Normal("p(x|b)", loc=lambda b: 2 * b, scale=0.8)
    loss = IWAE(x * p, q, num_samples=3, estimator=made(how))

    def truth(theta):
        log_q = torch.cat([F.logsigmoid(-theta), F.logsigmoid(theta)])
        gap = torch.tensor([0.0 - 0.9, 2.0 - 0.9])
        log_p = torch.tensor([0.65, 0.35]).log() - 0.5 * (gap / 0.8).square() - math.log(0.8) - 0.5 * math.log(2 * math.pi)
        total = theta.new_zeros(())
        for draws in itertools.product((0, 1), repeat=3):
            w = torch.stack([log_p[i] - log_q[i] for i in draws])
            total = total + sum(log_q[i] for i in draws).exp() * (w.logsumexp(0) - math.log(3))
        return total

    n, theta = 200_000, torch.tensor([-0.4])
    rows, x = theta.to(device).expand(n, 1).clone().requires_grad_(), torch.full((n, 1), 0.9, device=device)
    loss.to(device).estimate({"theta": rows[:10], "x": x[:10]})
    (gradients,) = torch.autograd.grad(loss.estimate({"theta": rows, "x": x}).sum(), rows)
    exact = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(truth(exact), exact)
    gradients = gradients.cpu()
    assert abs((gradients.mean() - slope[0]) / (gradients.std() / n**0.5)) < 4


TRACED = {
    "enumerate": ("enumerate", 1),
    "score": ("score", 3),
    "a number": (Score(baseline=1.0), 1),
    "moving average": (moving, 2),
    "learned": (lambda: Score(baseline=nn.Linear(2, 1)), 2),
    "relaxed": ("relaxed", 2),
    "relaxed, tensor": (lambda: Relaxed(torch.tensor(0.7)), 1),
    "relaxed, parameter": (Relaxed("tau"), 1),
    "straight-through": ("straight_through", 1),
    "straight-through Gumbel": (StraightThrough(0.5), 2),
    "rebar": ("rebar", 1),
    "rebar of several": (Rebar(0.3, scale=0.5), 3),
}


def in_one_graph(loss):
    """The value and the gradients of a loss and of its compiled copy are the same."""
    values = {"x": torch.randn(4, 2), "tau": torch.tensor(0.8)}
    graph = copy.deepcopy(loss)
    graph.compile(fullgraph=True, backend="eager")
    found = []
    for each in (loss, graph):
        with seeded(2):
            value = each.estimate(values)
            value.backward()
        found.append([value.detach(), *[w.grad for w in each.parameters()]])
    for a, b in zip(*found):
        assert torch.allclose(a, b)


def test_every_estimator_is_one_graph():
    """All of them in one sum, each with a weight of its own, so that a single trace serves."""
    q = Bernoulli("q(b|x)", logits=nn.Linear(2, 1))
    losses = [NEARLY_EQUAL.expectation(q, num_samples=k, estimator=made(estimator)) for estimator, k in TRACED.values()]
    in_one_graph(sum((1 + 0.1 * i) * loss for i, loss in enumerate(losses)).mean())


@pytest.mark.parametrize("name", ["score", "rebar of several"])
def test_an_estimator_above_a_pathwise_draw_is_one_graph(name):
    estimator, k = TRACED[name]
    q = Normal("q(z|b)", loc="b", scale=1.0) * Bernoulli("q(b|x)", logits=nn.Linear(2, 1))
    p = Normal("p(x|z)", loc=nn.Linear(1, 2), scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0, dim=1) * Bernoulli("p(b)", probs=0.5, dim=1)
    in_one_graph(ELBO(p, q, num_samples=k, estimator={"b": made(estimator)}).mean())
