"""Every estimator with every function of a body: without bias, it has the value and the gradient of the sum over all outcomes.

Nothing is drawn at random. Each draw takes all its outcomes, one for each row of the batch, and the rows are weighed by their
probability: so the mean of an estimator over its noise is a sum, exact to rounding. Where the noise is uniform the outcomes are the
nodes of a quadrature. The truth is written in plain torch, with the same body, as a function of tensors.
"""

import inspect
import itertools
import math
from typing import NamedTuple

import pytest
import torch
from numpy.polynomial.legendre import leggauss
from torch import nn

from pixyz import core, losses
from pixyz.core import Estimator, Loss, Rebar, Score, StraightThrough
from pixyz.distributions import Bernoulli, Normal

F64 = torch.float64


def nodes(panels, count):
    """Of a quadrature on (0, 1), and their weights, `(N, 1)` each."""
    at, weight = (torch.as_tensor(a, dtype=F64) / 2 for a in leggauss(count))
    left = torch.arange(panels, dtype=F64).unsqueeze(-1)
    return ((left + at + 0.5) / panels).reshape(-1, 1), (weight / panels).expand(panels, -1).reshape(-1, 1)


class Outcomes:
    """All outcomes of all draws of one evaluation, a row of the batch for each combination.

    Args:
        counts: how many outcomes each number that is drawn has; None to find out, with a single row.
    """

    def __init__(self, counts=None):
        self.found = []
        sizes = [1] if counts is None else counts
        self.rows = math.prod(sizes)
        self.digits = None if counts is None else torch.cartesian_prod(*[torch.arange(n) for n in counts]).reshape(self.rows, -1)
        self.probability = torch.ones(self.rows, dtype=F64)

    def take(self, shape, choose):
        """Numbers of this shape, `(*dims, rows, 1)`: `choose` gives outcomes and probabilities, `(N, rows)`, at each place of the dims."""
        out = []
        for place in itertools.product(*[range(n) for n in shape[:-2]]):
            values, probs = choose(place)
            digit = torch.zeros(self.rows, dtype=torch.long) if self.digits is None else self.digits[:, len(self.found)]
            self.found.append(len(values))
            self.probability = self.probability * probs.gather(0, digit[None])[0]
            out.append(values.gather(0, digit[None])[0])
        return torch.stack(out).reshape(shape)


@pytest.fixture(autouse=True)
def outcomes(monkeypatch):
    """The noise of the families here, replaced by its outcomes."""
    torch.set_default_dtype(F64)
    holder = [Outcomes(), nodes(panels=1, count=24)]

    def bernoulli(params, shape):
        probs = Bernoulli.mean_of(params).detach().expand(shape)[..., 0]
        return holder[0].take(shape, lambda place: (both(torch.zeros_like(probs[place])), torch.stack([1 - probs[place], probs[place]])))

    def normal(params, shape):
        """Noise of one size, of either sign."""
        half = torch.full((2, holder[0].rows), 0.5)
        noise = holder[0].take(shape, lambda place: (2 * both(torch.zeros(holder[0].rows)) - 1, half))
        return params["loc"] + params["scale"] * noise

    of_noise = Bernoulli.relax

    def relax(params, shape, temperature):
        """With nodes on both sides of the place where a hard draw turns from 0 to 1 for its uniform noise."""
        turn = 1 - Bernoulli.mean_of(params).detach().expand(shape)[..., 0]

        def choose(place):
            at = turn[place]
            inside, weight = holder[1]
            return torch.cat([at * inside, at + (1 - at) * inside]), torch.cat([at * weight, (1 - at) * weight])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "rand", lambda size, **kind: torch.empty(size, **kind).copy_(holder[0].take(shape, choose)))
            return of_noise(params, shape, temperature)

    monkeypatch.setattr(Bernoulli, "draw", staticmethod(bernoulli))
    monkeypatch.setattr(Normal, "rsample", staticmethod(normal))
    monkeypatch.setattr(Bernoulli, "relax", staticmethod(relax))
    return holder


def both(zero):
    return torch.stack([zero, zero + 1])


def mean_over_outcomes(outcomes, loss, theta):
    """The mean of an estimate over its noise, whose gradient is the mean of the gradients."""
    outcomes[0] = Outcomes()
    estimate(loss, theta)
    outcomes[0] = Outcomes(outcomes[0].found or [1])
    value = estimate(loss, theta.expand(outcomes[0].rows, -1))
    return (outcomes[0].probability * value).sum()


def estimate(loss, theta):
    return loss.estimate({"theta": theta}, **({} if "theta" in loss.input_var else {"batch_size": len(theta)}))


class Cost(nn.Module):
    """Positive numbers of b, with a weight of their own."""

    def __init__(self, weight, shift):
        super().__init__()
        self.weight, self.shift = nn.Parameter(torch.tensor(weight, dtype=F64)), shift

    def forward(self, b):
        return (self.weight * b - self.shift).square().sum(-1) + 0.2


class Below(nn.Module):
    """The logit of c, or its mean, given b."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.8, dtype=F64))

    def forward(self, b):
        return self.weight * b - 0.3


def pair(b, c):
    return ((b + 0.5) * (c - 0.3).square()).sum(-1)


F_, G_, R_ = Cost(0.9, 0.3), Cost(-0.6, 0.2), Below()
WEIGHTS_OF_BODIES = [F_.weight, G_.weight, R_.weight]


def of(name, torch_function):
    return lambda *a: getattr(losses, name)(*a) if isinstance(a[0], Loss) else torch_function(*a)


def stacked(function):
    return lambda *a: function(torch.stack(a), 0)


def log_sigmoid(a):
    return core.log_sigmoid(a) if isinstance(a, Loss) else nn.functional.logsigmoid(a)


minimum, maximum = of("minimum", torch.minimum), of("maximum", torch.maximum)
logsumexp = of("logsumexp", stacked(torch.logsumexp))
log_mean_exp = of("log_mean_exp", lambda *a: stacked(torch.logsumexp)(*a) - math.log(len(a)))


class Given(NamedTuple):
    """What a body is made of: two losses of b, and three expectations given b, or their values."""

    f: object
    g: object
    summed: object
    scored: object
    smooth: object


def of_functions():
    """A body for each row of the table of functions."""
    return {
        "abs": lambda x: (x.f - 0.25).abs(),
        "exp": lambda x: x.f.exp(),
        "log": lambda x: x.f.log(),
        "log_sigmoid": lambda x: log_sigmoid(x.f),
        "detach": lambda x: x.f.detach(),
        "power": lambda x: x.f**x.g,
        "at_least": lambda x: x.f.clamp(min=0.25),
        "at_most": lambda x: x.f.clamp(max=0.4),
        "minimum": lambda x: minimum(x.f, x.g),
        "maximum": lambda x: maximum(x.f, x.g),
        "logsumexp": lambda x: logsumexp(x.f, x.g),
        "log_mean_exp": lambda x: log_mean_exp(x.f, x.g),
    }


BODIES = {
    **of_functions(),
    "itself": lambda x: x.f,
    "a sum": lambda x: 2 * x.f - x.g,
    "a product": lambda x: x.f * x.g,
    "a product with a stop": lambda x: x.f * x.g.detach(),
    "a quotient": lambda x: x.f / x.g,
    "a quotient by a stop": lambda x: x.f / x.g.detach(),
    "a square": lambda x: x.f**2,
    "a number's power": lambda x: 2**x.f,
    "a stop in a function": lambda x: (x.f.detach() + x.g).exp(),
    "a stop of a function": lambda x: (x.f + x.g).exp().detach(),
    "a stop in a stop": lambda x: (x.f.detach() * x.g).detach() + x.f,
    "a clamp by a stop": lambda x: x.f.clamp(min=x.g.detach()),
    "an expectation, summed": lambda x: x.summed + x.f,
    "an expectation, scored": lambda x: x.scored - x.g,
    "an expectation, pathwise": lambda x: x.smooth * x.f,
    "a stopped expectation": lambda x: x.summed.detach() * x.f,
    "a function of a sum": lambda x: x.smooth.detach() + x.scored,
}


def as_losses():
    f, g = (Loss.from_function(m, n, var=["b"]) for m, n in ((F_, "f"), (G_, "g")))
    h = Loss.from_function(pair, "h", var=["b", "c"])
    below, smooth = Bernoulli("r(c|b)", logits=R_), Normal("s(c|b)", loc=R_, scale=0.7)
    return Given(f, g, h.expectation(below), h.expectation(below, estimator=Score(0.0)), h.expectation(smooth))


def as_tensors(b):
    """At values of b, `(N, 1)`."""
    chance = R_(b).sigmoid().squeeze(-1)
    zero, one = torch.zeros_like(b), torch.ones_like(b)
    inner = chance * pair(b, one) + (1 - chance) * pair(b, zero)
    smooth = 0.5 * (pair(b, R_(b) + 0.7) + pair(b, R_(b) - 0.7))
    return Given(F_(b), G_(b), inner, inner, smooth)


def bernoulli():
    return Bernoulli("q(b|theta)", logits="theta")


def normal():
    return Normal("q(b|theta)", loc="theta", scale=0.6)


def constant():
    return Bernoulli("q(b)", probs=0.3, dim=1)


ESTIMATORS = {
    "enumerate": (bernoulli, "enumerate", 1),
    "pathwise": (normal, "pathwise", 1),
    "pathwise, two draws": (normal, "pathwise", 2),
    "score": (bernoulli, "score", 1),
    "score, three draws": (bernoulli, "score", 3),
    "score, a number": (bernoulli, Score(baseline=0.25), 2),
    "relaxed": (bernoulli, "relaxed", 1),
    "straight_through": (bernoulli, "straight_through", 1),
    "straight_through, relaxed": (bernoulli, StraightThrough(0.5), 1),
    "rebar": (bernoulli, "rebar", 1),
    "rebar, other options": (bernoulli, Rebar(temperature=0.8, scale=0.6), 1),
    "sample": (constant, "sample", 2),
    "sample of what is trained": (bernoulli, "sample", 1),
    "auto": (bernoulli, "auto", 1),
    "auto, nothing to be trained": (constant, "auto", 1),
}
BIASED = {"relaxed", "straight_through", "straight_through, relaxed", "sample of what is trained"}


WITH_A_KINK = {"abs", "at_least", "at_most", "minimum", "maximum", "a clamp by a stop"}


def truth_of(make, body, theta):
    """The sum over all outcomes, in plain torch."""
    if make is normal:
        return 0.5 * sum(body(as_tensors(theta.reshape(1, 1) + sign * 0.6)).sum() for sign in (-1.0, 1.0))
    chance = torch.tensor(0.3) if make is constant else theta.sigmoid().squeeze()
    zero, one = body(as_tensors(torch.tensor([[0.0], [1.0]])))
    return (1 - chance) * zero + chance * one


def gradients(value, theta):
    if not value.requires_grad:
        return torch.zeros(1 + len(WEIGHTS_OF_BODIES))
    found = torch.autograd.grad(value, [theta, *WEIGHTS_OF_BODIES], allow_unused=True)
    return torch.stack([torch.zeros(()) if g is None else g.sum() for g in found])


def agrees(outcomes, loss, truth, theta, slack=1e-7):
    found = mean_over_outcomes(outcomes, loss, theta)
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradients(found, theta), gradients(truth, theta), rtol=1e-6, atol=slack)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_unbiased_is_the_sum_over_all_outcomes(name, body, outcomes):
    make, estimator, k = ESTIMATORS[name]
    theta = torch.tensor([[0.4]], requires_grad=True)
    loss = BODIES[body](as_losses()).expectation(make(), estimator=estimator, num_samples=k)
    assert loss.is_biased == (name in BIASED)
    slack = 1e-7
    if body in WITH_A_KINK and "rebar" in name:  # it lies in one of the panels, and no slope here is greater than 1
        panels = 100
        outcomes[1], slack = nodes(panels, count=4), 1 / panels
    if not loss.is_biased:
        agrees(outcomes, loss, truth_of(make, BODIES[body], theta), theta, slack)


def test_what_says_that_it_is_biased_is_so(outcomes):
    for name in BIASED:
        make, estimator, k = ESTIMATORS[name]
        theta = torch.tensor([[0.4]], requires_grad=True)
        loss = BODIES["exp"](as_losses()).expectation(make(), estimator=estimator, num_samples=k)
        with pytest.raises(AssertionError):
            agrees(outcomes, loss, truth_of(make, BODIES["exp"], theta), theta)


AGGREGATED = {
    name: ESTIMATORS[name] for name in ("pathwise, two draws", "score, three draws", "score, a number", "sample", "enumerate", "score")
}


@pytest.mark.parametrize("aggregate", ["log_mean_exp", 0.5, 2.0])
@pytest.mark.parametrize("body", ["itself", "detach", "a product with a stop", "a stop in a function"])
@pytest.mark.parametrize("name", AGGREGATED)
def test_other_means_over_the_draws_are_sums_over_all_their_combinations(name, body, aggregate, outcomes):
    make, estimator, k = AGGREGATED[name]
    theta = torch.tensor([[0.4]], requires_grad=True)
    loss = BODIES[body](as_losses()).expectation(make(), estimator=estimator, num_samples=k, aggregate=aggregate)
    scale = 1.0 if aggregate == "log_mean_exp" else 1 - aggregate
    if make is normal:
        chance = torch.tensor(0.5)
        each = torch.cat([BODIES[body](as_tensors(theta + sign * 0.6)) for sign in (-1.0, 1.0)])
    else:
        chance = torch.tensor(0.3) if make is constant else theta.sigmoid().squeeze()
        each = BODIES[body](as_tensors(torch.tensor([[0.0], [1.0]])))
    truth = torch.zeros(())
    count = 1 if estimator == "enumerate" else k
    for picked in itertools.product((0, 1), repeat=count):
        probability = torch.stack([chance if i else 1 - chance for i in picked]).prod()
        truth = truth + probability * ((scale * each[list(picked)]).logsumexp(0) - math.log(count)) / scale
    agrees(outcomes, loss, truth, theta)


@pytest.mark.parametrize("name", ["pathwise", "pathwise, two draws", "score", "score, three draws", "rebar"])
@pytest.mark.parametrize("reduced", ["mean", "sum"])
def test_a_body_that_is_one_number_for_the_batch(name, reduced, outcomes):
    """One datum, so that the number of the batch is its own; each combination of outcomes in an evaluation of its own."""
    make, estimator, k = ESTIMATORS[name]
    theta = torch.tensor([[0.4]], requires_grad=True)
    loss = getattr(BODIES["a stop in a function"](as_losses()), reduced)().expectation(make(), estimator=estimator, num_samples=k)
    outcomes[0] = Outcomes()
    estimate(loss, theta)
    total = torch.zeros(())
    for digits in itertools.product(*[range(n) for n in outcomes[0].found]):
        outcomes[0] = Outcomes()
        outcomes[0].digits = torch.tensor([digits])
        value = estimate(loss, theta)
        total = total + outcomes[0].probability.squeeze(0) * value
    truth = truth_of(make, BODIES["a stop in a function"], theta)
    torch.testing.assert_close(total, truth, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradients(total, theta), gradients(truth, theta), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["enumerate", "pathwise", "score", "score, three draws", "rebar"])
def test_a_body_at_given_values(name, outcomes):
    """A second variable of the body, held constant."""
    make, estimator, k = ESTIMATORS[name]
    theta = torch.tensor([[0.4]], requires_grad=True)
    f = as_losses().f

    def cost(b, c):
        return (b.squeeze(-1) + 0.5) * (c - 0.3).square()

    def body(b):
        return cost(b, torch.tensor(0.9)) * F_(b).detach()

    h = Loss.from_function(cost, "h", var=["b", "c"]).constant_var({"c": torch.tensor(0.9)})

    loss = (h * f.detach()).expectation(make(), estimator=estimator, num_samples=k)
    if make is normal:
        truth = 0.5 * sum(body(theta + sign * 0.6).sum() for sign in (-1.0, 1.0))
    else:
        zero, one = body(torch.tensor([[0.0], [1.0]]))
        truth = (1 - theta.sigmoid().squeeze()) * zero + theta.sigmoid().squeeze() * one
    agrees(outcomes, loss, truth, theta)


# What else makes a loss of losses, which is no function of their values for a datum.
NO_FUNCTIONS = {"as_loss", "constant_var", "expectation", "for_player", "mean", "of_leaves", "sum"}
ARITHMETIC = {f"__{left}{name}__" for name in ("add", "sub", "mul", "truediv") for left in ("", "r")} | {"__neg__"}
WRITTEN_AS = {"power": {"__pow__", "__rpow__"}, "abs": {"abs", "__abs__"}, "at_least": {"clamp"}, "at_most": {"clamp"}}


def makes_a_loss(function):
    return inspect.isfunction(function) and inspect.signature(function).return_annotation is Loss


def test_the_tables_are_complete():
    public = [getattr(core, name) for name in core.__all__]
    named = {e.name for e in public if inspect.isclass(e) and issubclass(e, Estimator) and e is not Estimator}
    assert {name.split(",")[0] for name in ESTIMATORS} >= {*named, "auto"}
    functions = {name for owner in (core, Loss) for name in dir(owner) if not name.startswith("_of") and makes_a_loss(getattr(owner, name))}
    written = set().union(*[WRITTEN_AS.get(name, {name}) for name in of_functions()])
    assert functions - NO_FUNCTIONS - ARITHMETIC == written
