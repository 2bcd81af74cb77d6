"""Gradients of a step of several calls, some of which are None between two of them."""

import pytest
import torch
from graphable import MOMENTUM, SGD, adversaries, autoencoder, batches, graphs_of, need_same, state_of, train

DATA = batches(8)


def forgotten(model):
    """The gradients of the first call of the step are forgotten before the second."""
    train(model, DATA[:5])
    model.optimizers[0].zero_grad()
    train(model, DATA[5:])


def at_first_frozen(model):
    train(model, DATA[:4])
    weight = model.trained_parameters[0]
    weight.requires_grad_(False)
    train(model, DATA[4:5])
    weight.requires_grad_(True)
    train(model, DATA[5:])


def frozen_at_last(model):
    train(model, DATA[:4])
    weight = model.trained_parameters[0]
    train(model, DATA[4:5])
    weight.requires_grad_(False)
    train(model, DATA[5:6])
    train(model, DATA[:4])


def frozen_now_and_then(model):
    """Steps of which the second call alone has another signature, also when that has been captured."""
    weight = model.trained_parameters[0]
    for values in DATA:
        weight.requires_grad_(not model.is_between_steps)
        train(model, [values])


RUNS = (forgotten, at_first_frozen, frozen_at_last, frozen_now_and_then)
BUILT = {
    "two calls": lambda: autoencoder(**MOMENTUM, accumulate=2),
    "game at once": lambda: adversaries(**SGD, at_once=True, accumulate=2),
}
CASES = [(name, run, on_change) for name, on_change in zip(BUILT, ("recapture", "eager"), strict=True) for run in RUNS]


@pytest.mark.parametrize(("name", "run", "on_change"), [*CASES, ("two calls", frozen_now_and_then, "eager")])
def test_a_gradient_that_is_none_between_the_calls_of_a_step_is_no_older_one(name, run, on_change):
    eager, (model, graphs) = BUILT[name](), graphs_of(BUILT[name](), on_change=on_change)
    for each in (eager, model):
        torch.manual_seed(0)
        run(each)
    need_same(state_of(model), state_of(eager))
    assert graphs.replays
