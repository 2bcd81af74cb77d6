"""What a graph knows by its address, and what replaces it between two steps."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from graphable import ADAM, MOMENTUM, SGD, adversaries, autoencoder, batches, graphs_of, need_same, state_of, train
from torch import nn, optim

from pixyz.core import NonFiniteLossError, SupportError
from pixyz.cuda_utils import GraphError, graph_report, graphed
from pixyz.distributions import Normal
from pixyz.flows import ActNorm, Coupling, InverseTransformedDistribution
from pixyz.losses import NLL
from pixyz.models import Model, scaled_losses
from pixyz.models.steps import Executor

DATA = batches()


def both(build, change, *, before=3, after=3, **options):
    """A change between two steps, of a model that is graphed and of one that is not."""
    models = [build(), graphs_of(build(), **options)[0]]
    losses = []
    for model in models:
        train(model, DATA[:before])
        change(model)
        losses.append(train(model, DATA[before : before + after]))
    need_same(losses[1], losses[0])
    need_same(state_of(models[1]), state_of(models[0]))
    return models[1]


def set_rate(model):
    model.optimizer.param_groups[0]["lr"] = 0.3


def load_optimizer(model):
    state = copy.deepcopy(model.optimizer.state_dict())
    for entry in state["state"].values():
        for name, value in entry.items():
            entry[name] = value * 0.5 if value.ndim else value
    model.optimizer.load_state_dict(state)


def forget_optimizer(model):
    model.optimizer.load_state_dict({**model.optimizer.state_dict(), "state": {}})


def load_weights(model):
    model.loss.load_state_dict({name: t + t.abs() for name, t in model.loss.state_dict().items()}, assign=False)


def other_storages(model):
    """What `module.to(device)` and back does, as Lightning does after each fit."""
    for module in model.loss.modules():
        for weight in module._parameters.values():
            weight.data = weight.data.clone()
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.clone()
    for entry in model.optimizer.state.values():
        for name, value in entry.items():
            entry[name] = value.clone()
    if model.ema is not None:
        model.ema.averages = [a.clone() for a in model.ema.averages]


REPLACED = {
    "a learning rate that is set": set_rate,
    "the state of an optimiser": load_optimizer,
    "an optimiser without state": forget_optimizer,
    "weights and buffers": load_weights,
    "other storages": other_storages,
}


@pytest.mark.parametrize("name", REPLACED)
def test_what_is_replaced_between_steps_is_seen(name):
    for options in (ADAM, MOMENTUM):
        model = both(lambda options=options: autoencoder(**options, ema=0.9), REPLACED[name])
        assert graph_report(model).replays >= 4
        assert not graph_report(model).changes


def test_a_file_that_is_loaded_goes_on_in_the_same_graphs(tmp_path):
    path = tmp_path / "model.safetensors"
    first = autoencoder(**MOMENTUM, ema=0.9)
    train(first, DATA[:4])
    first.save(path)
    expected = torch.stack([first.train(values) for values in DATA[4:]])
    model, graphs = graphs_of(autoencoder(**MOMENTUM, ema=0.9))
    model.load(path)
    need_same(torch.stack([model.train(values) for values in DATA[4:]]), expected)
    need_same(state_of(model), state_of(first))
    assert len(graphs.replays) == 4
    model.load(path)
    need_same(torch.stack([model.train(values) for values in DATA[4:]]), expected)


def test_a_file_of_a_graphed_model_is_that_of_one_without_graphs(tmp_path):
    files = []
    for model in (autoencoder(**ADAM), graphs_of(autoencoder(**ADAM))[0]):
        train(model, DATA)
        files.append(model.save(tmp_path / f"{len(files)}.safetensors"))
    resumed = autoencoder(**ADAM)
    resumed.load(files[1])
    model.load(files[0])
    need_same(state_of(resumed), state_of(model))


def test_a_scheduler_of_ones_own_is_seen():
    def warm(model):
        model.warming = optim.lr_scheduler.LinearLR(model.optimizer, total_iters=4)

    models = [autoencoder(**SGD), graphs_of(autoencoder(**SGD))[0]]
    for model in models:
        warm(model)
        torch.manual_seed(3)
        for values in DATA:
            model.train(values)
            model.warming.step()
    need_same(state_of(models[1])["weights"], state_of(models[0])["weights"])


def test_a_nan_step_changes_no_weight_and_is_an_error_of_the_next_call():
    model, graphs = graphs_of(autoencoder(**ADAM, ema=0.9))
    train(model, DATA[:3])
    before = state_of(model)
    model.train({"x": DATA[3]["x"] * torch.nan})
    count = len(graphs.replays)
    with pytest.raises(NonFiniteLossError, match=r"q\(z\|x\): loc must be a number, but 16 of 16 are not"):
        model.train(DATA[4])
    assert len(graphs.replays) == count
    after = state_of(model)
    for part in ("optimizers",):
        need_same(after[part], before[part])
    weights = {name for name, _ in model.loss.named_parameters()}
    need_same(*[{n: t for n, t in state["weights"].items() if n in weights} for state in (after, before)])
    need_same(after["average"]["weights"], before["average"]["weights"])
    model.train(DATA[4])
    model.check()


def test_a_value_outside_of_the_support_is_named():
    model, _ = graphs_of(autoencoder(**ADAM))
    train(model, DATA[:2])
    model.train({"x": DATA[0]["x"] * 0.5})
    with pytest.raises(SupportError, match=r"p\(x\|z\) \(Bernoulli\): x must be 0 or 1"):
        model.check()


def test_a_value_that_is_gone_when_the_error_is_known_is_named_by_the_graph_of_its_step():
    model, _ = graphs_of(autoencoder(**ADAM), on_change="recapture")
    values = {"x": DATA[0]["x"].clone()}
    train(model, [values, values, {"x": values["x"][:3]}])
    values["x"].fill_(0.5)
    model.train(values)
    values["x"].fill_(1.0)
    with pytest.raises(SupportError, match=r"^p\(x\|z\): a number was outside of its support, and was inside when it was evaluated again"):
        model.check()


def test_losses_that_are_scaled_are_graphed_with_their_scale():
    def build():
        p = Normal("p(x)", loc=nn.Parameter(torch.zeros(6)), scale=1.0)
        return Model(-p.log_prob().mean(), validate="deferred", ema=0.5, **SGD)

    data = [{"x": values["x"] + 100} for values in DATA]
    eager = build()
    with scaled_losses(init_scale=2.0**124, growth_interval=2):
        losses = train(eager, data)
        model, graphs = graphs_of(build(), example=data[0])
        need_same(train(model, data), losses)
    assert 0 < model.skipped_steps == eager.skipped_steps < len(data)
    need_same(state_of(model), state_of(eager))
    assert len(graphs.replays) > 4
    assert not graph_report(model).changes


def test_a_model_on_another_device_is_one_error():
    model, _ = graphs_of(autoencoder(**ADAM))
    train(model, DATA[:2])
    model.loss.to("meta")
    for _ in range(2):
        with pytest.raises(GraphError, match=r"VAE: its graphs are on cpu, and it has been moved to meta. Move it back, or capture"):
            model.train(DATA[2])


def test_a_model_of_another_dtype_is_one_error():
    model, _ = graphs_of(autoencoder(**ADAM))
    train(model, DATA[:2])
    model.loss.double()
    with pytest.raises(GraphError, match=r"VAE: its graphs were captured with a tensor .* of float32, which has become .* of float64"):
        model.train(DATA[0])


def test_a_copy_of_a_graphed_model_has_no_graphs():
    model, _ = graphs_of(autoencoder(**SGD))
    assert type(copy.deepcopy(model).executor) is Executor
    assert type(pickle.loads(pickle.dumps(model.executor))) is Executor


def test_graphs_are_released_with_the_model_and_when_it_is_graphed_again():
    model, graphs = graphs_of(autoencoder(**ADAM))
    executor = weakref.ref(model.executor)
    graphed(model, DATA[0], graphs=type(graphs)(), inspect=False)
    gc.collect()
    assert executor() is None
    report = graph_report(model)
    assert report.replays == 0


def activation_normalised():
    torch.manual_seed(0)
    p = InverseTransformedDistribution(Normal("p(u)", loc=torch.zeros(6), scale=1.0), ActNorm(6) >> Coupling(6), var=["x"])
    return Model(NLL(p).mean(), validate="deferred", **SGD)


def test_initialisation_from_data_comes_first():
    eager = activation_normalised()
    losses = train(eager, DATA)
    model = activation_normalised()
    assert model.needs_start
    torch.manual_seed(3)
    graphs_of(model, example=DATA[0])
    assert not model.needs_start
    need_same(train(model, DATA), losses)


def test_without_cuda_nothing_is_initialised():
    model = activation_normalised()
    before = state_of(model)
    graphed(model, DATA[0], inspect=False)
    assert model.needs_start
    need_same(state_of(model), before)


def test_the_average_may_stand_in_for_the_weights_between_replays():
    model = both(lambda: adversaries(**ADAM, ema=0.5), lambda model: model.test(DATA[0]))
    with model.averaged():
        model.test(DATA[0])
