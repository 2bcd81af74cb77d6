"""Expectations over many finite variables, term by term, against sums over all combinations, in float64."""

import functools
import itertools
import math
import operator

import pytest
import torch
from torch import nn

from pixyz.core import IntractableError, LogProb, Loss, seeded
from pixyz.distributions import Categorical, Deterministic, Normal
from pixyz.losses import ELBO, KullbackLeibler, LogRatio


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


def chain(length, states=3):
    """q(z_0,...,z_{T-1}), a Markov chain of one-hot vectors, and its networks."""
    torch.manual_seed(0)
    start, moves = torch.randn(states), [nn.Linear(states, states) for _ in range(length - 1)]
    q = Categorical("q(z_0)", logits=nn.Parameter(start))
    for t, move in enumerate(moves, 1):
        q = Categorical(f"q(z_{t}|z_{t - 1})", logits=move) * q
    return q


def cost(*names):
    """A function of some variables that is no sum."""
    torch.manual_seed(len(names))
    weights = [torch.randn(3) for _ in names]
    return Loss.from_function(lambda **v: sum((a @ w for a, w in zip(v.values(), weights)), torch.zeros(())).sin(), "c", var=names)


def over_all(q, f):
    """Σ q(z) f(z) over all combinations of one-hot vectors."""
    names = q.var
    rows = torch.tensor(list(itertools.product(range(3), repeat=len(names))))
    values = {name: torch.eye(3)[rows[:, i]] for i, name in enumerate(names)}
    return (q.log_prob().estimate(values).exp() * f.estimate(values)).sum()


def gradients(value, q):
    return torch.autograd.grad(value, list(q.parameters()), materialize_grads=True, allow_unused=True)


def agree(loss, truth, q):
    value = loss.estimate().sum()
    torch.testing.assert_close(value, truth, rtol=1e-11, atol=1e-11)
    for a, b in zip(gradients(value, q), gradients(truth, q)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def total(terms):
    return functools.reduce(operator.add, terms)


SUMS = {
    "pairs of neighbours": lambda q: total(cost(f"z_{t - 1}", f"z_{t}") for t in range(1, 6)),
    "single variables": lambda q: total(cost(f"z_{t}") for t in range(6)),
    "only the last": lambda q: cost("z_5"),
    "with coefficients": lambda q: 2.0 * cost("z_4", "z_5") - cost("z_0") / 3 + 1.5,
    "far apart": lambda q: cost("z_0", "z_5") + cost("z_2"),
    "its own density": LogProb,
    "negative": lambda q: -(cost("z_1") + cost("z_3", "z_4")),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_chain_of_which_each_term_needs_little(name):
    q = chain(6)
    f = SUMS[name](q)
    agree(f.expectation(q), over_all(q, f), q)


def test_more_paths_than_could_be_summed():
    """3^40 of them; the truth by products of matrices."""
    q = chain(40)
    steps = {x.var[0]: x.dist for x in q.factors}
    values = torch.arange(3.0)
    f = total(Loss.from_function(lambda **z: next(iter(z.values())) @ values, f"c_{t}", var=[f"z_{t}"]) for t in range(40))
    marginal, truth = steps["z_0"].logits.softmax(-1), 0.0
    truth = truth + marginal @ values
    for t in range(1, 40):
        move = steps[f"z_{t}"].given_networks
        marginal = marginal @ move(**{f"z_{t - 1}": torch.eye(3)})["logits"].softmax(-1)
        truth = truth + marginal @ values
    agree(f.expectation(q), truth, q)


def test_independent_factors_are_summed_one_by_one():
    """Ten variables of three values each, 3^10 combinations, more than may be summed at once."""
    torch.manual_seed(0)
    factors = [Categorical(f"q(z_{i})", logits=nn.Parameter(torch.randn(3))) for i in range(10)]
    q = functools.reduce(operator.mul, factors)
    f = total(cost(f"z_{i}") for i in range(10))
    agree(f.expectation(q), over_all(q, f), q)


def test_the_divergence_of_two_chains():
    q = chain(5)
    moves = [Categorical(f"p(z_{t}|z_{t - 1})", logits=nn.Linear(3, 3)) for t in range(1, 5)]
    p = functools.reduce(operator.mul, moves, Categorical("p(z_0)", logits=torch.randn(3)))
    ratio = LogRatio(q, p)
    agree(ratio.expectation(q), over_all(q, ratio), q)
    torch.testing.assert_close(KullbackLeibler(q, p).estimate().sum(), over_all(q, ratio), rtol=1e-11, atol=1e-11)


def test_computed_variables_have_the_values_of_what_they_are_computed_from():
    q = chain(4)
    h = Deterministic("h(h|z_1,z_2)", lambda z_1, z_2: {"h": z_1 * 2 + z_2})
    f = cost("h") + cost("z_3")
    plain = Loss.from_function(lambda z_1, z_2: cost("h").function(h=z_1 * 2 + z_2), "c", var=["z_1", "z_2"]) + cost("z_3")
    agree(f.expectation(h * q), over_all(q, plain), q)


def test_values_that_are_impossible():
    """A state of probability 0 adds nothing, though its cost is infinite there, and no gradient is nan."""
    first = Categorical("q(a)", probs=torch.tensor([0.5, 0.5, 0.0]))
    logits = nn.Parameter(torch.randn(3, 3))
    second = Categorical("q(b|a)", logits=lambda a: a @ logits)
    infinite = Loss.from_function(lambda a: torch.where(a[:, 2] > 0, torch.inf, 1.0), "c", var=["a"])
    third = Loss.from_function(lambda b: b @ torch.tensor([1.0, 2.0, 4.0]), "d", var=["b"])
    value = (infinite + third).expectation(second * first, estimator="enumerate").estimate().sum()
    truth = (0.5 * (logits[0].softmax(-1) + logits[1].softmax(-1))) @ torch.tensor([1.0, 2.0, 4.0])
    torch.testing.assert_close(value, 1 + truth)
    assert torch.autograd.grad(value, logits)[0].isfinite().all()


def test_tables_that_are_too_large():
    """A term that needs all variables is no sum; asked for, it says how large, and by itself it is scored."""
    q = chain(7)
    f = cost(*q.var)
    with pytest.raises(IntractableError, match="takes 729 points, more than 256"):
        f.expectation(q, estimator="enumerate").estimate()
    scored = f.expectation(q, num_samples=2_000)  # of values between -1 and 1
    with torch.no_grad():
        assert abs(scored.estimate() - over_all(q, f)) < 4 / 2_000**0.5
    whole = f.expectation(q, estimator="enumerate", max_enumerate=3**7)
    torch.testing.assert_close(whole.estimate().sum(), over_all(q, f))


def test_a_table_on_the_way_to_a_small_one_is_counted():
    """A sum over z_3 alone, which has 3 values, takes the table of z_2 and z_3, which has 9."""
    q = chain(4)
    f = cost("z_3") + cost("z_0")
    with pytest.raises(IntractableError, match="points, more than 8"):
        f.expectation(q, estimator="enumerate", max_enumerate=8).estimate()
    torch.testing.assert_close(f.expectation(q, estimator="enumerate", max_enumerate=9).estimate().sum(), over_all(q, f))


def test_a_chain_in_a_bound():
    """An ELBO whose latent variables are a chain, with emissions: each term under what it depends on."""
    q = chain(5)
    emissions = [Normal(f"p(x_{t}|z_{t})", loc=nn.Linear(3, 1), scale=1.0) for t in range(5)]
    torch.manual_seed(3)
    moves = [Categorical(f"p(z_{t}|z_{t - 1})", logits=nn.Linear(3, 3)) for t in range(1, 5)]
    prior = functools.reduce(operator.mul, moves, Categorical("p(z_0)", logits=torch.randn(3)))
    p = functools.reduce(operator.mul, emissions) * prior
    values = {f"x_{t}": torch.randn(4, 1) for t in range(5)}
    ours = ELBO(p, q).estimate(values)
    rows = torch.tensor(list(itertools.product(range(3), repeat=5)))
    paths = {f"z_{t}": torch.eye(3)[rows[:, t]] for t in range(5)}
    log_q = q.log_prob().estimate(paths)
    truth = []
    for i in range(4):
        seen = {k: v[i].expand(len(rows), 1) for k, v in values.items()}
        truth.append((log_q.exp() * (p.log_prob().estimate({**paths, **seen}) - log_q)).sum())
    torch.testing.assert_close(ours, torch.stack(truth), rtol=1e-11, atol=1e-11)


def test_terms_of_an_explanation_add_up():
    q = chain(5)
    f = 2.0 * cost("z_3", "z_4") + cost("z_0")
    told = f.expectation(q).mean().explain()
    inner = told.terms[0]
    assert math.isclose(told.value, over_all(q, f).item(), rel_tol=1e-9)
    assert math.isclose(sum(t.value for t in inner.terms[0].terms), told.value, rel_tol=1e-9)
    assert "summed exactly" in inner.how


def test_one_graph():
    q = chain(3)
    loss = (cost("z_1", "z_2") + cost("z_0")).expectation(q).mean()
    eager = loss.estimate()
    loss.compile(fullgraph=True, backend="eager")
    with seeded(0):
        torch.testing.assert_close(loss.estimate(), eager)
