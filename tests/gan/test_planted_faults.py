"""The tests of games are worth something: each of these faults fails the test that is named beside it."""

import contextlib
import math

import pytest
import torch
from planted import Check, changed, given, need_found, planted

from pixyz.core import Game, Loss, Together
from pixyz.distributions import Bernoulli, Deterministic
from pixyz.gan import (
    GAN,
    R1,
    R2,
    AdversarialFDivergence,
    AdversarialHinge,
    AdversarialKullbackLeibler,
    AdversarialLeastSquares,
    AdversarialNonSaturating,
    AdversarialWassersteinDistance,
    DiffAugment,
    ProductOfMarginals,
    RelativisticAverage,
    RelativisticPairing,
)
from pixyz.models import Model


def plays_for(owner, change):
    """The fault that a game has other sides: `change(objective, loss)`, what is maximised, and what is minimised if that is another."""
    return changed(owner, "played", lambda f: lambda self, duel: change(*f(self, duel)))


def of_player(owner, change):
    """The fault that a player has another loss: `change(loss, is_maximiser)`."""

    def make(f):
        return lambda self, player: change(f(self, player), player is self.maximiser)

    return changed(owner, "for_player", make)


def penalty_of(owner, change):
    """The fault that a penalty has another objective: `change(objective, p, d)`."""

    def make(f):
        def fault(self, p, d, *rest, **options):
            f(self, p, d, *rest, **options)
            objective = change(self.objective, p, d)
            Game.__init__(self, objective, (), d)

        return fault

    return changed(owner, "__init__", make)


def conjugate_of_another(monkeypatch):
    """Of pearson, whose g is the same."""
    given(AdversarialFDivergence, lambda *a, divergence, **o: (a, {**o, "divergence": "pearson" if divergence == "kl" else divergence}))(
        monkeypatch
    )


def labels_swapped(check):
    """What d says of a datum is what it says of a fake."""
    return lambda monkeypatch: planted(monkeypatch, check.module.OfX, "forward", lambda f: lambda self, x: -f(self, x))


def mean_of_the_wrong_side(monkeypatch):
    def make(f):
        def fault(self, duel):
            duel.against_mean = lambda g: duel.fake(g(duel.fake(duel.fake_output)))
            return f(self, duel)

        return fault

    planted(monkeypatch, RelativisticAverage, "played", make)


def trained_in_turns(monkeypatch, order):
    """A step by hand, with the same draws for both players."""

    def fault(self, values):
        state, losses = torch.get_rng_state(), {}
        for player in order:
            side = {"p": self.p, "d": self.discriminator}[player]
            weights = [*side.parameters()]
            (optimizer,) = [o for o in self.optimizers if any(w is weights[0] for w in o.param_groups[0]["params"])]
            torch.set_rng_state(state)
            loss = self.loss.for_player(side).estimate(values)
            optimizer.zero_grad()
            loss.backward(inputs=weights)
            optimizer.step()
            losses[player] = loss.detach()
        return losses["p"], losses["d"]

    planted(monkeypatch, GAN, "train", lambda f: fault)


def after_a_step(change):
    """The fault that a step ends with `change(model, values)`."""
    return changed(Model, "train", lambda f: lambda self, values: (f(self, values), change(self, values))[0])


def generator_runs_once_more(model, values):
    model.loss.for_player(model.loss.maximiser).estimate(values)


def gradients_for_all(model, values):
    model.loss.eval()  # which leaves the buffers as they are
    model.loss.for_player(model.loss.maximiser).estimate(values).backward()
    model.loss.train()


def one_shift_for_all(monkeypatch):
    def make(f):
        def fault(self, x):
            state, images = torch.get_rng_state(), []
            for image in x.split(1):
                torch.set_rng_state(state)
                images.append(f(self, image))
            return torch.cat(images)

        return fault

    planted(monkeypatch, DiffAugment, "forward", make)


def noisy(f):
    return lambda self, *arguments, **options: f(self, *arguments, **options) + torch.randn(()).double()


def a_neighbour_more(check):
    return lambda monkeypatch: planted(monkeypatch, check.module, "sample_quality", lambda f: lambda real, fake, k: f(real, fake, k + 1))


def by_straight_through(*arguments, estimator=None, **options):
    return arguments, {**options, "estimator": {"x": "straight_through", "z": "pathwise"} if estimator is None else estimator}


def gan(name, *arguments):
    return Check("gan", name, *arguments, float64=True)


def training(name, *arguments):
    return Check("gan", name, *arguments)


def table(name, kind=Deterministic):
    return gan("test_each_side_plays_for_what_the_table_says", name, kind)


best_js = gan("test_at_the_best_discriminator_the_value_is_twice_js_minus_two_log_two")
squared_slopes = gan("test_the_squared_slopes", R1, Deterministic)
by_score = gan("test_a_generator_of_discrete_data_learns_by_the_score", Bernoulli, AdversarialNonSaturating)
by_hand = training("test_a_hundred_steps_equal_a_hand_written_loop")
alone = training("test_a_step_of_one_player_leaves_the_other_as_it_was", False)
quality = training("test_sample_quality_is_what_a_loop_finds", 30, 20, 2, 1)
bound = "test_the_bound_of_an_f_divergence"
all_evaluated_anew = changed(Together, "keep", lambda f: lambda self, modules: f(self, set()))
# The generator plays against what the discriminator was.
stale_evaluation = changed(Together, "keep", lambda f: lambda self, modules: None)
FAULTS = {
    "sign swapped": (
        plays_for(AdversarialKullbackLeibler, lambda most, least: (most, -least)),
        gan("test_at_the_best_discriminator_kl_is_that_of_the_normals"),
    ),
    "a sum over the two data for their mean": (
        plays_for(AdversarialWassersteinDistance, lambda most, _: (2 * most, None)),
        table("AdversarialWassersteinDistance"),
    ),
    "a half lost": (
        plays_for(AdversarialLeastSquares, lambda most, least: (2 * most, 2 * least)),
        table("AdversarialLeastSquares"),
    ),
    "a constant lost": (plays_for(AdversarialFDivergence, lambda most, _: (most - math.log(2), None)), gan(bound, "jensen_shannon")),
    "the conjugate of another divergence": (conjugate_of_another, gan(bound, "kl")),
    "labels swapped": (labels_swapped(best_js), best_js),
    "logits swapped": (
        changed(Bernoulli, "log_density", lambda f: lambda params, x: f(params, 1 - x)),
        table("AdversarialJensenShannon", Bernoulli),
    ),
    "the generator's hinge saturates": (plays_for(AdversarialHinge, lambda most, _: (most, None)), table("AdversarialHinge")),
    "saturating": (plays_for(AdversarialNonSaturating, lambda most, _: (most, None)), table("AdversarialNonSaturating")),
    "pairs exchanged": (plays_for(RelativisticPairing, lambda most, least: (-least, -most)), table("RelativisticPairing")),
    "the mean of the wrong side": (mean_of_the_wrong_side, table("RelativisticAverage")),
    "the real side forgotten": (
        changed(AdversarialNonSaturating, "minimisers", lambda f: lambda self, duel: f(self, duel)[:1]),
        gan("test_a_discriminator_of_a_pair"),
    ),
    "R1 at the fakes": (penalty_of(R1, lambda _, p, d: R2(p, d).objective), squared_slopes),
    "a slope that is not squared": (penalty_of(R1, lambda objective, p, d: objective**0.5), squared_slopes),
    "the slope of the batch": (penalty_of(R1, lambda objective, p, d: 2 * objective), squared_slopes),
    "a slope without gradient": (penalty_of(R1, lambda objective, p, d: objective.detach()), squared_slopes),
    "a mix of fakes alone": (
        changed(Loss, "estimate", lambda f: lambda self, values: f(self, {**values, "x": values["z"]})),  # which p returns
        gan("test_the_gradient_penalty_is_between_a_datum_and_its_fake", False),
    ),
    "fakes detached": (
        of_player(AdversarialNonSaturating, lambda loss, is_d: loss if is_d else loss.detach() + 0 * loss),
        gan("test_the_gradient_is_that_of_finite_differences", "AdversarialNonSaturating", "p"),
    ),
    "a biased score": (given(AdversarialNonSaturating, by_straight_through), by_score),
    "a stale evaluation in training": (stale_evaluation, by_hand, (AssertionError, RuntimeError)),
    "all evaluated anew": (all_evaluated_anew, training("test_the_generator_runs_once_in_a_step")),
    "the generator first": (lambda monkeypatch: trained_in_turns(monkeypatch, "pd"), by_hand),
    "buffers of the other player moved": (after_a_step(generator_runs_once_more), alone),
    "gradients for all": (after_a_step(gradients_for_all), alone),
    "at once, in turns": (
        given(Model, lambda *a, **options: (a, {**options, "at_once": False})),
        training("test_at_once_both_step_from_the_same_weights"),
    ),
    "every call a step": (
        given(Model, lambda *a, **options: (a, {**options, "accumulate": 1})),
        training("test_calls_that_accumulate_are_one_call_with_all_data"),
    ),
    "no average": (
        changed(Model, "averaged", lambda f: lambda self: contextlib.nullcontext()),
        gan("test_the_average_is_of_the_generator_alone"),
    ),
    "the discriminator's minus forgotten": (
        of_player(AdversarialHinge, lambda loss, is_d: -loss if is_d else loss),
        table("AdversarialHinge"),
    ),
    "the discriminator counted once": (given(Model, lambda *a, **options: (a, {**options, "n_critic": 1})), alone),
    "noise in a penalty": (changed(R1, "estimate", noisy), gan("test_a_public_game_obeys_the_laws", "R1")),
    "one permutation for all features": (
        changed(ProductOfMarginals, "sample", lambda f: lambda self, values: {"z": values["x"][torch.randperm(len(values["x"]))]}),
        training("test_each_feature_is_permuted_by_itself"),
    ),
    "a neighbour more": (a_neighbour_more(quality), quality),
    "cut out, everything": (
        changed(DiffAugment, "forward", lambda f: lambda self, x: 0 * f(self, x)),
        gan("test_an_augmentation_is_what_a_plain_loop_does", "cutout"),
    ),
    "one shift for all": (one_shift_for_all, gan("test_an_augmentation_is_what_a_plain_loop_does", "translation")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(monkeypatch, name):
    need_found(monkeypatch, *FAULTS[name])


def test_a_step_by_hand_is_right_in_the_right_order(monkeypatch):
    """So that the fault of the generator first is its order alone."""
    trained_in_turns(monkeypatch, "dp")
    by_hand()
