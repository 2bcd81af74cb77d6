"""The comparison with Pyro is worth something: each of these faults fails it."""

import pytest
from planted import Check, changed, given, need_found

from pixyz.core import Expectation
from pixyz.distributions import Normal

FAULTS = {
    "a lost logarithm of the scale": (
        changed(Normal, "log_density", lambda f: lambda params, x: f(params, x) + params["scale"].log()),
        "ELBO",
    ),
    "a mean over the draws for the mean of their weights": (
        given(Expectation, lambda *parts, **options: (parts, {**options, "aggregate": "mean"})),
        "IWAE",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, monkeypatch):
    plant, bound = FAULTS[name]
    need_found(monkeypatch, plant, Check("all", "test_bounds_are_pyros_for_the_same_draws", bound))
