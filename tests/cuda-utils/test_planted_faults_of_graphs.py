"""Faults in what graphs do, and the tests that find them."""

import pytest
import torch
from planted import Check, changed, need_found
from recorded_graphs import Recorded

from pixyz.models import Model
from pixyz.models.steps import StepProgram


def after_replays(what):
    """The fault that something happens besides at each replay."""

    def make(capture):
        def fault(self, work):
            replay = capture(self, work)

            def again():
                replay()
                what(self)

            return again

        return fault

    return changed(Recorded, "capture", make)


def same_noise(graphs):
    """The generator does not go on with a replay."""
    torch.set_rng_state(graphs.random)


def with_state_kept(capture):
    def fault(self, work):
        self.random = torch.get_rng_state()
        return capture(self, work)

    return fault


def values_of_the_first_step(train):
    """Static inputs that are rebound, so that the graph reads those of the capture."""

    def fault(self, values, **options):
        if not isinstance(getattr(self, "first", None), dict):
            self.first = {name: t.clone() for name, t in values.items()}
        graphed = type(self.executor).__name__ == "Replays"
        return train(self, self.first if graphed else values, **options)

    return fault


def without(owner, name, value=None):
    return changed(owner, name, lambda f: lambda *arguments, **options: value)


def only_in_captures(make):
    """A fault of what is captured, not of the steps that it is held against."""

    def wrapped(f):
        def fault(self, *arguments, advance=True, **options):
            return f(self, *arguments, advance=advance, **options) if advance else make(f, self, *arguments, advance=advance, **options)

        return fault

    return changed(StepProgram, "compute", wrapped)


def number_of_the_average(f, self, *arguments, share=None, **options):
    """The share of the weights in their average is that of the capture."""
    return f(self, *arguments, share=None if share is None else 0.5, **options)


def rate_of_the_capture(f, self, *arguments, **options):
    """Learning rates are numbers while the step is captured."""
    groups = [group for turn in self.turns for o in turn.optimizers.values() for group in o.param_groups]
    rates = [group["lr"] for group in groups]
    for group in groups:
        group["lr"] = 0.1
    try:
        return f(self, *arguments, **options)
    finally:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate


def unchecked(f, self, *arguments, **options):
    """The flags of the checks are not in the graph: the step that is captured is one without checks."""
    kept = [turn.check for turn in self.turns]
    for turn in self.turns:
        turn.check = type(turn.check).__mro__[1]()
    try:
        return f(self, *arguments, **options)
    finally:
        for turn, check in zip(self.turns, kept, strict=True):
            turn.check = check


def moved(tensors):
    """What a warm-up moves is not put back."""

    def make(phases):
        def fault(self):
            with torch.no_grad():
                for tensor in tensors(self):
                    tensor += 1
            return phases(self)

        return fault

    return changed(StepProgram, "phases", make)


def states(program):
    return [t for turn in program.turns for o in turn.optimizers.values() for entry in o.state.values() for t in entry.values()]


def steps(name, *arguments):
    return Check("cuda-utils", name, *arguments)


EQUAL = "test_replays_are_the_steps_without_a_graph"
UNDONE = "test_a_capture_leaves_everything_as_it_was"
FAULTS = {
    "the values of the first step": (changed(Model, "train", values_of_the_first_step), steps(EQUAL, "SGD")),
    "schedulers that stand still": (without(StepProgram, "advance"), steps(EQUAL, "scheduler")),
    "a learning rate of the capture": (only_in_captures(rate_of_the_capture), steps(EQUAL, "scheduler")),
    "a share of the capture": (only_in_captures(number_of_the_average), steps(EQUAL, "average")),
    "flags that are not captured": (
        only_in_captures(unchecked),
        steps("test_a_nan_step_changes_no_weight_and_is_an_error_of_the_next_call"),
    ),
    "running statistics of the warm-up": (moved(lambda program: program.loss.buffers()), steps(UNDONE, "Adam")),
    "weights of the warm-up": (moved(lambda program: program.loss.parameters()), steps(UNDONE, "Adam")),
    "states of optimisers of the warm-up": (moved(states), steps(UNDONE, "Adam")),
    "averages of the warm-up": (moved(lambda program: program.ema.averages), steps(UNDONE, "average")),
    "draws of the warm-up": (
        changed(StepProgram, "phases", lambda f: lambda self: (torch.rand(1), f(self))[1]),
        steps(UNDONE, "Adam"),
    ),
    "a replay that draws the same": (
        lambda monkeypatch: (
            changed(Recorded, "capture", with_state_kept)(monkeypatch),
            after_replays(same_noise)(monkeypatch),
        ),
        steps("test_noise_differs_from_replay_to_replay"),
    ),
    "a graph of one phase for all": (
        changed(StepProgram, "phase", lambda f: lambda self, step: self.phases()[0]),
        steps(EQUAL, "accumulated"),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, monkeypatch):
    need_found(monkeypatch, *FAULTS[name], kinds=(AssertionError, pytest.fail.Exception))
