"""The tests of sequences are worth something: each of these faults fails the test that is named beside it."""

import pytest
import torch
from planted import Check, given, need_found, planted
from torch import nn

from pixyz.core import Expectation, LogProb, Loss
from pixyz.distributions import Normal
from pixyz.losses import IterativeLoss


def law(name, *arguments):
    return Check("losses", name, *arguments, float64=True)


def score_of_the_step_alone(q, f, **options):
    """A draw pays for the cost of its own step, as the score that is written inside of the step does."""
    log_q = LogProb(q)
    return (q, f + (log_q - log_q.detach()) * f.detach()), {**options, "estimator": "sample"}


def each_step_begins_anew(monkeypatch):
    """What is handed on is forgotten: every step starts from the value that is given for the first."""

    def make(f):
        def fault(self, values):
            steps = values["x"].unbind(1)
            return sum(f(self, {**values, "x": x.unsqueeze(1)}) for x in steps)

        return fault

    planted(monkeypatch, IterativeLoss, "estimate", make)


def value_of_the_same_step(monkeypatch):
    """The prior of z given the z of the same step: that of the step after, along the first dim, which is time."""
    planted(monkeypatch, Normal, "kl", lambda f: lambda p, q: f(p, {**q, "loc": q["loc"].roll(-1, 0)}))


def no_mask(monkeypatch):
    """What fills up the shorter sequences counts."""

    def make(f):
        def fault(self, values):
            if "m" not in values:
                return f(self, values)
            return f(self, {**values, "x": values["x"].nan_to_num(), "m": torch.ones_like(values["m"])})

        return fault

    planted(monkeypatch, IterativeLoss, "estimate", make)


def padding_in_the_networks(monkeypatch):
    """The networks see what fills up the shorter sequences, and their outputs are left out: so a nan comes through the gradient."""

    def make(f):
        def fault(self, values):
            value = f(self, values)
            if "m" not in values:
                return value
            weights = next(self.parameters()).sum()
            return torch.where(torch.ones_like(value, dtype=torch.bool), value, weights * values["x"].sum((1, 2)))

        return fault

    planted(monkeypatch, IterativeLoss, "estimate", make)


class Density(nn.Module):
    """log q, evaluated by itself, so that the network runs for it again, with another dropout."""

    def __init__(self, q):
        super().__init__()
        self.q = q

    def forward(self, **values):
        return self.q.log_likelihood(values)


def density_that_runs_the_network_again(check):
    def again(q):
        return Loss.from_function(Density(q), "log_q", var=[*q.var, *q.cond_var])

    return lambda monkeypatch: monkeypatch.setattr(check.module, "LogProb", again)


once_for_a_step = law("test_what_is_drawn_after_a_recurrent_network_runs_once_for_a_step", "log q")
dropout = law("test_dropout_is_the_same_for_the_draw_and_for_its_density")
lengths = law("test_sequences_of_different_lengths")
FAULTS = {
    "costs of the step alone, from two draws": (given(Expectation, score_of_the_step_alone), law("test_scores_reach_all_later_costs", 2)),
    "costs of the step alone": (given(Expectation, score_of_the_step_alone), law("test_scores_reach_all_later_costs", 1)),
    "the value of the same step": (value_of_the_same_step, law("test_a_loop_by_hand", 1, "analytic")),
    "each step begins anew": (each_step_begins_anew, law("test_a_loop_by_hand", 1, "analytic")),
    "the first marginal for all steps": (each_step_begins_anew, law("test_a_finite_chain_is_summed_exactly", 3, 5)),
    "a step by itself": (each_step_begins_anew, law("test_what_does_not_depend_on_the_recurrence_runs_once")),
    "each step begins anew, parameters of any shape": (
        each_step_begins_anew,
        law("test_a_sequence_is_the_loop_over_its_steps", "one number, batch = time"),
    ),
    "no mask": (no_mask, lengths),
    "padding in the networks": (padding_in_the_networks, lengths),
    "a recurrent network that runs again": (density_that_runs_the_network_again(once_for_a_step), once_for_a_step),
    "another dropout for the density": (density_that_runs_the_network_again(dropout), dropout),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, monkeypatch):
    need_found(monkeypatch, *FAULTS[name])
