"""A category of probability 0 adds nothing to a sum, whatever its parameters are; another category's must be valid."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal as TorchNormal

import pixyz.distributions as d
from pixyz.core import SupportError

PROBS, LOCS = (0.25, 0.75, 0.0), (0.0, 1.0, 5.0)


def chosen(*values):
    column = torch.tensor(values, dtype=torch.float64)[:, None]
    return lambda k: k @ column


def model(*scales):
    k = d.Categorical("p(k)", probs=nn.Parameter(torch.tensor(PROBS, dtype=torch.float64)))
    return d.Normal("p(x|k)", loc=chosen(*LOCS), scale=chosen(*scales)), k


def densities(x, scales):
    return [TorchNormal(loc, scale).log_prob(x).squeeze(-1) for loc, scale in zip(LOCS[:2], scales)]


EVALUATIONS = {
    "expectation": (
        lambda p, k, x: p.log_prob().expectation(k).estimate({"x": x}),
        lambda a, b: PROBS[0] * a + PROBS[1] * b,
    ),
    "marginal": (
        lambda p, k, x: (p * k).marginalize_var("k").log_likelihood({"x": x}),
        lambda a, b: (PROBS[0] * a.exp() + PROBS[1] * b.exp()).log(),
    ),
    "posterior": (
        lambda p, k, x: (p * k).posterior("k").log_likelihood({"x": x, "k": torch.eye(3, dtype=x.dtype)[[0] * len(x)]}),
        lambda a, b: a - (a.exp() + PROBS[1] / PROBS[0] * b.exp()).log(),
    ),
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_impossible_category_may_have_a_scale_of_zero(name):
    found, expected = EVALUATIONS[name]
    p, k = model(1.0, 2.0, 0.0)
    x = torch.tensor([[0.5], [2.0]], dtype=torch.float64, requires_grad=True)
    value, truth = found(p, k, x), expected(*densities(x, (1.0, 2.0)))
    torch.testing.assert_close(value, truth)
    (slope, of_probs), (true_slope,) = torch.autograd.grad(value.sum(), [x, k.probs]), torch.autograd.grad(truth.sum(), x)
    torch.testing.assert_close(slope, true_slope)
    assert of_probs.isfinite().all()


@pytest.mark.parametrize("name", EVALUATIONS)
def test_a_possible_category_may_not(name):
    p, k = model(1.0, 0.0, 0.0)
    with pytest.raises(SupportError, match=r"p\(x\|k\): scale must be positive, but 2 of 3 are not"):
        EVALUATIONS[name][0](p, k, torch.ones(2, 1, dtype=torch.float64))


def test_what_is_impossible_may_differ_from_datum_to_datum():
    q = d.Categorical("q(k|y)", probs=lambda y: torch.stack([y, 1 - y], -1))
    p = d.Normal("p(x|k,y)", loc=0.0, scale=lambda k, y: (k * torch.stack([2 * y, 1 - y], -1)).sum(-1, keepdim=True))
    x, y = torch.ones(2, 1), torch.tensor([0.0, 1.0])
    value = p.log_prob().expectation(q, estimator="enumerate").estimate({"x": x, "y": y})
    torch.testing.assert_close(value, torch.stack([TorchNormal(0.0, s).log_prob(torch.tensor(1.0)) for s in (1.0, 2.0)]))


TRANSITIONS = ((0.2, 0.8, 0.0), (0.7, 0.3, 0.0), (0.4, 0.6, 0.0))


def chain(transitions, *scales):
    """Two states, of which the second follows from the first, and what is seen of the second."""
    table = torch.tensor(transitions, dtype=torch.float64)
    first = d.Categorical("q(k)", probs=torch.tensor(PROBS, dtype=torch.float64))
    second = d.Categorical("q(l|k)", probs=lambda k: k @ table)
    return d.Normal("p(x|l)", loc=chosen(*LOCS), scale=chosen(*scales)), second * first


def test_a_state_that_is_impossible_after_every_other_may_have_a_scale_of_zero():
    x = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    p, q = chain(TRANSITIONS, 1.0, 2.0, -3.0)
    value = p.log_prob().expectation(q, estimator="enumerate").estimate({"x": x})
    weights = torch.tensor(PROBS, dtype=torch.float64) @ torch.tensor(TRANSITIONS, dtype=torch.float64)
    a, b = densities(x, (1.0, 2.0))
    torch.testing.assert_close(value, weights[0] * a + weights[1] * b)


def test_a_state_that_is_possible_after_one_other_may_not():
    p, q = chain((*TRANSITIONS[:1], (0.7, 0.2, 0.1), *TRANSITIONS[2:]), 1.0, 2.0, -3.0)
    with pytest.raises(SupportError, match=r"p\(x\|l\): scale must be positive, but 1 of 3 are not"):
        p.log_prob().expectation(q, estimator="enumerate").estimate({"x": torch.ones(2, 1, dtype=torch.float64)})
