"""The tests of estimators are worth something: each of these faults fails the test that is named beside it."""

import pytest
from planted import Check, FromModule, changed, given, need_found, planted, slowed, with_gradients_times

from pixyz.core import Expectation, LogProb, Loss, MovingAverage
from pixyz.distributions import Bernoulli, Categorical


def by_another(old, new):
    """The fault that one estimator stands where another was asked for."""

    def other(estimator):
        if isinstance(estimator, dict):
            return {v: other(e) for v, e in estimator.items()}
        return new if estimator == old or getattr(estimator, "name", None) == old else estimator

    return given(Expectation, lambda *parts, **options: (parts, {**options, "estimator": other(options.get("estimator", "auto"))}))


def third(change):
    """The fault in which the relaxed draw given the hard one is `change(conditional, relaxed)`."""

    def make(f):
        def fault(params, shape, temperature):
            hard, relaxed, conditional = f(params, shape, temperature)
            return hard, relaxed, change(conditional, relaxed)

        return fault

    def plant(monkeypatch):
        for family in (Bernoulli, Categorical):
            planted(monkeypatch, family, "relax", make)

    return plant


def score_inside_the_aggregate(monkeypatch):
    """The score stands beside each draw's term, before the mean of another order."""

    def change(q, f, **options):
        log_q = LogProb(q)
        return (q, f + (log_q - log_q.detach())), {**options, "estimator": "sample"}

    given(Expectation, change)(monkeypatch)


def baseline_moves_what_it_sees(check):
    """The baseline sees θ with its gradient."""
    seen = {}

    def plant(monkeypatch):
        def make_estimate(f):
            def fault(self, values, **options):
                seen["theta"] = values["theta"]
                return f(self, values, **options)

            return fault

        def make_forward(f):
            def moving(t):
                theta = seen["theta"]
                return theta.repeat(len(t) // len(theta), 1) if t.shape[-1] == theta.shape[-1] else t

            return lambda self, *inputs: f(self, *map(moving, inputs))

        planted(monkeypatch, Loss, "estimate", make_estimate)
        planted(monkeypatch, check.module.Joined, "forward", make_forward)

    return plant


def baseline_by_the_signed_gradient(check):
    """What comes back to a baseline has the sign of the loss."""
    return lambda monkeypatch: planted(monkeypatch, check.module.Learned, "forward", lambda f: lambda self: slowed(f(self), -1))


plain_draw_for_a_score = by_another("score", "sample")
missing_score = with_gradients_times(lambda k: 0.0, lambda loss: loss.estimator != "enumerate")
baseline_with_the_own_draw = with_gradients_times(lambda k: 1 - 1 / k)
costs_by_halves = changed(MovingAverage, "observe", lambda f: lambda self, costs: f(self, costs / 2))
relaxed_draw_without_its_logits = changed(Bernoulli, "relax", lambda f: lambda p, *rest: f({k: t.detach() for k, t in p.items()}, *rest))
temperature_ignored = changed(Bernoulli, "relax", lambda f: lambda params, shape, temperature: f(params, shape, 1.0))
control_not_given_back = third(lambda conditional, relaxed: conditional.detach())
free_relaxed_draw_for_the_conditional = third(lambda conditional, relaxed: relaxed)
straight_through_without_a_mean = by_another("straight_through", "sample")
unweighted_enumeration = changed(Bernoulli, "log_density", lambda f: lambda params, x: 0 * f(params, x))


def law(name, *arguments, float64=True):
    return Check("losses", name, *arguments, float64=float64)


def named(name):
    return FromModule(lambda module: getattr(module, name))


chain_of_two_learned = law("test_estimators_of_a_chain_mix", "two learned")
learned = law("test_a_learned_baseline_goes_to_the_mean_cost_whatever_the_sign", 1, 1)
of_a_joint = law("test_score_gradients_of_a_joint_with_a_conditional_below", float64=False)
FAULTS = {
    "a missing score of a joint": (missing_score, of_a_joint),
    "a missing score of a Bernoulli": (missing_score, law("test_gradient_through_a_bernoulli", "score", float64=False)),
    "a missing score of a normal": (missing_score, law("test_the_scale_of_a_normal", "score, one draw")),
    "a missing score in a bound": (
        plain_draw_for_a_score,
        law("test_in_a_weighted_bound_the_score_multiplies_the_aggregate", named("moving")),
    ),
    "a missing score in an exponential": (
        plain_draw_for_a_score,
        law("test_the_score_function_goes_through_a_function_by_the_chain_rule", "exp", float64=False),
    ),
    "a missing score of an aggregate over sequences": (
        plain_draw_for_a_score,
        law("test_baselines_of_an_aggregate_over_sequences", "score"),
        (AssertionError, RuntimeError),
    ),
    "a baseline with the own draw, of a joint": (baseline_with_the_own_draw, of_a_joint),
    "a baseline with the own draw, of a Bernoulli": (
        baseline_with_the_own_draw,
        law("test_a_bernoulli_whose_costs_are_nearly_equal", "leave-one-out", "probs"),
    ),
    "a baseline that sees half of the cost": (costs_by_halves, law("test_a_baseline_below_a_sum_learns_the_cost_itself")),
    "a baseline that moves what it sees": (baseline_moves_what_it_sees(chain_of_two_learned), chain_of_two_learned),
    "a baseline by the signed gradient": (baseline_by_the_signed_gradient(learned), learned),
    "a score inside the aggregate": (score_inside_the_aggregate, law("test_score_gradients_of_an_aggregate", 0.0, 3)),
    "a relaxed draw without its logits": (
        relaxed_draw_without_its_logits,
        law("test_relaxed_is_its_own_definition_by_quadrature", 0.5),
        (AssertionError, RuntimeError),
    ),
    "a temperature that is ignored": (temperature_ignored, law("test_relaxed_is_its_own_definition_by_quadrature", 0.5)),
    "a control that is not given back": (control_not_given_back, law("test_rebar_of_a_categorical", 3)),
    "a free relaxed draw for the conditional": (free_relaxed_draw_for_the_conditional, law("test_rebar_of_a_categorical", 3)),
    "a free relaxed draw in a chain": (
        free_relaxed_draw_for_the_conditional,
        law("test_estimators_of_a_chain_mix", "rebar in the middle"),
    ),
    "straight through without a mean": (
        straight_through_without_a_mean,
        law("test_straight_through_has_the_gradient_of_the_mean"),
        (AssertionError, RuntimeError),
    ),
    "an unweighted enumeration": (unweighted_enumeration, law("test_gradient_through_a_bernoulli", "enumerate", float64=False)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, monkeypatch):
    need_found(monkeypatch, *FAULTS[name])
