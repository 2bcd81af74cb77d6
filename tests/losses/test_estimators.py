"""Gradient estimators against closed forms, sums over all values, and quadrature; their baselines, errors and graphs."""

import copy
import io
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pixyz.core import (
    Enumerate,
    Expectation,
    FormulaError,
    IntractableError,
    KindError,
    Loss,
    MovingAverage,
    Pathwise,
    Rebar,
    Relaxed,
    Score,
    ShapeError,
    StraightThrough,
    SupportError,
    seeded,
)
from pixyz.distributions import Bernoulli, Categorical, CategoricalIndex, Components, Multinomial, Normal, Poisson
from pixyz.losses import ELBO, IWAE, IterativeLoss, LogProb, StoppedLogProb


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


def deviations(loss, theta, n, truth):
    """How many standard errors the value and the gradient for θ, one row of it for each of n data, are from the truth.

    The truth is a function of θ; where nothing varies, what is left must be rounding, and counts as 0.
    """
    rows = theta.expand(n, -1).clone().requires_grad_()
    value = warmed(loss, {"theta": rows.detach()}).estimate({"theta": rows})
    (gradients,) = torch.autograd.grad(value.sum(), rows)
    exact = theta.clone().requires_grad_()
    wanted = truth(exact)
    (slope,) = torch.autograd.grad(wanted, exact)
    found, at = torch.cat([value.detach().unsqueeze(-1), gradients], -1), torch.cat([wanted.detach().unsqueeze(-1), slope])
    variance, mean = torch.var_mean(found, 0)
    gap = mean - at
    gap[gap.abs() < 1e-12] = 0.0
    return (gap / (variance / n).sqrt().clamp_min(1e-12)).tolist()


def agrees(loss, theta, truth, n=100_000):
    found = deviations(loss, theta, n, truth)
    assert all(abs(z) < 4 for z in found), found
    return found


# --- one variable ---------------------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", ["pathwise", *UNBIASED])
def test_the_scale_of_a_normal(name):
    """d/ds E_N(0,s²)[z²] = 2s."""
    estimator, k = {**UNBIASED, "pathwise": ("pathwise", 4)}[name]
    q = Normal("q(z|theta)", loc=0.0, scale="theta")
    f = Loss.from_function(lambda z: z.square().sum(-1), "f", var=["z"])
    agrees(f.expectation(q, num_samples=k, estimator=made(estimator)), torch.tensor([1.3]), lambda s: s.square().sum())


NEARLY_EQUAL = Loss.from_function(lambda b: (b - 0.499).square().sum(-1), "f", var=["b"])


def nearly_equal(p):
    return (p * 0.501**2 + (1 - p) * 0.499**2).sum()


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("parameter", ["probs", "logits"])
def test_a_bernoulli_whose_costs_are_nearly_equal(name, parameter):
    """E_Bern(.3)[(b-.499)²] = .249601, its derivative for p .002, for the logit .00042."""
    estimator, k = DISCRETE[name]
    theta = torch.tensor([0.3]) if parameter == "probs" else torch.tensor([0.3]).logit()
    truth = nearly_equal if parameter == "probs" else lambda a: nearly_equal(a.sigmoid())
    at = theta.clone().requires_grad_()
    value = truth(at)
    assert value.item() == pytest.approx(0.249601)
    assert torch.autograd.grad(value, at)[0].item() == pytest.approx(0.002 if parameter == "probs" else 0.00042)
    q = Bernoulli("q(b|theta)", **{parameter: "theta"})
    agrees(NEARLY_EQUAL.expectation(q, num_samples=k, estimator=made(estimator)), theta, truth, n=1_000_000 // k)


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


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_relaxed_is_its_own_definition_by_quadrature(tau):
    def truth(p):
        noise = torch.linspace(-40, 40, 8001)
        density = noise.sigmoid() * (-noise).sigmoid() * 0.01
        return (density * (((p.logit() + noise) / tau).sigmoid() - 0.499).square()).sum()

    loss = NEARLY_EQUAL.expectation(Bernoulli("q(b|theta)", probs="theta"), num_samples=2, estimator=Relaxed(tau))
    assert loss.is_biased
    agrees(loss, torch.tensor([0.3]), truth)


def test_straight_through_has_the_gradient_of_the_mean():
    """E[f'(b)] dπ, which is no derivative of E[f(b)]."""
    q, rows = Bernoulli("q(b|theta)", probs="theta"), torch.full((200_000, 1), 0.3, requires_grad=True)
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


# --- several variables ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
def test_rebar_of_a_categorical(k):
    weights = torch.randn(2, 3)

    def f(y):
        return ((y * weights).sum((-2, -1)) - 0.4).pow(3)

    def truth(theta):
        probs, eye = theta.reshape(2, 3).softmax(-1), torch.eye(3)
        return sum(probs[0, i] * probs[1, j] * f(torch.stack([eye[i], eye[j]])) for i in range(3) for j in range(3))

    q = Categorical("q(y|theta)", logits=lambda theta: theta.reshape(-1, 2, 3))
    loss = Loss.from_function(f, "f", var=["y"]).expectation(q, num_samples=k, estimator=Rebar(temperature=0.6))
    agrees(loss, 0.5 * torch.randn(6), truth)


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


@pytest.mark.parametrize("name", MIXES)
def test_estimators_of_a_chain_mix(name):
    q, f, truth = chain()
    estimator = {v: made(e) for v, e in MIXES[name].items()}
    agrees(f.expectation(q, num_samples=2, estimator=estimator), TERNARY, truth, n=50_000)


@pytest.mark.parametrize("how", ["enumerate", "score", "rebar", moving])
def test_a_mixed_model_against_a_sum_and_quadrature(how):
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
    rows, x = theta.expand(n, -1).clone().requires_grad_(), torch.full((n, 1), 0.8)
    loss.estimate({"theta": rows[:10], "x": x[:10]})
    value = loss.estimate({"theta": rows, "x": x})
    (gradients,) = torch.autograd.grad(value.sum(), rows)
    exact = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(truth(exact), exact)
    variance, mean = torch.var_mean(torch.cat([value.detach().unsqueeze(-1), gradients], -1), 0)
    z = (mean - torch.cat([truth(theta).unsqueeze(0), slope])) / (variance / n).sqrt()
    assert z.abs().max() < 4, z


def test_one_variable_enumerated_and_one_pathwise():
    means, targets = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([0.5, 0.2, 1.0])
    q = Normal("q(z|y,theta)", loc=lambda y, theta: y @ means[:, None] + theta[:, 3:], scale=0.5) * Categorical(
        "q(y|theta)", logits=lambda theta: theta[:, :3]
    )
    f = Loss.from_function(lambda y, z: (z[:, 0] - y @ targets).square(), "f", var=["y", "z"])
    loss = f.expectation(q, num_samples=2, estimator={"y": "enumerate", "z": "pathwise"})
    agrees(loss, torch.tensor([0.3, -0.1, 0.2, 0.4]), lambda t: (t[:3].softmax(0) * ((means + t[3] - targets).square() + 0.25)).sum())


@pytest.mark.parametrize("how", ["score", moving, Score(baseline=0.5)])
def test_in_a_weighted_bound_the_score_multiplies_the_aggregate(how):
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
    rows, x = theta.expand(n, 1).clone().requires_grad_(), torch.full((n, 1), 0.9)
    loss.estimate({"theta": rows[:10], "x": x[:10]})
    (gradients,) = torch.autograd.grad(loss.estimate({"theta": rows, "x": x}).sum(), rows)
    exact = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(truth(exact), exact)
    assert abs((gradients.mean() - slope[0]) / (gradients.std() / n**0.5)) < 4


# --- values between the discrete ones -------------------------------------------------------------------------------------------------

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


# --- temperatures ---------------------------------------------------------------------------------------------------------------------


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


def test_a_common_temperature_shares_draws():
    tau = torch.tensor(0.5)
    q = Bernoulli("q(b)", probs=0.3, dim=3)
    difference = NEARLY_EQUAL.expectation(q, estimator=Relaxed(tau)) - NEARLY_EQUAL.expectation(q, estimator=Relaxed(tau))
    assert difference.estimate().item() == 0
    two = NEARLY_EQUAL.expectation(q, estimator=Relaxed(0.5)) - NEARLY_EQUAL.expectation(q, estimator=Relaxed(0.6))
    assert two.estimate().item() != 0


# --- baselines ------------------------------------------------------------------------------------------------------------------------


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


def test_a_baseline_of_a_wrong_shape_is_an_error():
    loss = NEARLY_EQUAL.expectation(Bernoulli("q(b|x)", logits="x"), estimator=Score(baseline=Wrong((3,))))
    said = r"baseline\[q\(b\|x\)\]: for 5 inputs a baseline must return one value for each, \(5,\); it returned \(5, 3\)"
    with pytest.raises(ShapeError, match=said):
        loss.estimate({"x": torch.zeros(5, 1)})


# --- what is chosen, said and refused -------------------------------------------------------------------------------------------------


def trained(number, count):
    return nn.Parameter(torch.full((count,), number))


def how(loss, values=None):
    return loss.explain(values).how


@pytest.mark.filterwarnings("ignore:.*one draw")
def test_explain_says_what_was_chosen_and_why():
    wide, y = Bernoulli("q(b)", probs=trained(0.3, 784)), Categorical("q(y)", probs=trained(0.1, 10))
    z = Normal("q(z)", loc=0.0, scale=1.0)
    f = Loss.from_function(lambda y, z, b: y.sum(-1) + z.sum(-1) + b.sum(-1), "f", var=["y", "z", "b"])
    loss = f.expectation(wide * z * y, num_samples=8)
    assert how(loss) == (
        "y summed exactly (10 values); z drawn 8 times, pathwise; "
        "b drawn 8 times, score, leave-one-out baseline (2^784 values are more than 256)"
    )
    g = Loss.from_function(lambda b: b.sum(-1), "g", var=["b"])
    said = {e if isinstance(e, str) else e.name: how(g.expectation(wide, estimator=e)) for e in ("auto", "rebar", Relaxed(), Score(2.0))}
    assert said == {
        "auto": "b drawn 1 time, score, no baseline (2^784 values are more than 256)",
        "rebar": "b drawn 1 time, rebar at temperature 0.5",
        "relaxed": "b drawn 1 time, relaxed at temperature 0.5 (biased)",
        "score": "b drawn 1 time, score, baseline 2.0",
    }
    assert how(g.expectation(wide, estimator=StraightThrough())) == "b drawn 1 time, straight-through (biased gradient)"
    assert how(g.expectation(wide, estimator=Score(baseline=MovingAverage()))) == "b drawn 1 time, score, baseline MovingAverage"
    assert len(g.expectation(wide, estimator="rebar").explain().terms) == 1


def test_how_many_points_may_be_enumerated():
    q = Bernoulli("q(b)", probs=trained(0.3, 9))
    g = Loss.from_function(lambda b: b.sum(-1), "g", var=["b"])
    with pytest.raises(IntractableError, match="512 points, more than 256. Use estimator='score', or raise the limit: max_enumerate=512"):
        g.expectation(q, estimator="enumerate").estimate()
    for options in ({"max_enumerate": 512}, {"estimator": Enumerate(max_enumerate=512)}):
        assert g.expectation(q, **options).estimate().item() == pytest.approx(2.7)
    assert "score" in how(g.expectation(Bernoulli("q(b)", probs=trained(0.3, 3)), num_samples=2, max_enumerate=7))
    with pytest.raises(IntractableError, match=r"takes 2\^784 points, more than 256. Use estimator='score'\.$"):
        g.expectation(Bernoulli("q(b)", probs=0.3, dim=784), estimator="enumerate").estimate()


B, Z = Bernoulli("q(b)", probs=0.5), Normal("q(z)", loc=0.0, scale=1.0)
INDEX, COUNT = CategoricalIndex("q(k)", probs=torch.ones(3) / 3), Poisson("q(n)", rate=2.0)
REFUSED = {
    "pathwise of a Bernoulli": (
        lambda: Expectation(B, LogProb(B), estimator=Pathwise()),
        r"q\(b\) \(Bernoulli\) has no pathwise gradient; use 'enumerate', 'score', 'relaxed', 'straight_through' or 'rebar'",
    ),
    "a relaxed normal": (
        lambda: Expectation(Z, LogProb(Z), estimator="relaxed"),
        r"q\(z\) \(Normal\) cannot be relaxed; use 'pathwise', 'score' or 'straight_through'",
    ),
    "straight through a normal at a temperature": (
        lambda: Expectation(Z, LogProb(Z), estimator=StraightThrough(0.5)),
        r"q\(z\) \(Normal\) cannot be relaxed",
    ),
    "a relaxed index": (
        lambda: Expectation(INDEX, LogProb(INDEX), estimator="relaxed"),
        r"q\(k\) \(CategoricalIndex\) cannot be relaxed; its one-hot twin, Categorical, can; use 'enumerate' or 'score'",
    ),
    "straight through an index": (lambda: Expectation(INDEX, LogProb(INDEX), estimator="straight_through"), "one-hot twin, Categorical"),
    "rebar of counts": (lambda: Expectation(COUNT, LogProb(COUNT), estimator="rebar"), r"q\(n\) \(Poisson\) cannot be relaxed"),
    "two rebars": (lambda: Expectation(B * Bernoulli("q(c)", probs=0.5), LogProb(B), estimator="rebar"), "Nest expectations"),
    "rebar of another mean": (
        lambda: Expectation(B, LogProb(B), estimator="rebar", aggregate="log_mean_exp"),
        "the estimator 'rebar' is for the aggregate 'mean'",
    ),
    "no such estimator": (lambda: Expectation(B, LogProb(B), estimator="magic"), "choose one of auto, enumerate, pathwise, score, relaxed"),
    "a number": (lambda: Expectation(B, LogProb(B), estimator={"b": 3}), "must be a name, or an estimator; got 3 for b"),
    "a temperature of 0": (lambda: Relaxed(0.0), "Relaxed: a temperature must be a positive number; got 0"),
    "a temperature of two numbers": (lambda: Rebar(torch.ones(2)), r"Rebar: a temperature is one number, \(\); got \(2,\)"),
    "a temperature of None": (lambda: Relaxed(None), "temperature must be a positive number, a tensor or the name of a Parameter"),
    "a scale of nothing": (lambda: Rebar(scale=math.nan), "Rebar: scale must be a number"),
    "a baseline of text": (lambda: Score(baseline="mean"), "Score: baseline must be a module, a number or None; got a str"),
    "a decay of 1": (lambda: MovingAverage(1.0), r"decay must be a number in \[0, 1\)"),
    "a limit of 0": (lambda: Expectation(B, LogProb(B), max_enumerate=0), r"E_q\(b\): max_enumerate must be a whole number of at least 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_when_it_is_built(name):
    build, message = REFUSED[name]
    with pytest.raises((FormulaError, KindError, SupportError), match=message):
        build()


# --- one graph ------------------------------------------------------------------------------------------------------------------------

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


# --- sequences ------------------------------------------------------------------------------------------------------------------------

STEP = Loss.from_function(lambda z, z_prev: (1.5 * z - z_prev + 2 * z * z_prev).square().sum(-1), "f", var=["z", "z_prev"])


def sequence(estimator, **options):
    """Three steps of z_t ~ Bernoulli, given the one before."""
    q = Bernoulli("q(z|z_prev,theta)", logits=lambda z_prev, theta: theta[:, :1] + theta[:, 1:] * z_prev)
    step = STEP.expectation(q, estimator=estimator, **options)
    return IterativeLoss(step, update_value={"z": "z_prev"}, max_iter=3)


def assert_unbiased_along_a_sequence(loss, truth):
    theta, n = torch.tensor([0.3, -0.7]), 50_000
    rows = theta.expand(n, -1).clone().requires_grad_()
    loss.estimate({"theta": rows[:100].detach(), "z_prev": torch.zeros(100, 1)})
    (gradients,) = torch.autograd.grad(loss.estimate({"theta": rows, "z_prev": torch.zeros(n, 1)}).sum(), rows)
    exact = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(truth(exact), exact)
    variance, mean = torch.var_mean(gradients, 0)
    assert ((mean - slope) / (variance / n).sqrt()).abs().max() < 4


SEQUENCES = {"score": "score", "moving average": moving, "learned": lambda: Score(baseline=Joined(3)), "a number": Score(baseline=3.0)}


@pytest.mark.parametrize("name", SEQUENCES)
def test_baselines_along_a_sequence(name):
    def truth(theta):
        total = theta.new_zeros(())
        for path in itertools.product((0.0, 1.0), repeat=3):
            p, cost = torch.ones(()), 0.0
            for before, z in zip((0.0, *path), path):
                p = p * F.logsigmoid((2 * z - 1) * (theta[0] + theta[1] * before)).exp()
                cost += (1.5 * z - before + 2 * z * before) ** 2
            total = total + p * cost
        return total

    loss = sequence(made(SEQUENCES[name]), num_samples=2)
    assert_unbiased_along_a_sequence(loss, truth)


@pytest.mark.parametrize("how", ["score", moving, Score(baseline=3.0)])
def test_baselines_of_an_aggregate_over_sequences(how):
    """log mean exp over two whole sequences, against the sum over all pairs of paths."""

    def truth(theta):
        paths = []
        for path in itertools.product((0.0, 1.0), repeat=3):
            log_p, cost = theta.new_zeros(()), 0.0
            for before, z in zip((0.0, *path), path):
                log_p = log_p + F.logsigmoid((2 * z - 1) * (theta[0] + theta[1] * before))
                cost += (1.5 * z - before + 2 * z * before) ** 2
            paths.append((log_p, cost))
        pairs = itertools.product(paths, repeat=2)
        return sum((p + q).exp() * (math.log(math.exp(a) + math.exp(b)) - math.log(2)) for (p, a), (q, b) in pairs)

    loss = sequence(made(how), num_samples=2, aggregate="log_mean_exp")
    assert_unbiased_along_a_sequence(loss, truth)


def test_two_terms_of_a_sequence_share_a_baseline():
    q = Bernoulli("q(z|z_prev)", logits=nn.Linear(1, 1))
    estimator = Score(baseline=nn.Linear(1, 1))
    step = STEP.expectation(q, estimator=estimator) - 2 * LogProb(q).expectation(q, estimator=estimator)
    IterativeLoss(step, update_value={"z": "z_prev"}, max_iter=3).estimate({"z_prev": torch.zeros(4, 1)}).sum().backward()
    assert estimator.baseline.weight.grad is not None


def test_a_sequence_of_relaxed_values():
    q = Bernoulli("q(z|z_prev)", logits=nn.Linear(1, 1))
    prior = Bernoulli("p(z|z_prev)", logits=lambda z_prev: 0.5 * z_prev)
    step = (LogProb(prior) - LogProb(q)).expectation(q, num_samples=2, estimator=Relaxed(0.7))
    loss = IterativeLoss(step, update_value={"z": "z_prev"}, max_iter=3).mean()
    loss.estimate({"z_prev": torch.zeros(4, 1)}).backward()
    assert all(w.grad.abs().sum() > 0 for w in q.parameters())


def test_what_a_sequence_cannot_estimate():
    with pytest.raises(
        FormulaError, match=r"q\(z\|z_prev,theta\) is drawn step by step, which 'rebar' cannot do; use 'score' or 'relaxed'"
    ):
        sequence("rebar")
    with pytest.raises(FormulaError, match="an aggregate is over whole sequences, and the baseline of"):
        sequence(Score(baseline=Joined(3)), num_samples=2, aggregate="log_mean_exp")
