"""The law of estimators and bodies is worth something: each of these faults fails it."""

import pytest
from planted import Check, changed, need_found, with_gradients_times

from pixyz import losses
from pixyz.core import Loss, Score, StraightThrough, Term
from pixyz.distributions import Bernoulli, Normal

UNBIASED, OTHER_MEANS = (
    Check("losses", name)
    for name in (
        "test_what_is_unbiased_is_the_sum_over_all_outcomes",
        "test_other_means_over_the_draws_are_sums_over_all_their_combinations",
    )
)
outcomes = UNBIASED.module.outcomes  # the fixture


class Cut(Loss):
    """A loss without its gradient, of which nothing says that it is a stop."""

    def __init__(self, loss):
        super().__init__([loss])
        self.inner = loss

    @property
    def formula(self):
        return self.inner.formula

    def evaluate(self, scope):
        tensor, dims = scope.evaluate(self.inner)
        return Term(tensor.detach(), dims)


free_relaxed_draw = changed(Bernoulli, "relax", lambda f: lambda *a: (lambda hard, relaxed, _: (hard, relaxed, relaxed))(*f(*a)))
stop_that_cuts_the_control = changed(Loss, "detach", lambda f: lambda self: Cut(self))
stop_that_stops_nothing = changed(Loss, "detach", lambda f: lambda self: self)
FAULTS = {
    "a stop that cuts the control variate": (stop_that_cuts_the_control, "rebar", "detach"),
    "a stop in a function that cuts it": (stop_that_cuts_the_control, "rebar", "a stop in a function"),
    "a stop that stops nothing": (stop_that_stops_nothing, "pathwise", "detach"),
    "a function without a gradient": (changed(losses, "maximum", lambda f: lambda *a: f(*a).detach()), "enumerate", "maximum"),
    "a wrong function": (changed(Loss, "clamp", lambda f: lambda self, min=None, max=None: f(self, min=max, max=min)), "sample", "at_most"),
    "a baseline with the own draw": (with_gradients_times(lambda k: 1 - 1 / k), "score, three draws", "itself"),
    "a lost score": (changed(Bernoulli, "log_density", lambda f: lambda params, x: f(params, x).detach()), "score", "exp"),
    "a plain draw for a score": (lambda monkeypatch: monkeypatch.setattr(Score, "scored", False), "score", "a stop of a function"),
    "a detached pathwise draw": (
        changed(Normal, "rsample", lambda f: lambda params, shape: f(params, shape).detach()),
        "pathwise",
        "power",
    ),
    "a free relaxed draw": (free_relaxed_draw, "rebar, other options", "log"),
    "a silent bias": (lambda monkeypatch: monkeypatch.setattr(StraightThrough, "biased", False), "straight_through", "exp"),
    "a quotient upside down": (changed(Loss, "__truediv__", lambda f: lambda a, b: f(b, a)), "enumerate", "a quotient by a stop"),
    "an advantage of a mean without the count": (
        with_gradients_times(lambda k: 1 / k, lambda loss: loss.order != 1),
        "score, three draws",
        "itself",
        "log_mean_exp",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_by_the_sum_over_all_outcomes(name, monkeypatch, outcomes):
    plant, *case = FAULTS[name]
    law = OTHER_MEANS if len(case) == 3 else UNBIASED
    test = getattr(law.module, law.name)
    need_found(monkeypatch, plant, lambda: test(*case, outcomes), (AssertionError, RuntimeError))
