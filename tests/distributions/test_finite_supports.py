"""Whatever takes finitely many values is summed over all of them: supports against lists made by hand, sums against those lists."""

import itertools
import math

import pytest
import torch
import torch.distributions as td
from torch import nn

import pixyz.distributions
from pixyz.core import FormulaError, IntractableError, Loss
from pixyz.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    CategoricalIndex,
    Components,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    Empirical,
    Geometric,
    Multinomial,
    NegativeBinomial,
    Normal,
    Poisson,
    ZeroInflated,
    from_torch,
)

K3 = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


class Times(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, c):
        return c.unsqueeze(-1) * self.weights if c.ndim == 1 else c * self.weights


def made():
    """Distributions over x, and the values of one event of each; all with a weight to be trained."""
    logits = nn.Parameter(torch.tensor([0.3, -0.2, 0.5]))
    number = nn.Parameter(torch.tensor(0.3))
    pairs = [(a, b, 3 - a - b) for a in range(4) for b in range(4 - a)]
    grid = [(i / 4,) for i in range(5)]
    zeros_and_ones, thirds, eye = [(0,), (1,)], [(0,), (1,), (2,)], [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    index = CategoricalIndex("p(x)", logits=logits)
    return {
        "Bernoulli": (Bernoulli("p(x)", logits=number), zeros_and_ones),
        "Categorical": (Categorical("p(x)", logits=logits), eye),
        "CategoricalIndex": (index, thirds),
        "CategoricalIndex, renamed": (CategoricalIndex("p(y)", logits=logits).replace_var(y="x"), thirds),
        "CategoricalIndex, conditioned": (
            CategoricalIndex("p(x|c)", logits=Times(logits)).condition(c=torch.tensor([2.0])),
            thirds,
        ),
        "CategoricalIndex, zero-inflated": (ZeroInflated(index, gate=0.4), thirds),
        "Binomial": (Binomial("p(x)", total_count=2, logits=number), thirds),
        "Binomial, zero-inflated": (ZeroInflated(Binomial("p(x)", total_count=2, logits=number), gate=0.4), thirds),
        "Multinomial": (Multinomial("p(x)", total_count=3.0, logits=logits), pairs),
        "DiscretizedLogistic": (DiscretizedLogistic("p(x)", loc=number, scale=0.3, levels=5), grid),
        "DiscretizedLogisticMixture": (
            DiscretizedLogisticMixture("p(x)", loc=logits, scale=torch.ones(3) / 3, logits=torch.zeros(3), levels=5),
            grid,
        ),
        "a mixture's index": (Categorical("p(x)", logits=logits), eye),
        "Components": (
            Components([CategoricalIndex("p(x)", logits=logits), CategoricalIndex("p(x)", logits=-logits)], "k").condition(
                k=torch.tensor([0.0, 1.0])
            ),
            thirds,
        ),
        "of torch": (from_torch(td.Categorical)("p(x)", logits=logits), thirds),
    }


@pytest.mark.parametrize("name", made())
def test_an_expectation_is_the_sum_over_all_values(name):
    """In value and in gradient, against the log-density at values listed by hand, asked for or not."""
    p, values = made()[name]
    weights = list({id(w): w for w in p.parameters()}.values())
    given = torch.tensor(values, dtype=torch.float64)
    event = given if p.sample()["x"].ndim > 1 else given.squeeze(-1)
    f = Loss.from_function(lambda x: (x.reshape(len(x), -1).cumsum(-1) + 0.7).square().sum(-1), "f", var=["x"])
    probs = torch.stack([p.log_likelihood({"x": x.unsqueeze(0)}).squeeze(0) for x in event]).exp()
    truth = (probs * f.estimate({"x": event})).sum()
    assert probs.sum().item() == pytest.approx(1.0)
    for options in ({"estimator": "enumerate"}, {}):
        found = f.expectation(p, **options).estimate().sum()
        torch.testing.assert_close(found, truth)
        for a, b in zip(torch.autograd.grad(found, weights), torch.autograd.grad(truth, weights, retain_graph=True), strict=True):
            torch.testing.assert_close(a, b)


def test_the_support_of_several_events_is_all_their_combinations():
    """Events are independent over the features; two of three values, and two count vectors of two draws."""
    q = CategoricalIndex("q(k)", logits=nn.Parameter(torch.randn(2, 3)))
    both = Loss.from_function(lambda k: (k[:, 0] - 2 * k[:, 1]).square(), "f", var=["k"])
    probs = q.logits.softmax(-1)
    truth = sum(probs[0, i] * probs[1, j] * (i - 2 * j) ** 2 for i in range(3) for j in range(3))
    torch.testing.assert_close(both.expectation(q, estimator="enumerate").estimate().squeeze(0), truth)
    p = Multinomial("p(n)", total_count=2, probs=torch.stack([K3[:2] / K3[:2].sum()] * 2))
    values = p.enumerate_support((2, 2), {}, 2).flatten(1).tolist()
    assert sorted(values) == sorted([a, 2 - a, b, 2 - b] for a, b in itertools.product(range(3), repeat=2))
    assert p.count_support((2, 2), {}, 2) == 9


def test_a_hidden_index_is_summed_out_of_a_likelihood():
    k = CategoricalIndex("p(k)", probs=K3)
    x = Normal("p(x|k)", loc=lambda k: 2 * k.unsqueeze(-1), scale=0.5)
    marginal = (x * k).marginalize_var("k")
    at = torch.tensor([[0.3], [2.4]])
    means = torch.tensor([0.0, 2.0, 4.0])
    truth = (K3 * td.Normal(means, 0.5).log_prob(at).exp()).sum(-1).log()
    torch.testing.assert_close(marginal.log_likelihood({"x": at}), truth)


def test_a_number_of_trials_that_is_no_constant_is_not_enumerated():
    trials = Binomial("q(n|c)", total_count="c", probs=0.5)
    mixed = Binomial("q(n)", total_count=torch.tensor([2.0, 3.0]), probs=0.5)
    f = Loss.from_function(lambda n: n.reshape(len(n), -1).sum(-1), "f", var=["n"])
    for q in (trials, mixed):
        with pytest.raises(FormulaError, match=r"\(Binomial\) takes infinitely many values, or does not list them"):
            f.expectation(q, estimator="enumerate")


def test_the_number_of_trials_is_that_of_the_checkpoint():
    few, many = (Binomial("q(n)", total_count=n, logits=nn.Parameter(torch.zeros(()))) for n in (2, 5))
    few.load_state_dict(many.state_dict())
    f = Loss.from_function(lambda n: n, "f", var=["n"])
    assert f.expectation(few, estimator="enumerate").estimate().item() == pytest.approx(2.5)


def test_more_values_than_the_limit_are_said_to_be_so_many():
    q = CategoricalIndex("q(k)", logits=torch.zeros(257))
    f = Loss.from_function(lambda k: k, "f", var=["k"])
    with pytest.raises(IntractableError, match="enumerating k takes 257 points, more than 256"):
        f.expectation(q, estimator="enumerate").estimate()


COUNTABLE = {Geometric, NegativeBinomial, Poisson}
"""Families of whole numbers without a greatest."""


def test_every_family_with_finitely_many_values_lists_them():
    ours = {c for c in vars(pixyz.distributions).values() if isinstance(c, type) and hasattr(c, "value_support")}
    discrete = {c for c in ours if c.value_support.words in DISCRETE or "levels" in c.supports}
    assert {c for c in ours if c.knows("outcomes")} == discrete - COUNTABLE
    assert discrete >= COUNTABLE


DISCRETE = {"0 or 1", "one-hot over the last dim", "a whole number, at least 0", "whole numbers, at least 0"}


def test_rows_of_a_data_set_are_drawn():
    rows = Empirical("p(x)", x=torch.arange(3.0))
    f = Loss.from_function(lambda x: x, "f", var=["x"])
    with pytest.raises(FormulaError, match=r"\(Empirical\) takes infinitely many values, or does not list them"):
        f.expectation(rows, estimator="enumerate")


def test_the_number_of_count_vectors_is_known_without_a_list_of_them():
    """30 draws of 40 categories: there are 69! / (30! 39!) vectors, far more than fit in memory."""
    many = pixyz.distributions.Multinomial.count_support((40,), count=30)
    assert many == math.factorial(69) // (math.factorial(30) * math.factorial(39))
    few = pixyz.distributions.Multinomial.enumerate_support((3,), count=4)
    assert len(few) == pixyz.distributions.Multinomial.count_support((3,), count=4) == 15
    assert sorted(few.tolist()) == [[a, b, 4 - a - b] for a in range(5) for b in range(5 - a)]
