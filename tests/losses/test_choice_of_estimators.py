"""Which estimator a variable gets, what `explain` says of it, and what is rejected."""

import math

import pytest
import torch
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
    StraightThrough,
    SupportError,
)
from pixyz.distributions import Bernoulli, Categorical, CategoricalIndex, Geometric, Normal, Pareto, Poisson, Truncated, Uniform
from pixyz.losses import LogProb


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


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


ENDS = {
    "given ends": lambda: Uniform("q(z|l)", low="l", high=1.0),
    "a network": lambda: Uniform("q(z|l)", lambda low: {"low": low, "high": low + 1}),
    "a trained end": lambda: Uniform("q(z)", low=nn.Parameter(torch.zeros(1)), high=1.0),
    "a least value": lambda: Pareto("q(z|l)", scale="l", alpha=1.0),
    "a trained bound": lambda: Truncated(Normal("q(z)", loc=0.0, scale=1.0), lower=nn.Parameter(torch.zeros(1))),
}


@pytest.mark.parametrize("name", ENDS)
def test_no_score_where_the_support_moves(name):
    """d/dl E[z²] of a uniform variable on (l, 1) is (1 + 2l)/3; the mean of the score's gradient is another number."""
    cost = Loss.from_function(lambda z: z.square().sum(-1), "f", var=["z"])
    with pytest.raises(FormulaError, match=r"has a support that moves with its parameters, .*; use 'pathwise'"):
        cost.expectation(ENDS[name](), estimator="score")


def test_a_score_where_the_ends_of_the_support_are_constants():
    alpha = nn.Parameter(torch.tensor([2.5]))
    log = Loss.from_function(lambda z: z.log().sum(-1), "log", var=["z"])
    loss = log.expectation(Pareto("q(z)", scale=1.0, alpha=alpha), estimator="score", num_samples=2)
    value = loss.estimate(batch_size=100_000)
    (gradient,) = torch.autograd.grad(value.mean(), alpha)
    assert abs(value.mean() - 1 / 2.5) < 0.005  # E[log z] = 1/alpha
    assert abs(gradient + 1 / 2.5**2) < 0.01
    assert not loss.is_biased
    assert Loss.from_function(lambda z: z.sum(-1), "f", var=["z"]).expectation(Uniform("q(z)", low=0.0, high=1.0), estimator="score")


def test_a_straight_through_count_has_a_slope_at_zero():
    """log q of a geometric variable, log p + x log(1 - p), has the slope log(1 - p) in x also where x = 0; E[x] = (1 - p)/p."""
    logits = torch.full((200_000, 1), 0.7, requires_grad=True)
    q = Geometric("q(n|t)", logits="t")
    value = Expectation(q, LogProb(q), estimator="straight_through").estimate({"t": logits}).mean()
    (gradient,) = torch.autograd.grad(value, logits)
    p = torch.tensor(0.7).sigmoid().item()
    own = (1 - p) - (1 - p) / p * p  # of log q for its parameter, which is 0 in the mean
    lent = -math.exp(-0.7) * math.log(1 - p)  # of log q for x, times that of the mean
    assert abs(gradient.sum() - (own + lent)) < 0.01
