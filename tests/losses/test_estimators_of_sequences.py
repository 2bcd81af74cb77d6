"""Baselines and relaxed values along a sequence, against sums over all paths."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from losses.test_estimators import Joined, made, moving
from torch import nn

from pixyz.core import FormulaError, Loss, Relaxed, Score
from pixyz.distributions import Bernoulli
from pixyz.losses import IterativeLoss, LogProb


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


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
