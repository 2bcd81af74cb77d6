"""What a checkpoint or its loading may forget is found: the training that goes on ends otherwise than the one that was left alone."""

import copy
import dataclasses

import pytest
import torch
from killed import assert_cut_ends_as_one_left_alone
from planted import changed

from pixyz.models import Model

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


def loading(change):
    """The fault that a load is `change(load, model)`, where `load()` does what it should."""
    return changed(Model, "load", lambda f: lambda self, path, **options: change(lambda: f(self, path, **options), self))


def keeping(owners):
    """The fault that these parts of a model, which `owners(model)` lists, keep the state that they had."""

    def change(load, model):
        before = [copy.deepcopy(owner.state_dict()) for owner in owners(model)]
        found = load()
        for owner, state in zip(owners(model), before, strict=True):
            owner.load_state_dict(state)
        return found

    return loading(change)


def random_state_left_as_it_is(load, model):
    state = torch.get_rng_state()
    found = load()
    torch.set_rng_state(state)
    return found


def position_changed(change):
    def moved(load, model):
        found = load()
        return dataclasses.replace(found, position={**found.position, **change(found.position)})

    return loading(moved)


def steps_forgotten(load, model):
    found = load()
    model.step_count = 0
    return found


def weights_left_as_they_are(chosen):
    """The fault that some weights and buffers, by their names, are not loaded."""

    def change(load, model):
        state = {name: t.clone() for name, t in model.loss.state_dict().items() if chosen in name}
        assert state
        found = load()
        model.loss.load_state_dict({**model.loss.state_dict(), **state})
        return found

    return loading(change)


def saved_in_the_middle_of_a_step(monkeypatch):
    monkeypatch.setattr(Model, "is_between_steps", property(lambda self: True))


AFTER = ("after a step", 3)
FAULTS = {
    "the random state is forgotten": (loading(random_state_left_as_it_is), "VI", *AFTER),
    "the average of the weights is forgotten": (keeping(lambda model: [model.ema]), "VAE", *AFTER),
    "the scheduler is forgotten": (keeping(lambda model: model.schedulers), "ML", "before the update", 3),
    "the state of the second player's optimiser is forgotten": (keeping(lambda model: model.optimizers[1:]), "GAN with a penalty", *AFTER),
    "the gradients of a step that is not complete are lost": (saved_in_the_middle_of_a_step, "accumulated", "after a step", 5),
    "one batch is left out": (position_changed(lambda p: {"batch": p["batch"] + 1}), "VI", *AFTER),
    "one batch comes twice": (position_changed(lambda p: {"batch": p["batch"] - 1}), "VI", *AFTER),
    "another epoch's order": (position_changed(lambda p: {"epoch": p["epoch"] + 1}), "ragged series", *AFTER),
    "the baseline's weights are forgotten": (weights_left_as_they_are("baseline"), "IWAE, scored", *AFTER),
    "the moving baseline is forgotten": (weights_left_as_they_are("baseline"), "ELBO, moving baseline", *AFTER),
    "the running statistics are forgotten": (weights_left_as_they_are("running_"), "VAE", *AFTER),
    "the flow starts from data again": (weights_left_as_they_are("started"), "a flow", *AFTER),
    "the schedules begin anew": (loading(steps_forgotten), "schedules", *AFTER),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_forgotten_is_found(name, monkeypatch):
    plant, training, place, count = FAULTS[name]
    assert_cut_ends_as_one_left_alone(training, place, count)
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="differ"):
        assert_cut_ends_as_one_left_alone(training, place, count)
