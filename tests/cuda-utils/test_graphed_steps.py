"""Steps that are replays are those without a graph, bit for bit."""

import pytest
import torch
from graphable import ADAM, MODELS, SGD, autoencoder, batches, graphs_of, need_same, state_of, train

from pixyz.cuda_utils import graph_report


@pytest.mark.parametrize("name", MODELS)
def test_replays_are_the_steps_without_a_graph(name):
    build, count = MODELS[name]
    data = batches()
    eager = build()
    losses = train(eager, data)
    expected = state_of(eager)
    model, graphs = graphs_of(build())
    need_same(train(model, data), losses)
    need_same(state_of(model), expected)
    assert graphs.captures == count
    assert graph_report(model).replays == len(graphs.replays) >= len(data) - model.accumulate


@pytest.mark.parametrize("name", [name for name in MODELS if "compiled" not in name])
def test_a_capture_leaves_everything_as_it_was(name):
    build, _ = MODELS[name]
    model = build()
    train(model, batches(4))
    before = state_of(model)
    addresses = [t.data_ptr() for t in model.loss.state_dict().values()]
    graphs_of(model)
    need_same(state_of(model), before)
    assert [t.data_ptr() for t in model.loss.state_dict().values()] == addresses


def test_a_model_that_is_new_is_new_afterwards():
    model = autoencoder(**ADAM)
    before = state_of(model)
    graphs_of(model)
    need_same(state_of(model), before)
    assert not model.optimizer.state
    assert all(w.grad is None for w in model.trained_parameters)


def test_noise_differs_from_replay_to_replay():
    model, _ = graphs_of(autoencoder(optimizer_params={"lr": 0.0}))
    x = batches(1)
    assert len({loss.item() for loss in train(model, x * 6)}) == 6


def test_losses_and_gradients_outlive_the_next_replay():
    model, _ = graphs_of(autoencoder(**SGD))
    eager = autoencoder(**SGD)
    data = batches(4)
    train(eager, data)
    losses = [model.train(values) for values in [*batches(1), *data]]
    kept = [loss.clone() for loss in losses]
    model.train(data[0])
    need_same(losses, kept)
    assert all(w.grad is not None for w in model.trained_parameters)


def test_values_are_copied_and_not_kept():
    """A batch that its owner writes to after the step has no part in the next one."""
    data = batches(6)
    eager = autoencoder(**ADAM)
    expected = train(eager, data)
    model, _ = graphs_of(autoencoder(**ADAM), example={"x": torch.ones(8, 6)})
    torch.manual_seed(3)
    buffer = torch.empty(8, 6)
    losses = []
    for values in data:
        buffer.copy_(values["x"])
        losses.append(model.train({"x": buffer}))
        model.check()
        buffer.fill_(torch.nan)
    need_same(torch.stack(losses), expected)


def test_gradients_are_those_of_the_step():
    data = batches(3)
    eager = autoencoder(**SGD, accumulate=2)
    train(eager, data)
    model, _ = graphs_of(autoencoder(**SGD, accumulate=2))
    train(model, data)
    need_same([w.grad for w in model.trained_parameters], [w.grad for w in eager.trained_parameters])


def test_replays_add_no_operations_and_no_tensors():
    model, graphs = graphs_of(autoencoder(**ADAM, ema=0.9))
    train(model, batches(3))
    count = len(graphs.pool)
    train(model, batches(8))
    assert (len(graphs.pool), graphs.captures) == (count, 1)
