"""The tests of digits, ends of supports and sums over values are worth something: each of these faults fails the test beside it."""

import pytest
import torch
from planted import Check, changed, given, need_found

from pixyz.distributions import (
    Autoregressive,
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    CategoricalIndex,
    ContinuousBernoulli,
    CustomProb,
    Empirical,
    Normal,
    Poisson,
    Truncated,
    ZeroInflated,
)


def law(name, *arguments):
    return Check("distributions", name, *arguments)


def few_digits(t):
    return t.detach().to(torch.bfloat16).to(t.dtype) + (t - t.detach())


def with_few_digits(owner, function):
    return changed(owner, function, lambda f: lambda *arguments: few_digits(f(*arguments)))


def large_terms_that_cancel(f):
    """log x! without Stirling's error."""
    return lambda params, x: x * params["rate"].log() - params["rate"] - torch.lgamma(x + 1)


def logarithm_of_one_minus(f):
    """log(1 - p) of a p that has been rounded."""

    def fault(params, x):
        p = params["logits"].sigmoid()
        return x * p.log() + (1 - x) * (1 - p).log()

    return fault


def few_rows(f):
    """The first five that are drawn, over and over."""

    def fault(self, *arguments, batch_size, **options):
        rows = f(self, *arguments, batch_size=batch_size, **options)
        return {v: t[torch.arange(batch_size) % 5] for v, t in rows.items()}

    return fault


def computed_in_half_precision(f):
    def fault(self, values):
        x, rate = values["x"], self.rate
        return (x * rate.log() - rate - torch.lgamma(x + 1)).sum(-1) if rate.dtype == torch.bfloat16 else f(self, values)

    return fault


def copied_table(f):
    return lambda params, shape: f({k: t.expand(*shape, -1).clone() for k, t in params.items()}, shape)


def first_value_for_the_rest(f):
    """A feature sees itself."""
    return lambda self, x, *rest: f(self, x.roll(-1, -1), *rest)


def zeros_that_are_certain(f):
    """A gate of 0 counts as nothing, with a gradient that is lost."""
    return lambda self, values: f(self, values) if self.gate.all() else f(self, values).detach() + 0 * self.gate.sum()


cancelling = changed(Poisson, "log_density", large_terms_that_cancel)
cut_at_the_end = changed(Beta, "log_density", lambda f: lambda params, x: torch.where(x == 0, -torch.inf, f(params, x)))
missing_outcome = changed(Binomial, "outcomes", lambda f: lambda *arguments: f(*arguments)[:-1])
FAULTS = {
    "large terms that cancel": (cancelling, law("test_a_density_and_its_gradients", "Poisson", 3, torch.float64)),
    "a divergence of few digits": (with_few_digits(Normal, "kl"), law("test_a_divergence_has_all_digits", "Normal", 0)),
    "a variance of few digits": (with_few_digits(Beta, "variance_of"), law("test_a_moment", "Beta variance", 2)),
    "a mean of few digits": (
        with_few_digits(ContinuousBernoulli, "mean_of"),
        law("test_values_and_slopes_for_the_logits", "mean", torch.float64, 4e-15),
    ),
    "a logarithm of one minus": (
        changed(Bernoulli, "log_density", logarithm_of_one_minus),
        law("test_a_bernoulli_of_logits", torch.float64, 4e-15, 0.0),
    ),
    "no density at an end": (cut_at_the_end, law("test_the_density_at_an_end", torch.float64, 5e-14, "Beta(1, 8) at 0")),
    "a slope lost at a gate of zero": (
        changed(ZeroInflated, "log_likelihood", zeros_that_are_certain),
        law("test_a_gate_of_zero_far_from_any_zero"),
    ),
    "a density computed in half precision": (
        changed(Poisson, "log_likelihood", computed_in_half_precision),
        law("test_draws_and_densities_are_those_of_float32_rounded", torch.bfloat16, "Poisson"),
    ),
    "the mass of a wider interval": (
        given(Truncated, lambda base, *, lower, upper: ((base,), {"lower": lower, "upper": upper + 1e-6})),
        law("test_the_density_between_two_near_bounds", "Normal", 1.0, 1e-5, torch.float64, 1e-12),
    ),
    "an impossible category that counts": (
        changed(Categorical, "log_density", lambda f: lambda params, x: f(params, x).clamp_min(-50.0)),
        law("test_an_impossible_category_may_have_a_scale_of_zero", "expectation"),
        (AssertionError, ValueError),
    ),
    "a missing outcome": (
        missing_outcome,
        Check("distributions", "test_an_expectation_is_the_sum_over_all_values", "Binomial", float64=True),
    ),
    "rows that do not come equally often": (changed(Empirical, "sample", few_rows), law("test_rows_come_equally_often")),
    "a feature that sees itself": (
        changed(Autoregressive, "given_before", first_value_for_the_rest),
        law("test_parameters_depend_on_what_stands_before_and_on_nothing_else", "Bernoulli"),
    ),
    "a table for each datum": (
        changed(CategoricalIndex, "draw", copied_table),
        law("test_a_shared_table_is_not_copied_for_each_datum", "CategoricalIndex"),
    ),
    "half of an energy": (
        changed(CustomProb, "log_likelihood", lambda f: lambda self, values: f(self, values) / 2),
        law("test_against_a_normal"),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, monkeypatch):
    need_found(monkeypatch, *FAULTS[name])
