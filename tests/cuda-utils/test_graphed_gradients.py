"""Gradients of a step of several calls, some of which are None between two of them, and values that require a gradient."""

import pytest
import torch
from graphable import MOMENTUM, SGD, adversaries, autoencoder, batches, graphs_of, need_same, state_of, train

from pixyz.cuda_utils import GraphError, graph_report, graphed

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


def with_gradient(values):
    return {"x": values["x"].clone().requires_grad_()}


@pytest.mark.parametrize("on_change", ["eager", "recapture"])
def test_values_that_require_a_gradient_get_it(on_change):
    given = [[with_gradient(values) for values in DATA[:3]] for _ in range(2)]
    eager, (model, _) = autoencoder(**SGD), graphs_of(autoencoder(**SGD), on_change=on_change)
    for each, data in zip((eager, model), given, strict=True):
        train(each, [DATA[0], *data, DATA[0]])
    need_same([values["x"].grad for values in given[1]], [values["x"].grad for values in given[0]])
    need_same(state_of(model), state_of(eager))
    report = graph_report(model)
    reason = "x is (8, 6) float32 on cpu with a gradient, and was (8, 6) float32 on cpu"
    assert report.changes == {reason: 3}
    assert report.eager == {reason + (", which no replay would give" if on_change == "recapture" else ""): 3}
    assert len(report.captured) == 1


@pytest.mark.parametrize("inspect", [False, True])
def test_an_example_that_requires_a_gradient_is_rejected_by_name(inspect):
    said = r"x of the example requires a gradient, which no replay would give it. Give x.detach\(\)."
    with pytest.raises(GraphError, match=said):
        graphs_of(autoencoder(**SGD), with_gradient(DATA[0]), inspect=inspect)
    assert "in the way: x of the example requires a gradient" in str(graph_report(graphed(autoencoder(**SGD), with_gradient(DATA[0]))))
