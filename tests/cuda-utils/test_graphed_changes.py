"""Steps for which there is no graph, and what cannot have one."""

import re

import pytest
import torch
import torch._inductor.cudagraph_trees  # else imported within torch.compiler.reset, which cannot have that
from graphable import ADAM, MOMENTUM, SGD, adversaries, autoencoder, batches, graphs_of, need_same, state_of, train, weighted
from recorded_graphs import Recorded
from torch import nn, optim

from pixyz.core import KindError, MissingVariableError, NonFiniteLossError, ParameterError, ShapeError, SupportError
from pixyz.cuda_utils import GraphError, capturable, graph_report, graphed
from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import NLL
from pixyz.models import VAE, Model

X = batches(1)[0]
SHORT = {"x": X["x"][:3]}
FIRST = "the first step of an optimiser, which makes its state"


def frozen(model):
    next(model.loss.parameters()).requires_grad_(False)


def setting(model):
    model.optimizer.param_groups[0]["momentum"] = 0.5


def evaluated_half(model):
    """A part that stays in evaluation mode, as frozen batch normalisation does."""
    norm = next(m for m in model.loss.modules() if isinstance(m, nn.BatchNorm1d))
    norm.train = lambda mode=True: norm
    norm.training = False


def another_weight(model):
    layer = next(m for m in model.loss.modules() if isinstance(m, nn.Linear))
    layer.weight = nn.Parameter(layer.weight.detach().clone())


CHANGES = {
    "shape": (lambda model: None, SHORT, r"^x is \(3, 6\) float32 on cpu, and was \(8, 6\) float32 on cpu$"),
    "key": (lambda model: None, {**X, "label": 3}, "^label came$"),
    "gradient": (lambda model: None, {"x": X["x"].clone().requires_grad_()}, "^x is .* with a gradient, and was"),
    "requires_grad": (frozen, X, r"weight now requires no gradient$"),
    "setting": (setting, X, r"^the momentum of SGD is 0.5, and was 0.9$"),
    "mode": (evaluated_half, X, r"now is in evaluation mode$"),
    "parameter": (another_weight, X, r"weight was replaced by another parameter$"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_step_that_is_different_is_eager_and_counted(name):
    change, values, said = CHANGES[name]
    models = [autoencoder(**MOMENTUM), graphs_of(autoencoder(**MOMENTUM))[0]]
    for model in models:
        train(model, [X, X])
        change(model)
        train(model, [values, values])
    need_same(state_of(models[1]), state_of(models[0]))
    report = graph_report(models[1])
    ((reason, count),) = report.changes.items()
    assert (count, report.eager) == (2, {FIRST: 1, reason: 2})
    assert re.search(said, reason), reason
    assert f"changed, 2 times: {reason}" in str(report)


def test_it_is_an_error_on_request():
    model, _ = graphs_of(autoencoder(**ADAM), on_change="raise")
    train(model, [X])
    with pytest.raises(GraphError, match=r"VAE: there is no graph for this step: x is \(3, 6\) .*, and was \(8, 6\)"):
        model.train(SHORT)
    assert model.step_count == 1
    model.train(X)


def test_steps_of_another_shape_are_captured_up_to_a_limit():
    data = [{"x": X["x"][:n]} for n in (8, 8, 7, 8, 6, 7, 5, 6, 5, 8)]
    eager = autoencoder(**ADAM, ema=0.9)
    expected = train(eager, data)
    model, graphs = graphs_of(autoencoder(**ADAM, ema=0.9), on_change="recapture", max_graphs=3)
    torch.manual_seed(3)
    losses = [model.train(values) for values in data[:6]]
    with pytest.warns(UserWarning, match=r"VAE: max_graphs=3 kinds of steps are captured, and this step is another: x is \(5, 6\)"):
        losses.append(model.train(data[6]))
    losses += [model.train(values) for values in data[7:]]  # and it is said once
    need_same(torch.stack(losses), expected)
    need_same(state_of(model), state_of(eager))
    report = graph_report(model)
    assert [(steps.values, steps.replays) for steps in report.captured] == [
        ("x (8, 6) float32", 3),
        ("x (7, 6) float32", 2),
        ("x (6, 6) float32", 2),
    ]
    assert graphs.captures == 3
    assert sum(report.eager.values()) == 3


def test_a_capture_before_the_first_step_shares_the_state_of_the_optimiser():
    data = [SHORT, X, SHORT, X, SHORT]
    eager = autoencoder(**MOMENTUM)
    expected = train(eager, data)
    model, _ = graphs_of(autoencoder(**MOMENTUM), on_change="recapture")
    need_same(train(model, data), expected)
    need_same(state_of(model), state_of(eager))
    assert [steps.replays for steps in graph_report(model).captured] == [2, 2]


@pytest.mark.parametrize("on_change", ["eager", "recapture"])
def test_a_step_of_several_calls_may_be_partly_eager(on_change):
    data = [X, X, X, X, SHORT, X, X, X, SHORT, X]
    eager = autoencoder(**MOMENTUM, accumulate=2)
    expected = train(eager, data)
    model, _ = graphs_of(autoencoder(**MOMENTUM, accumulate=2), on_change=on_change)
    need_same(train(model, data), expected)
    need_same(state_of(model), state_of(eager))


def test_a_number_that_changes_is_no_change():
    data = [{**X, "beta": i / 10} for i in range(6)]
    eager = weighted(**ADAM)
    expected = train(eager, data)
    model, _ = graphs_of(weighted(**ADAM))
    need_same(train(model, data), expected)
    assert not graph_report(model).changes


def test_autocast_is_a_change():
    data = batches(4)
    eager, model = autoencoder(**SGD), graphs_of(autoencoder(**SGD), on_change="recapture")[0]
    for each in (eager, model):
        train(each, data[:2])
        with torch.autocast("cpu", torch.bfloat16):
            train(each, data[2:])
    need_same(state_of(model), state_of(eager))
    assert graph_report(model).changes == {"autocast is bfloat16, and was off": 1}
    assert len(graph_report(model).captured) == 2


def test_options_of_a_step_are_a_change():
    model, _ = graphs_of(autoencoder(**ADAM))
    model.train(X)
    model.train(X, batch_size=8)
    assert graph_report(model).changes == {"the options are batch_size=8, and were none": 1}


class Reads(nn.Module):
    """A network that reads a number from the device."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        return self.layer(x) * float(x.sum() > 0)


class Lion(optim.Optimizer):
    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                weight.data -= group["lr"] * weight.grad.sign()


class Counting(Lion):
    """Its groups say that it is capturable, but it counts in Python."""

    def __init__(self, params, lr=1e-3):
        super().__init__(params, lr)
        self.param_groups[0]["capturable"] = True

    def step(self, closure=None):
        super().step()
        for weight in self.param_groups[0]["params"]:
            self.state[weight]["step"] = self.state[weight].get("step", 0) + 1


def hooked():
    model = autoencoder(**ADAM)
    model.optimizer.register_step_post_hook(lambda *_: None)
    return model


class Looked(Normal):
    """Its mean is looked up in a table."""

    def __init__(self):
        super().__init__(var=["y"], cond_var=["c"])
        self.table = nn.Embedding(5, 6, sparse=True)

    def forward(self, c):
        return {"loc": self.table(c.argmax(-1)), "scale": 1.0}


def sparse():
    return Model(NLL(Looked()).mean(), **SGD)


def with_step(**options):
    return lambda: autoencoder(**options)


REJECTED = {
    "SGD by a loop": (
        with_step(optimizer=optim.SGD, optimizer_params={"lr": 0.1, "foreach": True}),
        X,
        r"SGD is neither fused nor capturable.*Leave out f",
    ),
    "an optimiser of one's own": (with_step(optimizer=Lion), X, r"Lion is neither .*give its groups capturable=True"),
    "a count in Python": (with_step(optimizer=Counting), X, r"Counting keeps step as a number of Python"),
    "hooks": (hooked, X, r"Adam has hooks on its step"),
    "sparse gradients": (sparse, {"y": torch.ones(3, 6), "c": torch.eye(5)[:3]}, r"Embedding\(sparse=True\) has sparse gradients"),
    "graphs of the compiler": (with_step(compile={"backend": "eager", "mode": "reduce-overhead"}), X, "makes CUDA graphs of its own"),
    "a read": (
        lambda: reading(),
        X,
        r"cannot be captured: operation not permitted when stream is capturing",
    ),
}


def reading():
    q = Normal("q(z|x)", loc=nn.Linear(6, 2), scale=1.0)
    p = Bernoulli("p(x|z)", logits=nn.Sequential(nn.Linear(2, 6), Reads()))
    return VAE(q, p, Normal("p(z)", loc=torch.zeros(2), scale=torch.ones(2)))


@pytest.mark.parametrize("name", REJECTED)
def test_what_cannot_be_captured_is_rejected_by_name(name):
    build, example, said = REJECTED[name]
    model = build()
    before = state_of(model)
    with pytest.raises(GraphError, match=said):
        graphed(model, example, graphs=Recorded(), inspect=False)
    need_same(state_of(model), before)
    assert model.validate in (True, "deferred")
    with pytest.raises(KindError, match="graph_report is for a model that was graphed"):
        graph_report(model)


BAD = {
    "the model": (lambda m: graphed(m.loss, X), KindError, "graphed: model must be a Model of pixyz.models; got the module"),
    "the example": (lambda m: graphed(m, X["x"]), KindError, "graphed: example must be a mapping .* got a Tensor"),
    "warmup": (lambda m: graphed(m, X, warmup=0), ParameterError, "graphed: warmup must be a whole number of at least 1; got 0"),
    "max_graphs": (lambda m: graphed(m, X, max_graphs=1.5), ParameterError, "graphed: max_graphs must be .* got 1.5"),
    "on_change": (
        lambda m: graphed(m, X, on_change="ignore"),
        ParameterError,
        "on_change must be one of .*; got 'ignore'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_arguments_are_checked(name):
    call, kind, said = BAD[name]
    with pytest.raises(kind, match=said):
        call(autoencoder(**ADAM))


EXAMPLES = {
    "a variable that is missing": ({"y": X["x"]}, MissingVariableError, "needs x"),
    "a shape": ({"x": torch.ones(8, 5)}, (ShapeError, RuntimeError), "5"),
    "a nan": ({"x": X["x"] * torch.nan}, (NonFiniteLossError, SupportError), "nan"),
}


@pytest.mark.parametrize("graphs", [None, Recorded], ids=["without CUDA", "recorded"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_that_does_not_fit_the_model_is_an_error(name, graphs):
    example, kind, said = EXAMPLES[name]
    model = autoencoder(**ADAM)
    before = state_of(model)
    with pytest.raises(kind, match=said):
        graphed(model, example, graphs=None if graphs is None else graphs(), inspect=False)
    need_same(state_of(model), before)
    model.train(X)


def test_without_cuda_the_model_is_what_it_was_and_the_report_has_the_reason():
    eager = adversaries(**ADAM, n_critic=2)
    expected = train(eager, batches(3))
    model = adversaries(**ADAM, n_critic=2)
    before = state_of(model)
    assert graphed(model, X) is model
    need_same(state_of(model), before)
    need_same(train(model, batches(3)), expected)
    assert str(graph_report(model)) == (
        "no graphs: the model is on cpu, and CUDA graphs are for CUDA devices\n"
        "on a CUDA device: 2 graphs for x (8, 6) float32\n"
        "eager, 3 times: there are no graphs"
    )


class Numbered(nn.Module):
    """A network that computes with a number of Python, another one at each step."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 6)
        self.steps = 0

    def forward(self, z):
        self.steps += 1
        return self.layer(z) * (1 + self.steps / 10)


def numbered():
    q = Normal("q(z|x)", loc=nn.Linear(6, 2), scale=1.0)
    return VAE(q, Bernoulli("p(x|z)", logits=Numbered()), Normal("p(z)", loc=torch.zeros(2), scale=torch.ones(2)))


def test_what_a_graph_would_repeat_is_rejected_by_its_term_and_line():
    model = numbered()
    with pytest.raises(GraphError, match=r"new number in p\(x\|z\) \(forward\), .*test_graphed_changes.py:\d+"):
        graphed(model, X, graphs=Recorded())
    assert model.validate is True
    graphed(model, X)
    assert "in the way: new number in p(x|z)" in str(graph_report(model))


def test_a_graphed_model_is_inspected_like_any_other():
    model, graphs = graphs_of(autoencoder(**ADAM), inspect=True)
    train(model, [X, X])
    executor, before = model.executor, state_of(model)
    assert not capturable(model, X)
    assert model.executor is executor
    need_same(state_of(model), before)
    assert len(graphs.replays) == 1


def test_without_cuda_the_report_says_what_would_be_in_the_way():
    model = graphed(autoencoder(optimizer=optim.SGD, optimizer_params={"lr": 0.1, "foreach": True}), X)
    assert "in the way: SGD is neither fused nor capturable" in str(graph_report(model))
