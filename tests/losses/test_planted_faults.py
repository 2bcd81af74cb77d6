"""The tests of losses and of their algebra are worth something: each of these faults fails the test that is named beside it."""

import math
import warnings

import pytest
import torch
from planted import Check, changed, given, need_found, planted, with_gradients_times

from pixyz.core import Expectation, Joint, LogProb, Loss, logsumexp
from pixyz.distributions import Bernoulli, Categorical, Normal
from pixyz.losses import (
    MMD,
    ChiSquared,
    Commitment,
    DReG,
    JensenShannon,
    KullbackLeibler,
    Sinkhorn,
    StoppedLogProb,
    TotalCorrelation,
    TotalVariation,
    Wasserstein,
)


def law(name, *arguments, float64=True):
    return Check("losses", name, *arguments, float64=float64)


def as_one(change):
    """The fault that an operator of two expectations over one q is an expectation of a function of both: they have one draw."""

    def make(f):
        def fault(a, b):
            if not isinstance(a, Expectation):
                return f(a, b)
            (q, body), other = a.parts, b.parts[1] if isinstance(b, Expectation) else b
            return Expectation(q, change(body, other))

        return fault

    return make


def twice_the_value(owner):
    return changed(owner, "estimate", lambda f: lambda self, *a, **o: 2 * f(self, *a, **o))


def one_draw_for_all_samples(monkeypatch):
    planted(monkeypatch, Normal, "rsample", lambda f: lambda params, shape: f(params, shape)[:1].expand(shape))


def functions_draw_anew(monkeypatch):
    """What stands in an exponential shares its draws with nobody."""
    planted(monkeypatch, Loss, "exp", lambda f: lambda self: f(Expectation(*self.parts, share=False)))


def logarithm_that_loses_the_score(monkeypatch):
    planted(monkeypatch, Loss, "log", lambda f: lambda self: f(Expectation(*self.parts, num_samples=self.num_samples, estimator="sample")))


def sum_for_a_mean_of_exponentials(check):
    return lambda monkeypatch: monkeypatch.setattr(check.module, "log_mean_exp", logsumexp)


def kernel_of_a_draw_with_itself(x, y):
    """Such that the mean over pairs of different draws is that over all pairs: the V-statistic, biased and never negative."""
    k, n = (-0.5 * (x.unsqueeze(1) - y).square().sum(-1)).exp(), len(x)
    return (k * (n - 1) + 1) / n if x is y else k


def kernel_of_a_mean_square(x, y):
    """Distances are divided by the number of features."""
    return (-0.5 * (x.unsqueeze(1) - y).square().mean(-1)).exp()


def ancestor_below(monkeypatch):
    """The chain rule where the right side depends on what is paired: each factor against the one of the same variable."""
    sides = {}

    def make_init(f):
        def fault(self, left, right, **options):
            f(self, left, right, **options)
            sides[self] = left, right

        return fault

    def make_estimate(f):
        def fault(self, *arguments, **options):
            left, right = sides[self]
            if len(left.factors) == 1:
                return f(self, *arguments, **options)
            pairs = [(Joint([a]), Joint([b])) for a in left.factors for b in right.factors if a.var == b.var]
            return sum(KullbackLeibler(a, b).expectation(left, num_samples=50) for a, b in pairs).estimate(*arguments, **options)

        return fault

    planted(monkeypatch, KullbackLeibler, "__init__", make_init)
    planted(monkeypatch, KullbackLeibler, "estimate", make_estimate)


def lost_number_of_draws(monkeypatch):
    """A sum over the draws for their mean."""

    def make(f):
        def fault(self, *a, **o):
            value = f(self, *a, **o)
            return value + math.log(self.num_samples) / (1 - self.order) if isinstance(self, Expectation) and self.order != 1 else value

        return fault

    planted(monkeypatch, Loss, "estimate", make)


def path_gradients_not_squared(monkeypatch):
    """Each path counts by its weight, not by the square of it."""

    def make(f):
        def fault(self, p, q, **options):
            f(self, p, q, **options)
            self.__dict__["simple"] = Expectation(
                q, LogProb(p) - StoppedLogProb(q), **options, estimator="pathwise", aggregate="log_mean_exp"
            )

        return fault

    planted(monkeypatch, DReG, "__init__", make)
    planted(monkeypatch, DReG, "estimate", lambda f: lambda self, *a, **o: self.__dict__["simple"].estimate(*a, **o))


def weights_of_the_variables_alone(monkeypatch):
    """A chain of which the first variable is summed over without its probability."""

    def change(q, f, **options):
        *below, first = q.ancestral[::-1]
        uniform = type(first.dist)(str(first), probs=first.dist.logits.detach().new_full((3,), 1 / 3))
        return (Joint([*below]) * uniform, f), options

    given(Expectation, change)(monkeypatch)


def slope_lost_where_both_sides_agree(monkeypatch):
    """Of the first category, whose probability is the same in both."""

    def make(f):
        def fault(params, x):
            first, rest = params["probs"][..., :1], params["probs"][..., 1:]
            return f({"probs": torch.cat([first.detach(), rest], -1)}, x)

        return fault

    planted(monkeypatch, Categorical, "log_density", make)


def in_silence(f):
    def fault(self, *arguments, **options):
        with warnings.catch_warnings(action="ignore"):
            return f(self, *arguments, **options)

    return fault


def figure(name):
    return law("test_the_figures_of_two_normals", name)


def expression(name, *arguments):
    return law(name, *arguments, float64=False)


enumerated_constant = given(Expectation, lambda *parts, **options: (parts, {"estimator": "enumerate", **options}))
fresh = "test_products_and_whole_powers_draw_anew_and_are_unbiased"
product_with_one_draw = changed(Loss, "__mul__", as_one(lambda f, g: f * g))
power_with_one_draw = changed(Loss, "__pow__", as_one(lambda f, n: f**n))
flipped_sign_of_a_difference = changed(Loss, "__sub__", lambda f: lambda a, b: f(b, a) if isinstance(b, Loss) else f(a, b))
no_shared_draws = given(Expectation, lambda *parts, **options: (parts, {**options, "share": False}))
reversed_sides = given(ChiSquared, lambda p, q, **options: ((q, p), options))
alpha_on_the_wrong_side = changed(Normal, "renyi", lambda f: lambda p, q, alpha: f(p, q, 1 / alpha))
draw_compared_with_itself = given(MMD, lambda p, q, **options: ((p, q, kernel_of_a_draw_with_itself), options))
divided_by_the_number_of_features = given(MMD, lambda p, q, **options: ((p, q, kernel_of_a_mean_square), options))
of_prob = law("test_prob_is_the_density", float64=False)
of_exponentials = expression("test_an_expression_is_arithmetic_on_its_parts", "log_mean_exp")

FAULTS = {
    "a flipped sign of a difference": (flipped_sign_of_a_difference, law("test_arithmetic_is_arithmetic", float64=False)),
    "one draw for a product": (product_with_one_draw, law("test_a_product_of_expectations_draws_anew", float64=False)),
    "one draw for a square": (power_with_one_draw, expression(fresh, "E ** 2")),
    "one draw for a cube": (power_with_one_draw, expression(fresh, "E ** 3")),
    "one draw for all samples": (one_draw_for_all_samples, law("test_several_samples_equal_a_loop_over_single_ones", 5, float64=False)),
    "no shared draws": (no_shared_draws, law("test_shared_draws_cancel", float64=False)),
    "functions that draw anew": (
        functions_draw_anew,
        expression("test_expectations_that_meet_under_sums_and_functions_share_their_draws", "difference of exps"),
    ),
    "a logarithm that loses the score": (
        logarithm_that_loses_the_score,
        expression("test_the_score_function_goes_through_a_function_by_the_chain_rule", "log"),
    ),
    "a sum for a mean of exponentials": (sum_for_a_mean_of_exponentials(of_exponentials), of_exponentials),
    "a forgotten half of Jensen-Shannon": (twice_the_value(JensenShannon), figure("JS")),
    "a forgotten half of the total variation": (
        twice_the_value(TotalVariation),
        law("test_over_a_finite_support_it_is_exact", "TV", "Bernoulli"),
    ),
    "reversed sides": (reversed_sides, figure("chi2")),
    "alpha on the wrong side": (alpha_on_the_wrong_side, figure("Renyi 2")),
    "a draw compared with itself, between equals": (
        draw_compared_with_itself,
        law("test_between_equals_its_mean_is_zero", "gaussian"),
    ),
    "a draw compared with itself": (draw_compared_with_itself, law("test_it_is_unbiased_at_every_batch", "gaussian", 3)),
    "distances divided by the number of features": (
        divided_by_the_number_of_features,
        law("test_distances_are_not_divided_by_the_number_of_features"),
    ),
    "an ancestor below": (ancestor_below, law("test_where_the_right_side_runs_the_other_way_it_is_monte_carlo")),
    "a lost number of draws": (lost_number_of_draws, law("test_renyi_bounds", 0.5)),
    "path gradients that are not squared": (path_gradients_not_squared, law("test_doubly_reparametrised_gradients_by_hand")),
    "a logarithm for a density": (lambda monkeypatch: monkeypatch.setattr(of_prob.module, "Prob", LogProb), of_prob),
    "an entropy in bits": (
        changed(Normal, "entropy_of", lambda f: lambda params: f(params) / math.log(2)),
        law("test_entropies", float64=False),
    ),
    "a square for a distance": (
        changed(Wasserstein, "estimate", lambda f: lambda self, *a, **o: f(self, *a, **o).square()),
        law("test_wasserstein_in_closed_form"),
    ),
    "a commitment of both sides": (twice_the_value(Commitment), law("test_vector_quantisation")),
    "a total correlation of twice the data": (
        given(TotalCorrelation, lambda q, n, **options: ((q, 2 * n), options)),
        law("test_total_correlation_by_brute_force", "weighted"),
    ),
    "a constant that is forgotten": (
        changed(Loss, "constant_var", lambda f: lambda self, values: f(self, {v: 0 * t for v, t in values.items()})),
        law("test_a_constant_variable_need_not_be_given", float64=False),
    ),
    "a value that is rounded": (
        changed(Bernoulli, "log_density", lambda f: lambda params, x: f(params, x.round())),
        law("test_log_densities_extend_linearly_and_have_a_gradient_in_the_value", "Bernoulli", float64=True),
    ),
    "a slope lost where both sides agree": (
        slope_lost_where_both_sides_agree,
        law("test_the_slope_of_renyi_where_one_probability_is_the_same", 2.0),
    ),
    "a constant that is enumerated": (
        enumerated_constant,
        law("test_a_time_without_parameters_is_drawn_once", 2, {}, float64=False),
    ),
    "a plan of which nobody hears that it is none": (
        changed(Sinkhorn, "estimate", in_silence),
        law("test_a_plan_that_has_not_converged_is_reported", 1e-3, float64=False),
        pytest.fail.Exception,
    ),
    "weights of the variables alone": (
        weights_of_the_variables_alone,
        law("test_a_chain_of_which_each_term_needs_little", "pairs of neighbours"),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, monkeypatch):
    need_found(monkeypatch, *FAULTS[name])


mixed = Check("losses", "test_gradients_of_every_mix")
chain = mixed.module.chain  # the fixture
explained = Check("losses", "test_terms_add_up_to_the_loss")
model = explained.module.model


def test_a_lost_half_of_the_score_is_found_in_a_mix(chain, monkeypatch):
    mix = getattr(mixed.module, mixed.name)
    need_found(monkeypatch, with_gradients_times(lambda k: 0.5), lambda: mix(chain, ("enumerate", "score", "enumerate"), "b"))


def test_an_explanation_of_another_draw_is_found(model, monkeypatch):
    fault = changed(Loss, "explain", lambda f: lambda self, *a, **o: (torch.randn(1), f(self, *a, **o))[1])
    need_found(monkeypatch, fault, lambda: getattr(explained.module, explained.name)(model))
