"""The tests are worth something: each of these faults, planted in the library, fails the test that is named beside it."""

import tempfile
from functools import partial
from pathlib import Path

import pytest
import torch
from core import test_elimination as elimination
from core import test_evaluation as evaluation
from distributions import test_composed as composed
from distributions import test_experts as experts
from distributions import test_families as families
from distributions import test_laws as laws
from distributions import test_missing as missing
from distributions import test_mixtures as mixtures
from losses import test_bounds as bounds
from losses import test_divergences as divergences
from losses import test_estimators as estimators
from losses import test_expressions as expressions
from losses import test_finite_sums as finite_sums
from losses import test_sequences as sequences
from losses import test_set_losses as set_losses
from losses import test_truth as truth
from models import test_checkpoints as checkpoints
from planted import planted
from zoo import Decoder, Encoder, prior

from pixyz.core import (
    Term,
    _baselines,
    _drawing,
    _elementwise,
    _estimators,
    _expectation,
    _operators,
    _potentials,
    _rebar,
    _recovery,
    _relaxations,
    _scope,
)
from pixyz.distributions import (
    Bernoulli,
    Categorical,
    Exponential,
    Gamma,
    Gumbel,
    Multinomial,
    Normal,
    Pareto,
    RelaxedCategorical,
    VonMises,
    _components,
    _eventwise,
    _experts,
    _given,
    _mixtures,
    _supports,
    _vectors,
)
from pixyz.losses import _chain_rule, _forward, _gradients, _iterative, _kernels, _trajectory, _two_sided
from pixyz.models import _atomic, _optimizer_state, _restoring, _series, _tensor_file, _trees


def lost_constant(monkeypatch):
    planted(monkeypatch, Normal, "log_density", lambda f: lambda params, x: f(params, x) + 0.9189385332046727)


def lost_log_scale(monkeypatch):
    planted(monkeypatch, Normal, "log_density", lambda f: lambda params, x: f(params, x) + params["scale"].log())


def swapped_outcomes(monkeypatch):
    planted(monkeypatch, Bernoulli, "log_density", lambda f: lambda params, x: f(params, 1 - x))


def unnormalised_logits(monkeypatch):
    planted(monkeypatch, Categorical, "log_density", lambda f: lambda params, x: (x * params["logits"]).sum(-1))


def mean_over_features(monkeypatch):
    planted(monkeypatch, _eventwise, "sum_features", lambda f: lambda t, rank: t.mean(-1) if t.ndim > rank else t)


def variance_times_three(monkeypatch):
    planted(monkeypatch, Normal, "rsample", lambda f: lambda p, shape: p["loc"] + (f(p, shape) - p["loc"]) * 3**0.5)


def detached_sample(monkeypatch):
    planted(monkeypatch, Normal, "rsample", lambda f: lambda params, shape: f(params, shape).detach())


def reversed_kl(monkeypatch):
    planted(monkeypatch, Normal, "kl", lambda f: lambda p, q: f(q, p))


def variance_for_scale_in_kl(monkeypatch):
    planted(monkeypatch, Normal, "kl", lambda f: lambda p, q: f({**p, "scale": p["scale"].square()}, q))


def kl_summed_over_the_batch(monkeypatch):
    def make(f):
        def fault(what, p, q, who):
            term = f(what, p, q, who)
            return Term(term.tensor.sum().expand(term.tensor.shape), term.dims)

        return fault

    planted(monkeypatch, _given, "same_family_divergence", make)
    monkeypatch.setattr("pixyz.distributions._family.same_family_divergence", _given.same_family_divergence)


def lost_normaliser(monkeypatch):
    planted(monkeypatch, Gamma, "log_density", lambda f: lambda params, x: f(params, x) + torch.lgamma(params["concentration"]))


def swapped_sign(monkeypatch):
    planted(monkeypatch, Gumbel, "log_density", lambda f: lambda params, x: f(params, 2 * params["loc"] - x))


def swapped_sign_in_a_draw(monkeypatch):
    planted(monkeypatch, Gumbel, "rsample", lambda f: lambda params, shape: 2 * params["loc"] - f(params, shape))


def temperature_to_a_wrong_power(monkeypatch):
    """The published library's relaxed categorical has no density of its own."""
    planted(monkeypatch, RelaxedCategorical, "log_density", lambda f: lambda params, x: f(params, x) + params["temperature"].log())


def one_trial_of_a_multinomial(monkeypatch):
    """The published library's multinomial forgets total_count."""
    one = lambda params: {**params, "total_count": torch.ones_like(params["total_count"])}  # noqa: E731
    planted(monkeypatch, Multinomial, "draw", lambda f: lambda params, shape: f(one(params), shape))


def detached_scale(monkeypatch):
    planted(monkeypatch, Normal, "rsample", lambda f: lambda p, shape: f({**p, "scale": p["scale"].detach()}, shape))


def a_variance_for_a_scale(monkeypatch):
    planted(monkeypatch, Normal, "variance_of", lambda f: lambda params: params["scale"])


def an_entropy_in_bits(monkeypatch):
    planted(monkeypatch, VonMises, "entropy_of", lambda f: lambda params: f(params) / 0.6931471805599453)


def a_covariance_for_its_factor(monkeypatch):
    planted(monkeypatch, _vectors, "_tril", lambda f: lambda params: params.get("covariance_matrix", f(params)))


def a_mode_at_the_mean(monkeypatch):
    planted(monkeypatch, Gamma, "mode_of", lambda f: lambda params: Gamma.mean_of(params))


def a_support_that_does_not_move(monkeypatch):
    planted(monkeypatch, Pareto, "rsample", lambda f: lambda params, shape: f({**params, "scale": params["scale"].detach()}, shape))


def a_survival_function_by_subtraction(monkeypatch):
    planted(monkeypatch, Exponential, "sf", lambda f: lambda params, x: 1 - Exponential.cdf(params, x))


def an_inverse_from_below(monkeypatch):
    planted(monkeypatch, Exponential, "isf", lambda f: Exponential.icdf)


def flipped_sign_of_a_difference(monkeypatch):
    planted(monkeypatch, _operators.Sum, "evaluate", lambda f: lambda self, scope: Term(-f(self, scope).tensor, f(self, scope).dims))


def shared_draws_in_a_product(monkeypatch):
    monkeypatch.setattr(_scope.Scope, "apart", lambda self: self)


def shared_draws_inside_an_expectation(monkeypatch):
    """The inner draw has only the dims of its inputs, not all open Monte Carlo dims; seen where r does not depend on z."""
    planted(monkeypatch, _scope.Scope, "draw_dims", lambda f: lambda self, factor, conditional, samples: f(self, factor, conditional, ()))


def no_shared_draws(monkeypatch):
    from pixyz.core import Expectation

    planted(
        monkeypatch,
        Expectation,
        "_draw",
        lambda f: lambda self, scope, batch, together: _drawing.draw(scope, self.plans, self.num_samples, self.max_enumerate, batch, self),
    )


def one_draw_for_a_square(monkeypatch):
    def fault(self, scope):
        base, exponent = self._power
        term = scope.evaluate(base)
        return Term(term.tensor**exponent, term.dims)

    monkeypatch.setattr(_elementwise.WholePower, "evaluate", fault)


def functions_draw_anew(monkeypatch):
    planted(monkeypatch, _elementwise.Elementwise, "evaluate", lambda f: lambda self, scope: f(self, scope.apart()))


def a_function_loses_the_score(monkeypatch):
    def make(f):
        def fault(self, scope):
            term = f(self, scope)
            return Term(term.tensor.detach() if self._function == "log" else term.tensor, term.dims)

        return fault

    planted(monkeypatch, _elementwise.Elementwise, "evaluate", make)


def a_sum_for_a_mean_of_exponentials(monkeypatch):
    table = dict(_elementwise.FUNCTIONS)
    table["log_mean_exp"] = table["log_mean_exp"]._replace(compute=table["logsumexp"].compute)
    monkeypatch.setattr(_elementwise, "FUNCTIONS", table)


def missing_values_infinite(monkeypatch):
    """What is missing scores -inf before it is dropped, so that a nan comes through the gradient."""
    planted(monkeypatch, _supports.Interval, "member", lambda f: lambda self, like: torch.full_like(like, torch.inf))


def missing_values_scored(monkeypatch):
    """What is missing is replaced, and the replacement counts."""
    planted(monkeypatch, _eventwise.torch, "where", lambda f: lambda mask, a, b: a if isinstance(b, float) else f(mask, a, b))


def missing_score(monkeypatch):
    planted(monkeypatch, _estimators, "_score", lambda f: lambda *args: Term(f(*args).tensor * 0, f(*args).dims))


def baseline_with_the_own_draw(monkeypatch):
    planted(monkeypatch, _estimators, "advantages", lambda f: lambda t, axis, order: t - t.mean(axis, keepdim=True))


def baseline_not_weighted_by_what_is_summed_above(monkeypatch):
    def make(f):
        return lambda body, weights: f(body, weights) if body.tensor.ndim else body

    planted(monkeypatch, _estimators, "_weighted", make)


def relaxed_draw_without_its_logits(monkeypatch):
    planted(monkeypatch, Bernoulli, "relax", lambda f: lambda p, shape, tau: f({k: t.detach() for k, t in p.items()}, shape, tau))


def temperature_ignored(monkeypatch):
    planted(monkeypatch, Bernoulli, "relax", lambda f: lambda params, shape, tau: f(params, shape, 1.0))


def control_not_given_back(monkeypatch):
    """Of what the score loses, the gradient of the relaxed draw alone comes back."""
    monkeypatch.setattr(_rebar, "zip", lambda *each: list(zip(*each))[:1], raising=False)


def free_relaxed_draw_for_the_conditional(monkeypatch):
    def make(f):
        def fault(params, shape, tau):
            hard, relaxed, _ = f(params, shape, tau)
            return hard, relaxed, relaxed

        return fault

    planted(monkeypatch, Bernoulli, "relax", make)
    planted(monkeypatch, Categorical, "relax", make)


def straight_through_without_a_mean(monkeypatch):
    planted(monkeypatch, _relaxations.StraightThrough, "draw", lambda f: _relaxations.Estimator.draw)


def baseline_trained_by_the_signed_gradient(monkeypatch):
    def fault(ctx, gradient):
        return gradient, 2 * gradient * ctx.saved_tensors[0], None

    monkeypatch.setattr(_baselines._Trained, "backward", staticmethod(fault))


def baseline_moves_what_it_sees(monkeypatch):
    planted(monkeypatch, _baselines, "_still", lambda f: lambda b: b)


def score_inside_the_aggregate(monkeypatch):
    def make(f):
        def reduced(body, d, order=1.0):
            inside = [s.log_q.tensor - s.log_q.tensor.detach() for s in d.scored]
            return f(Term(body.tensor + sum(inside), body.dims), d._replace(scored=()), order)

        return reduced

    planted(monkeypatch, _expectation, "reduce", make)


def a_lost_number_of_draws(monkeypatch):
    planted(monkeypatch, _estimators, "power_mean", lambda f: lambda t, axis, order: t.logsumexp(axis))


def path_gradients_not_squared(monkeypatch):
    planted(monkeypatch, _gradients, "_slowed", lambda f: lambda b, weights: Term(b.tensor, b.dims))


def unweighted_enumeration(monkeypatch):
    planted(
        monkeypatch, _estimators, "_weighted", lambda f: lambda body, weights: Term(f(body, weights).tensor * 0 + 1, f(body, weights).dims)
    )


def stale_memo(monkeypatch):
    """One memo for the whole process, keyed by tensor identity: the published library's fault."""
    memo, ids = {}, {}

    def number(self):
        self.numbers += 1
        return self.numbers

    def make(f):
        def init(self, *arguments, **options):
            f(self, *arguments, **options)
            self.memo, self.validate = memo, True

        return init

    def bind(self, name, tensor, dims):
        stable = ids.setdefault(id(tensor), -len(ids) - 1)
        binding = self.bindings[name] = _scope.Binding(tensor, dims, stable)
        return binding

    planted(monkeypatch, _scope.Evaluation, "__init__", make)
    monkeypatch.setattr(_scope.Evaluation, "number", number)
    monkeypatch.setattr(_scope.Scope, "bind", bind)


def no_memo(monkeypatch):
    class Forgetful(dict):
        def get(self, key, default=None):
            return default

    def make(f):
        def init(self, *arguments, **options):
            f(self, *arguments, **options)
            self.memo = Forgetful()

        return init

    planted(monkeypatch, _scope.Evaluation, "__init__", make)


def dropped_constant_expert(monkeypatch):
    """The published library's product of experts drops those that depend on nothing."""
    planted(monkeypatch, _experts, "ask", lambda f: lambda scope, parts, *rest: f(scope, [p for p in parts if p.cond_var], *rest))


def mean_for_a_sum_of_precisions(monkeypatch):
    def make(f):
        def fault(givens, standard):
            terms = f(givens, standard)
            scale, dims = terms["scale"]
            return {**terms, "scale": Term(scale * len(givens) ** 0.5, dims)}

        return fault

    planted(monkeypatch, _experts, "_product", make)


def forgotten_standard_prior(monkeypatch):
    planted(monkeypatch, _experts, "_product", lambda f: lambda givens, standard: f(givens, False))


def forgotten_weights(monkeypatch):
    planted(monkeypatch, _mixtures, "_weights", lambda f: lambda weights, experts: f(None, experts))


def the_next_component(monkeypatch):
    def make(f):
        return lambda term, dim, chosen: f(term, dim, Term((chosen.tensor + 1) % 3, chosen.dims))

    planted(monkeypatch, _components, "_along", make)


def a_forgotten_half(monkeypatch):
    """The mean over the mixture as the sum over both sides."""

    def make(f):
        return lambda self, scope: Term(2 * f(self, scope).tensor, f(self, scope).dims)

    planted(monkeypatch, _two_sided.TwoSided, "under_mixture", make)


def reversed_sides(monkeypatch):
    planted(monkeypatch, _two_sided.TwoSided, "by_rule", lambda f: lambda self, *a, **o: f(_Reversed(self), *a, **o))


class _Reversed:
    def __init__(self, loss):
        self._rule, self._pair = loss._rule, loss._pair[::-1]


def alpha_on_the_wrong_side(monkeypatch):
    planted(monkeypatch, Normal, "renyi", lambda f: lambda p, q, alpha: f(p, q, 1 / alpha))


def a_draw_compared_with_itself(monkeypatch):
    """The V-statistic: biased, and never negative."""
    planted(monkeypatch, _kernels, "_others", lambda f: lambda kernel, x, who: kernel(x, x).mean())


def divided_by_the_number_of_features(monkeypatch):
    planted(monkeypatch, _kernels, "distances", lambda f: lambda x, y: f(x, y) / x.shape[-1] ** 0.5)


def an_ancestor_below(monkeypatch):
    """The chain rule where the right side depends on what is paired."""
    planted(monkeypatch, _chain_rule, "_reached", lambda f: lambda p, names: frozenset())


def vae():
    return Decoder(), Encoder(), prior()


def density(name):
    return lambda: families.test_log_likelihood_is_scipys_summed_over_the_features(*families.CASES[name])


def product_of(name):
    return lambda: experts.test_the_density_is_the_normalised_product(*experts.CASES[name])


def three_features():
    p = Normal(loc=torch.zeros(3), scale=1.0)
    x = torch.randn(4, 3)
    torch.testing.assert_close(p.log_likelihood({"x": x}), torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(-1))


def lost_determinant(monkeypatch):
    planted(monkeypatch, _potentials, "root", lambda f: lambda precision: (f(precision)[0], 0 * f(precision)[1]))


def maximum_for_a_sum(monkeypatch):
    planted(monkeypatch, _potentials, "log_sum", lambda f: lambda t, axis: t.amax(axis))


def the_first_copy_for_all(monkeypatch):
    planted(monkeypatch, _potentials, "_pick", lambda f: lambda t, axis, members: f(t, axis, (0,) * len(members)))


def draws_that_ignore_their_neighbours(monkeypatch):
    planted(monkeypatch, _recovery, "_stacked", lambda f: lambda *args: torch.zeros_like(f(*args)))


def a_doubled_noise(monkeypatch):
    planted(monkeypatch, Normal, "whitener", lambda f: lambda params, count: f({**params, "scale": 2 * params["scale"]}, count))


def costs_of_the_step_alone(monkeypatch):
    planted(monkeypatch, _estimators, "_from_each_step_on", lambda f: lambda cost, steps: cost)


def costs_of_all_steps_so_far(monkeypatch):
    def fault(cost, steps):
        return Term(cost.tensor.cumsum(cost.dims.index(steps)), cost.dims)

    planted(monkeypatch, _estimators, "_from_each_step_on", lambda f: fault)


def a_new_number_for_a_known_value(monkeypatch):
    def bind(scope, name, tensor, dims):
        binding = scope.bindings[name] = _scope.Binding(tensor, dims, scope.shared.number())
        return binding

    planted(monkeypatch, _scope.Scope, "bind", lambda f: bind)


def the_value_of_the_same_step(monkeypatch):
    planted(monkeypatch, _trajectory, "shift", lambda f: lambda first, steps, names, who: steps)


def no_mask(monkeypatch):
    planted(monkeypatch, _iterative, "mask_of", lambda f: lambda *args: f(*args)._replace(tensor=torch.ones_like(f(*args).tensor)))


def padding_in_the_networks(monkeypatch):
    planted(monkeypatch, _iterative, "filled", lambda f: lambda steps, mask: steps)


def networks_run_again(monkeypatch):
    planted(monkeypatch, _scope.Scope, "join", lambda f: lambda self, factor, steps, dim: None)


def the_first_marginal_for_all_steps(monkeypatch):
    def make(f):
        def fault(*args):
            alphas = f(*args)
            return Term(alphas.tensor[:1].expand_as(alphas.tensor), alphas.dims)

        return fault

    planted(monkeypatch, _forward, "_marginals", make)


def weights_of_the_variables_alone(monkeypatch):
    planted(
        monkeypatch,
        _estimators,
        "_relevant",
        lambda f: lambda d, dims: tuple(w for w in d.weights if max(set(w.dims) & set(d.enumerated)) in dims),
    )


def in_float64(test, *arguments):
    def run():
        torch.set_default_dtype(torch.float64)
        test(*arguments)

    return run


def in_double(test, *arguments):
    torch.set_default_dtype(torch.float64)
    test(*arguments)


def figure(name):
    in_double(divergences.test_the_figures_of_two_normals, name)


def random_state_left_as_it_is(monkeypatch):
    planted(monkeypatch, _restoring, "set_random_state", lambda f: lambda state, device: None)


def rounded_numbers(monkeypatch):
    planted(monkeypatch, _trees, "take_apart", lambda f: lambda v, *a: round(v, 12) if type(v) is float and v - v == 0 else f(v, *a))


def states_without_a_way_back(monkeypatch):
    planted(monkeypatch, _restoring, "_way_back", lambda f: lambda owner: lambda: None)


def schedulers_not_saved(monkeypatch):
    planted(monkeypatch, _restoring, "scheduler_state", lambda f: lambda found, scheduler, **_: scheduler.state_dict())


def any_state_fits(monkeypatch):
    planted(monkeypatch, _optimizer_state, "fit", lambda f: lambda value, own: value)


def written_in_place(monkeypatch):
    def fault(path, chunks):
        with path.open("wb", buffering=0) as file:
            _atomic._write(file.fileno(), chunks)

    planted(monkeypatch, _tensor_file, "write_atomically", lambda f: fault)


def the_last_by_name(monkeypatch):
    planted(monkeypatch, _series, "_members", lambda f: lambda path: {str(k): v for k, v in f(path).items()})


def in_a_folder(test, *arguments):
    """A test with a folder of its own."""

    def run():
        with tempfile.TemporaryDirectory() as folder:
            test(*arguments, tmp_path=Path(folder))

    return run


def a_full_disk():
    with pytest.MonkeyPatch.context() as patch:
        in_a_folder(partial(checkpoints.test_a_full_disk_leaves_the_previous_checkpoint, "write", monkeypatch=patch))()


def a_refusal_halfway():
    with pytest.MonkeyPatch.context() as patch:
        test = partial(checkpoints.test_a_state_that_its_owner_does_not_take_is_taken_back, "scheduler", monkeypatch=patch)
        in_a_folder(partial(test, checkpoints.whole_file()))()


FAULTS = [
    (lost_constant, density("Normal")),
    (lost_log_scale, lambda: laws.test_mass("Normal")),
    (swapped_outcomes, density("Bernoulli(probs)")),
    (unnormalised_logits, density("Categorical(logits)")),
    (mean_over_features, density("Normal")),
    (variance_times_three, lambda: laws.test_draws_pass_goodness_of_fit("Normal")),
    (variance_for_scale_in_kl, lambda: laws.test_kl("Normal")),
    (kl_summed_over_the_batch, families.test_kl_is_per_datum_not_summed_over_the_batch),
    (lost_constant, lambda: laws.test_mass("Normal")),
    (lost_normaliser, lambda: laws.test_mass("Gamma(rate)")),
    (lost_normaliser, lambda: laws.test_the_density_is_scipys("Gamma(scale)")),
    (swapped_sign, lambda: laws.test_draws("Gumbel")),
    (swapped_sign, lambda: laws.test_mean_variance_mode_and_entropy("Gumbel")),
    (swapped_sign_in_a_draw, lambda: laws.test_draws("Gumbel")),
    (swapped_sign_in_a_draw, lambda: laws.test_draws_pass_goodness_of_fit("Gumbel")),
    (temperature_to_a_wrong_power, lambda: laws.test_mass("RelaxedCategorical(logits)")),
    (one_trial_of_a_multinomial, lambda: laws.test_draws("Multinomial(probs)")),
    (variance_times_three, lambda: laws.test_draws("Normal")),
    (detached_sample, lambda: laws.test_gradients_of_draws("Normal")),
    (detached_scale, lambda: laws.test_gradients_of_draws("Normal")),
    (a_variance_for_a_scale, lambda: laws.test_mean_variance_mode_and_entropy("Normal")),
    (an_entropy_in_bits, lambda: laws.test_mean_variance_mode_and_entropy("VonMises")),
    (a_mode_at_the_mean, lambda: laws.test_mean_variance_mode_and_entropy("Gamma(rate)")),
    (a_covariance_for_its_factor, lambda: laws.test_the_density_is_scipys("MultivariateNormal(covariance)")),
    (a_support_that_does_not_move, lambda: laws.test_gradients_of_draws("Pareto")),
    (a_survival_function_by_subtraction, lambda: composed.test_upper_tails_are_scipys("Exponential")),
    (an_inverse_from_below, lambda: composed.test_laws_far_in_the_upper_tail("Exponential")),
    (reversed_kl, lambda: laws.test_kl("Normal")),
    (dropped_constant_expert, product_of("a constant expert counts")),
    (mean_for_a_sum_of_precisions, product_of("two without a prior")),
    (forgotten_standard_prior, product_of("two and the standard prior")),
    (forgotten_weights, mixtures.test_mixture_of_normal_is_a_true_mixture),
    (the_next_component, lambda: mixtures.test_the_likelihood_of_a_mixture(*mixtures.MIXTURES["constant weights"])),
    (mean_over_features, three_features),
    (lost_determinant, in_float64(elimination.test_linear_dynamical_system_against_the_dense_gaussian, 3)),
    (a_doubled_noise, in_float64(elimination.test_linear_dynamical_system_against_the_dense_gaussian, 3)),
    (maximum_for_a_sum, in_float64(elimination.test_hidden_markov_against_the_forward_algorithm, 7, 2)),
    (maximum_for_a_sum, in_float64(elimination.test_hidden_markov_against_enumeration)),
    (the_first_copy_for_all, in_float64(elimination.test_hidden_markov_against_the_forward_algorithm, 7, 2)),
    (draws_that_ignore_their_neighbours, in_float64(elimination.test_hidden_markov_against_enumeration)),
    (draws_that_ignore_their_neighbours, in_float64(elimination.test_paths_of_a_linear_dynamical_system_are_drawn_from_its_posterior)),
    (a_forgotten_half, lambda: figure("JS")),
    (a_forgotten_half, lambda: in_double(divergences.test_over_a_finite_support_it_is_exact, "TV", "Bernoulli")),
    (reversed_sides, lambda: figure("chi2")),
    (alpha_on_the_wrong_side, lambda: figure("Renyi 2")),
    (a_draw_compared_with_itself, lambda: in_double(set_losses.test_between_equals_its_mean_is_zero, "gaussian")),
    (a_draw_compared_with_itself, lambda: in_double(set_losses.test_it_is_unbiased_at_every_batch, "gaussian", 3)),
    (divided_by_the_number_of_features, lambda: in_double(set_losses.test_distances_are_not_divided_by_the_number_of_features)),
    (an_ancestor_below, lambda: in_double(divergences.test_where_the_right_side_runs_the_other_way_it_is_monte_carlo)),
    (flipped_sign_of_a_difference, truth.test_arithmetic_is_arithmetic),
    (shared_draws_in_a_product, truth.test_a_product_of_expectations_draws_anew),
    (shared_draws_inside_an_expectation, lambda: truth.test_several_samples_equal_a_loop_over_single_ones(5)),
    (no_shared_draws, truth.test_shared_draws_cancel),
    (one_draw_for_a_square, lambda: expressions.test_products_and_whole_powers_draw_anew_and_are_unbiased("E ** 2")),
    (shared_draws_in_a_product, lambda: expressions.test_products_and_whole_powers_draw_anew_and_are_unbiased("E ** 3")),
    (functions_draw_anew, lambda: expressions.test_expectations_that_meet_under_sums_and_functions_share_their_draws("difference of exps")),
    (a_function_loses_the_score, lambda: expressions.test_the_score_function_goes_through_a_function_by_the_chain_rule("log")),
    (missing_score, lambda: expressions.test_the_score_function_goes_through_a_function_by_the_chain_rule("exp")),
    (a_sum_for_a_mean_of_exponentials, lambda: expressions.test_an_expression_is_arithmetic_on_its_parts("log_mean_exp")),
    (missing_values_infinite, lambda: missing.test_what_was_seen_is_scored_and_what_was_not_is_never_felt("Gamma(rate)")),
    (missing_values_scored, lambda: missing.test_what_was_seen_is_scored_and_what_was_not_is_never_felt("Normal")),
    (missing_score, truth.test_score_gradients_of_a_joint_with_a_conditional_below),
    (missing_score, lambda: truth.test_gradient_through_a_bernoulli("score")),
    (baseline_with_the_own_draw, truth.test_score_gradients_of_a_joint_with_a_conditional_below),
    (score_inside_the_aggregate, in_float64(bounds.test_score_gradients_of_an_aggregate, 0.0, 3)),
    (missing_score, in_float64(estimators.test_the_scale_of_a_normal, "score, one draw")),
    (missing_score, in_float64(estimators.test_in_a_weighted_bound_the_score_multiplies_the_aggregate, estimators.moving)),
    (baseline_with_the_own_draw, in_float64(estimators.test_a_bernoulli_whose_costs_are_nearly_equal, "leave-one-out", "probs")),
    (baseline_not_weighted_by_what_is_summed_above, in_float64(estimators.test_a_baseline_below_a_sum_learns_the_cost_itself)),
    (relaxed_draw_without_its_logits, in_float64(estimators.test_relaxed_is_its_own_definition_by_quadrature, 0.5)),
    (temperature_ignored, in_float64(estimators.test_relaxed_is_its_own_definition_by_quadrature, 0.5)),
    (control_not_given_back, in_float64(estimators.test_rebar_of_a_categorical, 3)),
    (free_relaxed_draw_for_the_conditional, in_float64(estimators.test_rebar_of_a_categorical, 3)),
    (free_relaxed_draw_for_the_conditional, in_float64(estimators.test_estimators_of_a_chain_mix, "rebar in the middle")),
    (baseline_moves_what_it_sees, in_float64(estimators.test_estimators_of_a_chain_mix, "two learned")),
    (straight_through_without_a_mean, in_float64(estimators.test_straight_through_has_the_gradient_of_the_mean)),
    (
        baseline_trained_by_the_signed_gradient,
        in_float64(estimators.test_a_learned_baseline_goes_to_the_mean_cost_whatever_the_sign, 1, 1),
    ),
    (a_new_number_for_a_known_value, in_float64(sequences.test_what_is_drawn_after_a_recurrent_network_runs_once_for_a_step, "log q")),
    (costs_of_the_step_alone, in_float64(sequences.test_scores_reach_all_later_costs, 2)),
    (costs_of_all_steps_so_far, in_float64(sequences.test_scores_reach_all_later_costs, 1)),
    (the_value_of_the_same_step, in_float64(sequences.test_a_loop_by_hand, 1, "analytic")),
    (no_mask, in_float64(sequences.test_sequences_of_different_lengths)),
    (padding_in_the_networks, in_float64(sequences.test_sequences_of_different_lengths)),
    (networks_run_again, in_float64(sequences.test_what_does_not_depend_on_the_recurrence_runs_once)),
    (networks_run_again, in_float64(sequences.test_dropout_is_the_same_for_the_draw_and_for_its_density)),
    (the_first_marginal_for_all_steps, in_float64(sequences.test_a_finite_chain_is_summed_exactly, 3, 5)),
    (weights_of_the_variables_alone, in_float64(finite_sums.test_a_chain_of_which_each_term_needs_little, "pairs of neighbours")),
    (a_lost_number_of_draws, in_float64(bounds.test_renyi_bounds, 0.5)),
    (path_gradients_not_squared, in_float64(bounds.test_doubly_reparametrised_gradients_by_hand)),
    (unweighted_enumeration, lambda: truth.test_gradient_through_a_bernoulli("enumerate")),
    (stale_memo, lambda: evaluation.test_same_tensor_object_twice_in_training(vae())),
    (stale_memo, lambda: evaluation.test_value_changed_in_place_between_evaluations(vae())),
    (stale_memo, lambda: evaluation.test_parameters_changed_by_load_state_dict(vae())),
    (stale_memo, lambda: evaluation.test_parameters_changed_by_an_optimiser_step(vae())),
    (stale_memo, evaluation.test_deleted_model_and_30_past_batches_are_released),
    (no_memo, lambda: evaluation.test_encoder_and_decoder_run_exactly_once_per_step(vae(), "ELBO", 1)),
    (random_state_left_as_it_is, in_a_folder(checkpoints.test_training_goes_on_as_if_it_had_never_stopped, "SGD", "none")),
    (rounded_numbers, in_a_folder(checkpoints.test_what_the_caller_keeps_comes_back)),
    (states_without_a_way_back, a_refusal_halfway),
    (schedulers_not_saved, in_a_folder(checkpoints.test_training_goes_on_as_if_it_had_never_stopped, "SGD", "StepLR")),
    (any_state_fits, in_a_folder(checkpoints.test_a_learning_rate_stays_the_tensor_or_number_that_the_model_has, "Adam", "Adam tensor lr")),
    (written_in_place, a_full_disk),
    (the_last_by_name, in_a_folder(checkpoints.test_the_greatest_number_is_the_newest)),
]


@pytest.mark.parametrize(("plant", "test"), FAULTS, ids=[f"{i}-{plant.__name__}" for i, (plant, _) in enumerate(FAULTS)])
def test_a_planted_fault_fails(plant, test, monkeypatch):
    plant(monkeypatch)
    with pytest.raises((AssertionError, RuntimeError, KeyError, ValueError)):
        test()
    monkeypatch.undo()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    test()
