"""The tests of games are worth something: each of these faults, planted in the library, fails the test that is named beside it."""

from functools import partial

import pytest
import torch
from core import test_games as sums
from gan import test_around_the_discriminator as around
from gan import test_divergences as divergences
from gan import test_games as games
from gan import test_gradients as gradients
from gan import test_losses as losses
from planted import planted

from pixyz.core import Term, Together, _game
from pixyz.gan import (
    AdversarialHinge,
    AdversarialKullbackLeibler,
    AdversarialLeastSquares,
    AdversarialNonSaturating,
    _augmentation,
    _averaged,
    _duel,
    _f_divergence,
    _gradient_penalty,
    _judged,
    _losses,
    _penalties,
    _relativistic,
)
from pixyz.models import _step, _turn


def sign_swapped(monkeypatch):
    planted(monkeypatch, AdversarialKullbackLeibler, "played", lambda f: lambda self, duel: (f(self, duel)[0], -f(self, duel)[1]))


def sum_for_a_mean(monkeypatch):
    def make(f):
        def fault(self, scope):
            tensor, dims = f(self, scope)
            return Term(tensor * scope.batch, dims)

        return fault

    planted(monkeypatch, _averaged.Averaged, "evaluate", make)


def half_lost(monkeypatch):
    planted(monkeypatch, AdversarialLeastSquares, "played", lambda f: lambda self, duel: tuple(2 * each for each in f(self, duel)))


def constant_lost(monkeypatch):
    rows = dict(_f_divergence.DIVERGENCES)
    rows["jensen_shannon"] = rows["jensen_shannon"]._replace(activation=lambda v: -torch.nn.functional.softplus(-v))
    monkeypatch.setattr(_f_divergence, "DIVERGENCES", rows)


def conjugate_of_another(monkeypatch):
    rows = dict(_f_divergence.DIVERGENCES)
    rows["kl"] = rows["kl"]._replace(conjugate=torch.exp)
    monkeypatch.setattr(_f_divergence, "DIVERGENCES", rows)


def labels_swapped(monkeypatch):
    real, fake = _losses.log_real, _losses.log_fake
    monkeypatch.setattr(_losses, "log_real", fake)
    monkeypatch.setattr(_losses, "log_fake", real)


def logits_swapped(monkeypatch):
    """Of a Bernoulli, log d(t=0|x) - log d(t=1|x)."""

    def make(f):
        def fault(factor, scope, who):
            tensor, dims = f(factor, scope, who)
            return Term(tensor if factor.dist.is_deterministic else -tensor, dims)

        return fault

    planted(monkeypatch, _judged, "number_of", make)


def hinge_for_the_generator(monkeypatch):
    """The generator's loss saturates, too."""
    planted(monkeypatch, AdversarialHinge, "played", lambda f: lambda self, duel: (f(self, duel)[0], None))


def saturating(monkeypatch):
    planted(monkeypatch, AdversarialNonSaturating, "played", lambda f: lambda self, duel: (f(self, duel)[0], None))


def pairs_exchanged(monkeypatch):
    planted(monkeypatch, _relativistic.RelativisticPairing, "played", lambda f: lambda self, duel: tuple(-x for x in f(self, duel)[::-1]))


def mean_of_the_wrong_side(monkeypatch):
    planted(monkeypatch, _duel.Duel, "against_mean", lambda f: lambda self, g: self.fake(g(self.fake(self.fake_output))))


def real_side_forgotten(monkeypatch):
    monkeypatch.setattr(_duel.Duel, "trains_real", False)


def penalty_at_the_fakes(monkeypatch):
    monkeypatch.setattr(_penalties, "Duel", type("Blind", (_duel.Duel,), {"data": _duel.Duel.fake}))


def slope_not_squared(monkeypatch):
    planted(monkeypatch, _penalties.SquaredSlope, "_length", lambda f: _penalties.Slope._length)


def slope_of_the_batch(monkeypatch):
    """The norm over all data together."""

    def make(f):
        def fault(self, scope):
            tensor, dims = f(self, scope)
            return Term(torch.linalg.vector_norm(tensor).expand(tensor.shape), dims)

        return fault

    planted(monkeypatch, _penalties.Slope, "evaluate", make)


def slope_detached(monkeypatch):
    planted(
        monkeypatch,
        _penalties.Slope,
        "evaluate",
        lambda f: lambda self, scope: Term(*[x.detach() if torch.is_tensor(x) else x for x in f(self, scope)]),
    )


def mix_of_fakes_alone(monkeypatch):
    planted(monkeypatch, _gradient_penalty.torch, "lerp", lambda f: lambda x, y, share: x)


def fakes_detached(monkeypatch):
    """The generator's gradient is lost on the way."""

    def make(f):
        def fault(self, scope, d, batch):
            bindings = {v: b._replace(tensor=b.tensor.detach()) for v, b in d.bindings.items()}
            return f(self, scope, d._replace(bindings=bindings), batch)

        return fault

    planted(monkeypatch, _averaged.Drawn, "_body", make)


def biased_score(monkeypatch):
    monkeypatch.setattr(_averaged, "one_draw", lambda q: {"x": "straight_through", "z": "pathwise"})


def stale_evaluation(monkeypatch):
    """The generator plays against what the discriminator was."""
    monkeypatch.setattr(Together, "keep", lambda self, modules: None)


def all_evaluated_anew(monkeypatch):
    planted(monkeypatch, Together, "keep", lambda f: lambda self, modules: self._scope.shared.memo.clear())


def generator_first(monkeypatch):
    planted(monkeypatch, _step, "make_turns", lambda f: lambda *a, **o: f(*a, **o)[::-1])


def buffers_not_put_back(monkeypatch):
    monkeypatch.setattr(_turn.Turn, "keep_others", lambda self: [])


def gradients_for_all(monkeypatch):
    """A step of one player leaves gradients with the other."""
    planted(
        monkeypatch,
        _turn.Turn,
        "backward",
        lambda f: lambda self, loss, engine, share, **how: engine.backward(loss, gradient=None, inputs=None, **how),
    )


def at_once_in_turns(monkeypatch):
    planted(monkeypatch, _step.Steps, "_arrange", lambda f: lambda self, *a, at_once, **o: f(self, *a, at_once=False, **o))


def minus_forgotten(monkeypatch):
    """The discriminator minimises."""
    planted(monkeypatch, _game, "_part", lambda f: lambda *a, maximises: -f(*a, maximises=True) if maximises else f(*a, maximises=False))


def signs_unchecked(monkeypatch):
    monkeypatch.setattr(_game, "_check_sign", lambda loss, game: None)


def terms_not_sorted(monkeypatch):
    """A player has the others' terms."""
    planted(monkeypatch, _game, "_part", lambda f: lambda loss, *a, **o: loss)


def critic_counted_once(monkeypatch):
    planted(monkeypatch, _step.Steps, "_arrange", lambda f: lambda self, *a, n_critic, **o: f(self, *a, n_critic=1, **o))


def cutout_of_everything(monkeypatch):
    planted(monkeypatch, _augmentation, "_interval", lambda f: lambda n, size, x: torch.ones_like(f(n, size, x)))


def one_shift_for_all(monkeypatch):
    planted(monkeypatch, _augmentation, "_shifts", lambda f: lambda n, size, x: f(n, size, x)[:1].expand(n, 1))


def table(name, kind=losses.Deterministic):
    return partial(losses.test_each_side_plays_for_what_the_table_says, name, kind)


def differences(name, player):
    return partial(gradients.test_the_gradient_is_that_of_finite_differences, name, player)


slopes = partial(losses.test_the_squared_slopes, losses.R1, losses.Deterministic)
by_score = partial(gradients.test_a_generator_of_discrete_data_learns_by_the_score, losses.Bernoulli, AdversarialNonSaturating)
alone = partial(games.test_a_step_of_one_player_leaves_the_other_as_it_was, False)

FAULTS = {
    "sign swapped": (sign_swapped, divergences.test_at_the_best_discriminator_kl_is_that_of_the_normals),
    "sum for a mean": (sum_for_a_mean, table("AdversarialWassersteinDistance")),
    "a half lost": (half_lost, table("AdversarialLeastSquares")),
    "a constant lost": (constant_lost, partial(divergences.test_the_bound_of_an_f_divergence, "jensen_shannon")),
    "the conjugate of another divergence": (conjugate_of_another, partial(divergences.test_the_bound_of_an_f_divergence, "kl")),
    "labels swapped": (labels_swapped, divergences.test_at_the_best_discriminator_the_value_is_twice_js_minus_two_log_two),
    "logits swapped": (logits_swapped, table("AdversarialJensenShannon", losses.Bernoulli)),
    "the generator's hinge": (hinge_for_the_generator, table("AdversarialHinge")),
    "saturating": (saturating, games.test_a_hundred_steps_equal_a_hand_written_loop),
    "pairs exchanged": (pairs_exchanged, table("RelativisticPairing")),
    "the mean of the wrong side": (mean_of_the_wrong_side, table("RelativisticAverage")),
    "the real side forgotten": (real_side_forgotten, losses.test_a_discriminator_of_a_pair),
    "R1 at the fakes": (penalty_at_the_fakes, slopes),
    "a slope that is not squared": (slope_not_squared, slopes),
    "the slope of the batch": (slope_of_the_batch, slopes),
    "a slope without gradient": (slope_detached, slopes),
    "a mix of fakes alone": (mix_of_fakes_alone, partial(losses.test_the_gradient_penalty_is_between_a_datum_and_its_fake, False)),
    "fakes detached": (fakes_detached, differences("AdversarialNonSaturating", "p")),
    "a biased score": (biased_score, by_score),
    "a stale evaluation": (stale_evaluation, sums.test_together_a_network_runs_once_and_again_when_it_has_changed),
    "a stale evaluation in training": (stale_evaluation, games.test_a_hundred_steps_equal_a_hand_written_loop),
    "all evaluated anew": (all_evaluated_anew, games.test_the_generator_runs_once_in_a_step),
    "the generator first": (generator_first, games.test_a_hundred_steps_equal_a_hand_written_loop),
    "buffers not put back": (buffers_not_put_back, alone),
    "gradients for all": (gradients_for_all, alone),
    "at once, in turns": (at_once_in_turns, games.test_at_once_both_step_from_the_same_weights),
    "the discriminator's minus forgotten": (minus_forgotten, table("AdversarialHinge")),
    "signs unchecked": (signs_unchecked, partial(sums.test_a_game_is_not_subtracted, lambda game, q: -game)),
    "the discriminator counted once": (critic_counted_once, alone),
    "the others' terms": (terms_not_sorted, sums.test_each_plays_for_its_terms),
    "cut out, everything": (cutout_of_everything, partial(around.test_an_augmentation_is_what_a_plain_loop_does, "cutout")),
    "one shift for all": (one_shift_for_all, partial(around.test_an_augmentation_is_what_a_plain_loop_does, "translation")),
}


def run(test, module_of_float64):
    torch.set_default_dtype(torch.float64 if module_of_float64 else torch.float32)
    torch.manual_seed(0)
    test()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fails_a_test(monkeypatch, name):
    plant, test = FAULTS[name]
    module = getattr(test, "func", test).__module__.rpartition(".")[2]
    in_float64 = module in ("test_losses", "test_divergences", "test_gradients", "test_around_the_discriminator")
    run(test, in_float64)
    plant(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception, RuntimeError)):
        run(test, in_float64)
