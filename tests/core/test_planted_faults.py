"""The tests of joints, posteriors, games and evaluations are worth something: each of these faults fails the test beside it."""

import itertools

import pytest
import torch
from planted import Check, changed, need_found, planted
from zoo import Decoder, Encoder, prior

from pixyz.core import Distribution, FormulaError, Joint, Loss, Posterior, Together
from pixyz.distributions import Normal


def vae():
    return Decoder(), Encoder(), prior()


def of_marginals(change):
    """The fault that a marginal has another log-likelihood: `change(log_likelihood, marginal, values)`."""

    def make(f):
        return lambda self, values, **options: change(f, self, values) if self.hidden_var and not options else f(self, values, **options)

    return changed(Distribution, "log_likelihood", make)


def maximum_for_a_sum(size):
    """The likelihood of the best path for that of all paths."""

    def best(log_likelihood, marginal, values):
        rows = [[row.expand(len(next(iter(values.values()))), -1) for row in torch.eye(size)]] * len(marginal.hidden_var)
        whole = Joint(marginal.factors)
        paths = [dict(zip(marginal.hidden_var, path)) for path in itertools.product(*rows)]
        return torch.stack([log_likelihood(whole, {**values, **path}) for path in paths]).amax(0)

    return of_marginals(best)


def stale_network(monkeypatch):
    """The published library's fault: what a network gave is kept for the whole process, by the identity of its input."""
    kept = {}

    def make(f):
        def fault(self, x):
            key = (id(self), id(x), torch.is_grad_enabled())
            kept.setdefault(key, (self, x))
            return kept.setdefault((*key, "parameters"), f(self, x))

        return fault

    changed(Encoder, "forward", make)(monkeypatch)


the_first_observation_for_all = of_marginals(
    lambda f, marginal, values: f(marginal, {k: values["x_1"] if k.startswith("x_") else v for k, v in values.items()})
)
draws_that_ignore_their_neighbours = changed(
    Posterior,
    "sample",
    lambda f: lambda self, *a, **options: {k: t[torch.randperm(len(t))] if k in self.var else t for k, t in f(self, *a, **options).items()},
)
lost_determinant = changed(Normal, "whitener", lambda f: lambda params, count: (f(params, count)[0], 0 * f(params, count)[1]))
doubled_noise = changed(Normal, "whitener", lambda f: lambda params, count: f({**params, "scale": 2 * params["scale"]}, count))
network_that_runs_again = changed(Encoder, "__call__", lambda f: lambda self, *a, **o: (f(self, *a, **o), f(self, *a, **o))[1])


def signs_unchecked(monkeypatch):
    def make(f):
        def fault(self, player):
            try:
                return f(self, player)
            except FormulaError:
                return self

        return fault

    planted(monkeypatch, Loss, "for_player", make)


def samples_that_are_one(f):
    """The same draw over the sample shape."""

    def fault(self, values=None, *, sample_shape=(), **options):
        found = f(self, values, **options)
        given = values or {}
        return {k: t if k in given else t.expand(*sample_shape, *t.shape) for k, t in found.items()}

    return fault


def sample_shape_for_every_factor(f):
    def fault(self, *arguments, sample_shape=(), **options):
        found = f(self, *arguments, sample_shape=sample_shape, **options)
        return {k: t.expand(*sample_shape, *t.shape) for k, t in found.items()}

    return fault


def own_values_ignored(f):
    return lambda self, values=None, **options: f(self, {k: v for k, v in (values or {}).items() if k in self.cond_var}, **options)


def exact(name, *arguments):
    return Check("core", name, *arguments, float64=True)


dynamical_system = exact("test_linear_dynamical_system_against_the_dense_gaussian", 3)
by_the_forward_algorithm = exact("test_hidden_markov_against_the_forward_algorithm", 2, 5)
by_enumeration = exact("test_hidden_markov_against_enumeration")
FAULTS = {
    "a lost determinant": (lost_determinant, dynamical_system),
    "doubled noise": (doubled_noise, dynamical_system),
    "a maximum for a sum": (maximum_for_a_sum(5), by_the_forward_algorithm),
    "a maximum for a sum, against all paths": (maximum_for_a_sum(3), by_enumeration),
    "the first observation for all": (the_first_observation_for_all, by_the_forward_algorithm),
    "draws that ignore their neighbours": (draws_that_ignore_their_neighbours, by_enumeration),
    "paths of draws that ignore their neighbours": (
        draws_that_ignore_their_neighbours,
        exact("test_paths_of_a_linear_dynamical_system_are_drawn_from_its_posterior"),
    ),
    "a renaming that renames nothing": (
        changed(Distribution, "replace_var", lambda f: lambda self, **names: self),
        Check("core", "test_replace_var_swaps"),
    ),
    "a quotient that is the whole": (
        changed(Distribution, "__truediv__", lambda f: lambda self, other: self),
        exact("test_dividing_by_a_marginal_or_a_factor"),
    ),
    "another condition": (
        changed(Distribution, "condition", lambda f: lambda self, **values: f(self, **{v: t + 1 for v, t in values.items()})),
        exact("test_conditioning_on_a_number"),
    ),
    "a lost determinant in a tree": (lost_determinant, exact("test_linear_gaussian_tree_against_the_dense_gaussian")),
    "one sample for all": (
        changed(Distribution, "sample", samples_that_are_one),
        Check("core", "test_samples_are_independent_over_the_sample_shape"),
    ),
    "a sample shape for every factor": (
        changed(Distribution, "sample", sample_shape_for_every_factor),
        Check("core", "test_sample_shape_is_applied_once"),
    ),
    "a given value that is drawn": (
        changed(Distribution, "sample", own_values_ignored),
        Check("core", "test_sampling_given_an_own_variable_conditions_on_it"),
    ),
    "a stale evaluation of several losses": (
        changed(Together, "keep", lambda f: lambda self, modules: None),
        Check("core", "test_together_a_network_runs_once_and_again_when_it_has_changed"),
    ),
    "signs of games unchecked": (
        signs_unchecked,
        Check("core", "test_a_game_is_not_subtracted", lambda game, q: -game),
        pytest.fail.Exception,
    ),
    "the other players' terms": (
        changed(Loss, "for_player", lambda f: lambda self, player: self),
        Check("core", "test_each_plays_for_its_terms"),
    ),
    "a network that runs again": (
        network_that_runs_again,
        lambda: Check("core", "test_encoder_and_decoder_run_exactly_once_per_step", vae(), "ELBO", 1)(),
    ),
}
STALE = [
    "test_same_tensor_object_twice_in_training",
    "test_value_changed_in_place_between_evaluations",
    "test_parameters_changed_by_load_state_dict",
    "test_parameters_changed_by_an_optimiser_step",
]


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, monkeypatch):
    need_found(monkeypatch, *FAULTS[name])


@pytest.mark.parametrize("name", STALE)
def test_a_stale_network_is_found(name, monkeypatch):
    need_found(monkeypatch, stale_network, lambda: Check("core", name, vae())(), (AssertionError, RuntimeError))


def test_a_network_whose_inputs_are_kept_is_found(monkeypatch):
    need_found(monkeypatch, stale_network, Check("core", "test_deleted_model_and_30_past_batches_are_released"))
