"""The tests of training and of checkpoints are worth something: each of these faults fails the test that is named beside it."""

import contextlib
import copy
from pathlib import Path

import pytest
import torch
from planted import Check, FromModule, changed, given, need_found
from torch import optim

from pixyz.core import CheckpointError
from pixyz.models import Model


def loading(change):
    """The fault that a load is `change(load, model, path)`, where `load(path)` does what it should."""
    return changed(Model, "load", lambda f: lambda self, path, **options: change(lambda path: f(self, path, **options), self, path))


def random_state_left_as_it_is(load, model, path):
    state = torch.get_rng_state()
    found = load(path)
    torch.set_rng_state(state)
    return found


def forgetting(owners):
    """The owners, such as the model's optimisers, keep the state that they had."""

    def change(load, model, path):
        before = [copy.deepcopy(owner.state_dict()) for owner in getattr(model, owners)]
        found = load(path)
        for owner, state in zip(getattr(model, owners), before):
            owner.load_state_dict(state)
        return found

    return loading(change)


def half_of_a_refused_state(load, model, path):
    """Optimisers keep what they took before something else refused the file."""
    taken, (optimizer,) = [], model.optimizers
    original = optimizer.load_state_dict

    def take(state):
        taken.append(copy.deepcopy(state))
        original(state)

    optimizer.load_state_dict = take
    try:
        return load(path)
    except CheckpointError:
        original(taken[0])
        raise
    finally:
        del optimizer.load_state_dict


def learning_rate_of_the_file(load, model, path):
    """A number becomes a tensor."""
    found = load(path)
    for group in model.optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]))
    return found


def the_last_by_name(load, model, path):
    if "{step}" not in str(path):
        return load(path)
    name = Path(path).name.replace("{step}", "")
    return load(max(file for file in Path(path).parent.iterdir() if file.name.removeprefix(name).isdigit()))


def rounded(value):
    if isinstance(value, float) and value - value == 0:
        return round(value, 12)
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return type(value)(map(rounded, value)) if type(value) in (list, tuple) else value


def saving(change):
    """The fault that a save is `change(save, path, extra)`, where `save(path, extra)` does what it should."""

    def make(f):
        def fault(self, path, *, extra=None, **options):
            return change(lambda path, extra: f(self, path, extra=extra, **options), path, extra)

        return fault

    return changed(Model, "save", make)


def written_in_place(save, path, extra):
    """What stood there is gone before there is anything to be written."""
    Path(path).write_bytes(b"")
    return save(path, extra)


def check(name, *arguments, **options):
    return Check("models", name, *arguments, **options)


def with_options(**options):
    """The fault that a model is made with these options, whatever is asked for."""
    return given(Model, lambda *arguments, **asked: (arguments, {**asked, **options}))


def nats_for_bits(f):
    return lambda self, values, *, unit="nats", **options: f(self, values, **options)


def one_draw_more(f):
    return lambda self, values, *, num_samples, **options: f(self, values, num_samples=num_samples + 1, **options)


goes_on = "test_training_goes_on_as_if_it_had_never_stopped"
FAULTS = {
    "a random state left as it is": (loading(random_state_left_as_it_is), check(goes_on, "SGD", "none")),
    "forgotten schedulers": (forgetting("schedulers"), check(goes_on, "SGD", "StepLR")),
    "a forgotten state of the optimiser": (forgetting("optimizers"), check(goes_on, "Adam", "none")),
    "a refused state, half of which is taken": (
        loading(half_of_a_refused_state),
        check("test_a_state_that_its_owner_does_not_take_is_taken_back", "scheduler", FromModule(lambda module: module.whole_file())),
    ),
    "a learning rate of the file": (
        loading(learning_rate_of_the_file),
        check("test_a_learning_rate_stays_the_tensor_or_number_that_the_model_has", "Adam tensor lr", "Adam"),
    ),
    "the last by name": (loading(the_last_by_name), check("test_the_greatest_number_is_the_newest")),
    "rounded numbers": (saving(lambda save, path, extra: save(path, rounded(extra))), check("test_what_the_caller_keeps_comes_back")),
    "every call a step": (
        with_options(accumulate=1),
        check("test_accumulated_gradients_are_those_of_the_big_batch", optim.SGD, float64=True),
    ),
    "a step that is not clipped": (with_options(clip_grad_norm=None), check("test_gradients_are_clipped", {"clip_grad_norm": 1e-3})),
    "training in the mode of evaluation": (
        changed(Model, "train", lambda f: lambda self, values: (f(self, values), self.loss.eval())[0]),
        check("test_train_sets_train_mode"),
    ),
    "no clipping": (with_options(clip_grad_norm=None), check("test_several_optimisers_equal_a_hand_written_loop", float64=True)),
    "no average": (
        changed(Model, "averaged", lambda f: lambda self: contextlib.nullcontext()),
        check("test_the_average_is_its_formula", float64=True),
    ),
    "a test of the last weights": (
        changed(Model, "test", lambda f: lambda self, values: self.loss.estimate(values)),
        check("test_the_test_loss_is_that_of_the_averages", float64=True),
    ),
    "nats for bits": (changed(Model, "log_likelihood", nats_for_bits), check("test_bits_by_hand")),
    "a draw more": (changed(Model, "log_likelihood", one_draw_more), check("test_few_draws_give_a_lower_bound")),
    "written in place": (saving(written_in_place), check("test_a_full_disk_leaves_the_previous_checkpoint", "write")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, monkeypatch):
    need_found(monkeypatch, *FAULTS[name])
