"""The law of estimators and bodies is worth something: each of these faults, planted in the library, fails it."""

import pytest
import torch
from losses import test_estimators_and_bodies as law
from planted import planted

from pixyz.core import Score, Term, _elementwise, _estimators, _operators
from pixyz.core._choices import NAMED
from pixyz.distributions import Bernoulli, Normal

outcomes = law.outcomes  # the fixture


def with_row(monkeypatch, name, **changes):
    table = dict(_elementwise.FUNCTIONS)
    table[name] = table[name]._replace(**changes)
    monkeypatch.setattr(_elementwise, "FUNCTIONS", table)


def a_stop_that_cuts_the_control_variate(monkeypatch):
    with_row(monkeypatch, "detach", stops=False)


def a_stop_that_stops_nothing(monkeypatch):
    with_row(monkeypatch, "detach", compute=lambda t: t)


def a_function_without_a_gradient(monkeypatch):
    with_row(monkeypatch, "maximum", compute=lambda *a: torch.stack(a).amax(0).detach())


def a_wrong_function(monkeypatch):
    with_row(monkeypatch, "at_most", compute=lambda a, high: torch.clamp(a, min=high))


def a_baseline_with_the_own_draw(monkeypatch):
    planted(monkeypatch, _estimators, "advantages", lambda f: lambda t, axis, order: t - t.mean(axis, keepdim=True))


def a_lost_score(monkeypatch):
    planted(monkeypatch, _estimators, "_score", lambda f: lambda *a: Term(f(*a).tensor.detach(), f(*a).dims))


def a_plain_draw_for_a_score(monkeypatch):
    monkeypatch.setattr(Score, "scored", False)


def a_detached_pathwise_draw(monkeypatch):
    planted(monkeypatch, Normal, "rsample", lambda f: lambda params, shape: f(params, shape).detach())


def a_free_relaxed_draw_for_the_conditional(monkeypatch):
    planted(monkeypatch, Bernoulli, "relax", lambda f: lambda p, shape, tau: (lambda h, z, _: (h, z, z))(*f(p, shape, tau)))


def advantages_of_a_mean_without_the_count(monkeypatch):
    planted(
        monkeypatch, _estimators, "advantages", lambda f: lambda t, axis, order: f(t, axis, order) / (t.shape[axis] if order != 1 else 1)
    )


def a_silent_bias(monkeypatch):
    monkeypatch.setattr(type(NAMED["straight_through"]), "biased", False)


def a_quotient_upside_down(monkeypatch):
    planted(
        monkeypatch,
        _operators.Quotient,
        "evaluate",
        lambda f: lambda self, scope: Term(f(self, scope).tensor.reciprocal(), f(self, scope).dims),
    )


UNBIASED, OTHER_MEANS = (
    law.test_what_is_unbiased_is_the_sum_over_all_outcomes,
    law.test_other_means_over_the_draws_are_sums_over_all_their_combinations,
)
FAULTS = [
    (a_stop_that_cuts_the_control_variate, UNBIASED, ("rebar", "detach")),
    (a_stop_that_cuts_the_control_variate, UNBIASED, ("rebar", "a stop in a function")),
    (a_stop_that_stops_nothing, UNBIASED, ("pathwise", "detach")),
    (a_function_without_a_gradient, UNBIASED, ("enumerate", "maximum")),
    (a_wrong_function, UNBIASED, ("sample", "at_most")),
    (a_baseline_with_the_own_draw, UNBIASED, ("score, three draws", "itself")),
    (a_lost_score, UNBIASED, ("score", "exp")),
    (a_plain_draw_for_a_score, UNBIASED, ("score", "a stop of a function")),
    (a_detached_pathwise_draw, UNBIASED, ("pathwise", "power")),
    (a_free_relaxed_draw_for_the_conditional, UNBIASED, ("rebar, other options", "log")),
    (advantages_of_a_mean_without_the_count, OTHER_MEANS, ("score, three draws", "itself", "log_mean_exp")),
    (a_silent_bias, UNBIASED, ("straight_through", "exp")),
    (a_quotient_upside_down, UNBIASED, ("enumerate", "a quotient by a stop")),
]


@pytest.mark.parametrize(("plant", "test", "case"), FAULTS, ids=[f"{i}-{plant.__name__}" for i, (plant, _, _) in enumerate(FAULTS)])
def test_a_planted_fault_fails_the_law(plant, test, case, monkeypatch, outcomes):
    with monkeypatch.context() as patch:
        plant(patch)
        with pytest.raises((AssertionError, RuntimeError)):
            test(*case, outcomes)
    test(*case, outcomes)
