"""The tests of distributions are worth something: each of these faults of a family fails the test that is named beside it."""

import math

import pytest
import torch
from planted import Check, FromModule, changed, given, need_found, planted

from pixyz.core import LogProb
from pixyz.distributions import (
    Bernoulli,
    Categorical,
    Components,
    Exponential,
    Gamma,
    Gumbel,
    MixtureOfNormal,
    Multinomial,
    MultivariateNormal,
    Normal,
    Pareto,
    ProductOfNormal,
    RelaxedCategorical,
    VonMises,
)


def law(name, case):
    return Check("distributions", name, case)


def row(name, table, case, count):
    """A test of a row of a table of its module."""
    return Check("distributions", name, *[FromModule(lambda module, i=i: getattr(module, table)[case][i]) for i in range(count)])


def density(case):
    return row("test_log_likelihood_is_scipys_summed_over_the_features", "CASES", case, 2)


def product_of(case):
    return row("test_the_density_is_the_normalised_product", "CASES", case, 3)


def mixture_of(case):
    return row("test_the_likelihood_of_a_mixture", "MIXTURES", case, 3)


def seen_alone(case):
    return law("test_what_was_seen_is_scored_and_what_was_not_is_never_felt", case)


def with_parameter(owner, function, name, change):
    """The fault that a function of a family takes a parameter for another number."""
    return changed(owner, function, lambda f: lambda params, *rest: f({**params, name: change(params[name])}, *rest))


lost_constant = changed(Normal, "log_density", lambda f: lambda params, x: f(params, x) + 0.5 * math.log(2 * math.pi))
lost_log_scale = changed(Normal, "log_density", lambda f: lambda params, x: f(params, x) + params["scale"].log())
mean_over_features = changed(Normal, "log_density", lambda f: lambda params, x: f(params, x) / x.shape[-1])
swapped_outcomes = changed(Bernoulli, "log_density", lambda f: lambda params, x: f(params, 1 - x))
unnormalised_logits = changed(Categorical, "log_density", lambda f: lambda params, x: (x * params["logits"]).sum(-1))
lost_normaliser = changed(Gamma, "log_density", lambda f: lambda params, x: f(params, x) + torch.lgamma(params["concentration"]))
swapped_sign = changed(Gumbel, "log_density", lambda f: lambda params, x: f(params, 2 * params["loc"] - x))
# The published library's relaxed categorical has no density of its own.
temperature_to_a_wrong_power = changed(RelaxedCategorical, "log_density", lambda f: lambda p, x: f(p, x) + p["temperature"].log())
rounded_to_half_precision = changed(
    Normal, "log_density", lambda f: lambda params, x: f(params, x.bfloat16().float() if x.dtype == torch.float32 else x)
)
asks_for_a_number = changed(Normal, "log_density", lambda f: lambda params, x: f(params, x) if x.sum().item() < 1e9 else x)
sum_over_the_batch = changed(Normal, "log_density", lambda f: lambda params, x: f(params, x).sum(0, keepdim=True))

variance_times_three = changed(Normal, "rsample", lambda f: lambda p, shape: p["loc"] + (f(p, shape) - p["loc"]) * 3**0.5)
detached_sample = changed(Normal, "rsample", lambda f: lambda params, shape: f(params, shape).detach())
detached_scale = with_parameter(Normal, "rsample", "scale", torch.Tensor.detach)
support_that_does_not_move = with_parameter(Pareto, "rsample", "scale", torch.Tensor.detach)
swapped_sign_in_a_draw = changed(Gumbel, "rsample", lambda f: lambda params, shape: 2 * params["loc"] - f(params, shape))
# The published library's multinomial forgets total_count.
one_trial = with_parameter(Multinomial, "draw", "total_count", torch.ones_like)

variance_for_scale_in_kl = changed(Normal, "kl", lambda f: lambda p, q: f({**p, "scale": p["scale"].square()}, q))
reversed_kl = changed(Normal, "kl", lambda f: lambda p, q: f(q, p))
kl_summed_over_the_batch = changed(Normal, "kl", lambda f: lambda p, q: f(p, q).sum(0, keepdim=True).expand_as(f(p, q)))

variance_for_scale = changed(Normal, "variance_of", lambda f: lambda params: params["scale"])
entropy_in_bits = changed(VonMises, "entropy_of", lambda f: lambda params: f(params) / math.log(2))
mode_at_the_mean = changed(Gamma, "mode_of", lambda f: lambda params: Gamma.mean_of(params))
survival_by_subtraction = changed(Exponential, "sf", lambda f: lambda params, x: 1 - Exponential.cdf(params, x))
inverse_from_below = changed(Exponential, "isf", lambda f: Exponential.icdf)

nothing_loaded = changed(Normal, "load_state_dict", lambda f: lambda self, state: None)

# The published library's product of experts drops those that depend on nothing.
dropped_constant_expert = given(ProductOfNormal, lambda experts, **options: (([e for e in experts if e.cond_var],), options))
forgotten_standard_prior = given(ProductOfNormal, lambda *experts, **options: (experts, {**options, "prior": None}))
mean_for_a_sum_of_precisions = with_parameter(ProductOfNormal, "log_density", "scale", lambda scale: scale * 2**0.5)
forgotten_weights = given(MixtureOfNormal, lambda *experts, **options: (experts, {**options, "weights": None}))
the_next_component = given(Components, lambda parts, *rest, **options: (([*parts[1:], parts[0]], *rest), options))


def covariance_for_its_factor(monkeypatch):
    def make(f):
        def fault(params, x):
            return f({("scale_tril" if k == "covariance_matrix" else k): v for k, v in params.items()}, x)

        return fault

    planted(monkeypatch, MultivariateNormal, "log_density", make)


def missing_values_infinite(monkeypatch):
    """What is missing scores -inf before it is dropped, so that a nan comes through the gradient."""
    planted(monkeypatch, type(Gamma.value_support), "member", lambda f: lambda self, like: torch.full_like(like, torch.inf))


def missing_values_scored(monkeypatch):
    """What is missing is replaced, and the replacement counts."""

    def make(f):
        def fault(self, values):
            return f(self, {"x": torch.where(values["m"] != 0, values["x"], 0.0), "m": torch.ones_like(values["m"])})

        return fault

    planted(monkeypatch, LogProb, "estimate", make)


FAULTS = {
    "a lost constant, in the density": (lost_constant, density("Normal")),
    "a lost constant, in the mass": (lost_constant, law("test_mass", "Normal")),
    "a lost logarithm of the scale": (lost_log_scale, law("test_mass", "Normal")),
    "swapped outcomes": (swapped_outcomes, density("Bernoulli(probs)")),
    "logits that are not normalised": (unnormalised_logits, density("Categorical(logits)")),
    "a mean over the features": (mean_over_features, density("Normal")),
    "a sum over the batch": (sum_over_the_batch, law("test_shapes_kinds_and_copies", "Normal")),
    "half precision": (rounded_to_half_precision, law("test_shapes_kinds_and_copies", "Normal")),
    "weights that are not loaded": (nothing_loaded, law("test_shapes_kinds_and_copies", "Normal")),
    "a number in the graph": (asks_for_a_number, law("test_one_graph", "Normal"), RuntimeError),
    "a lost normaliser, in the mass": (lost_normaliser, law("test_mass", "Gamma(rate)")),
    "a lost normaliser, against scipy": (lost_normaliser, law("test_the_density_is_scipys", "Gamma(scale)")),
    "a swapped sign, in the draws": (swapped_sign, law("test_draws", "Gumbel")),
    "a swapped sign, in the moments": (swapped_sign, law("test_mean_variance_mode_and_entropy", "Gumbel")),
    "a swapped sign of a draw": (swapped_sign_in_a_draw, law("test_draws", "Gumbel")),
    "a swapped sign of a draw, by its fit": (swapped_sign_in_a_draw, law("test_draws_pass_goodness_of_fit", "Gumbel")),
    "a temperature to a wrong power": (temperature_to_a_wrong_power, law("test_mass", "RelaxedCategorical(logits)")),
    "a covariance for its factor": (covariance_for_its_factor, law("test_the_density_is_scipys", "MultivariateNormal(covariance)")),
    "one trial of a multinomial": (one_trial, law("test_draws", "Multinomial(probs)")),
    "three times the variance": (variance_times_three, law("test_draws", "Normal")),
    "three times the variance, by the fit": (variance_times_three, law("test_draws_pass_goodness_of_fit", "Normal")),
    "a detached sample": (detached_sample, law("test_gradients_of_draws", "Normal"), (AssertionError, RuntimeError)),
    "a detached scale": (detached_scale, law("test_gradients_of_draws", "Normal")),
    "a support that does not move": (support_that_does_not_move, law("test_gradients_of_draws", "Pareto")),
    "a variance for a scale in a divergence": (variance_for_scale_in_kl, law("test_kl", "Normal")),
    "a reversed divergence": (reversed_kl, law("test_kl", "Normal")),
    "a divergence summed over the batch": (
        kl_summed_over_the_batch,
        Check("distributions", "test_kl_is_per_datum_not_summed_over_the_batch"),
    ),
    "a variance for a scale": (variance_for_scale, law("test_mean_variance_mode_and_entropy", "Normal")),
    "an entropy in bits": (entropy_in_bits, law("test_mean_variance_mode_and_entropy", "VonMises")),
    "a mode at the mean": (mode_at_the_mean, law("test_mean_variance_mode_and_entropy", "Gamma(rate)")),
    "a survival function by subtraction": (survival_by_subtraction, law("test_upper_tails_are_scipys", "Exponential")),
    "an inverse from below": (inverse_from_below, law("test_upper_tails_are_scipys", "Exponential")),
    "a dropped constant expert": (dropped_constant_expert, product_of("a constant expert counts")),
    "a mean for a sum of precisions": (mean_for_a_sum_of_precisions, product_of("two without a prior")),
    "a forgotten standard prior": (forgotten_standard_prior, product_of("two and the standard prior")),
    "forgotten weights": (forgotten_weights, Check("distributions", "test_mixture_of_normal_is_a_true_mixture")),
    "the next component": (the_next_component, mixture_of("constant weights")),
    "missing values at infinity": (missing_values_infinite, seen_alone("Exponential(rate)")),
    "missing values that are scored": (missing_values_scored, seen_alone("Normal")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, monkeypatch):
    need_found(monkeypatch, *FAULTS[name])


def test_a_mean_over_the_features_shows_in_three(monkeypatch):
    p, x = Normal(loc=torch.zeros(3), scale=1.0), torch.randn(4, 3)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(-1)
    torch.testing.assert_close(p.log_likelihood({"x": x}), expected)
    mean_over_features(monkeypatch)
    assert not torch.isclose(p.log_likelihood({"x": x}), expected).any()
