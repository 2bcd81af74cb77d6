"""Checkpoints: saved and loaded, training goes on as if it had never stopped; a file that is damaged or of another model does nothing."""

import copy
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from zoo import Decoder, Encoder, Label, binary, prior

from pixyz.core import CheckpointError, KindError, ParameterError, seeded
from pixyz.distributions import Normal
from pixyz.losses import NLL, KullbackLeibler
from pixyz.models import ML, VAE, VI, Model, _atomic

OPTIMIZERS = {
    "Adam": (optim.Adam, {"lr": 1e-2}),
    "AdamW amsgrad": (optim.AdamW, {"lr": 1e-2, "amsgrad": True, "weight_decay": 0.1}),
    "Adam foreach": (optim.Adam, {"lr": 1e-2, "foreach": True}),
    "Adam in a loop": (optim.Adam, {"lr": 1e-2, "foreach": False}),
    "Adam tensor lr": (optim.Adam, {"lr": torch.tensor(1e-2)}),
    "NAdam": (optim.NAdam, {"lr": 1e-2}),
    "SGD momentum": (optim.SGD, {"lr": 1e-1, "momentum": 0.9, "nesterov": True}),
    "SGD": (optim.SGD, {"lr": 1e-1}),
    "RMSprop": (optim.RMSprop, {"lr": 1e-2, "momentum": 0.5, "centered": True}),
    "Adagrad": (optim.Adagrad, {"lr": 1e-1}),
    "Adafactor": (optim.Adafactor, {"lr": 1e-1}),
    "LBFGS": (optim.LBFGS, {"lr": 0.1, "max_iter": 3, "history_size": 4, "line_search_fn": "strong_wolfe"}),
}
SCHEDULERS = {
    "none": None,
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [3, 8, 8], 0.5),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(
        o, 0.1, total_steps=30, cycle_momentum=not {"betas", "momentum"}.isdisjoint(o.defaults)
    ),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=0.1),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.ConstantLR(o, 0.5, 2), lr_scheduler.ExponentialLR(o, 0.9)], [7]),
}
with seeded(0):
    X = binary(8)


def vae(optimizer="Adam", scheduler="none", *, ema=False, hidden=8):
    """A loss that draws, twice over: in its expectation and in the dropout. Its weights are those of the seed."""
    with seeded(1):
        p, q = Decoder(hidden=hidden), Encoder(hidden=hidden, dropout=0.2)
    kind, params = OPTIMIZERS[optimizer]
    params = copy.deepcopy(params)  # a scheduler fills a tensor
    if kind is optim.LBFGS:  # which has a loop of its own
        model = VI(p * prior(), q)
        model.optimizers[:] = [kind(model.trained_parameters, **params)]
    else:
        model = VI(p * prior(), q, optimizer=kind, optimizer_params=params)
    if SCHEDULERS[scheduler]:
        model.schedulers.append(SCHEDULERS[scheduler](model.optimizers[0]))
    if ema:
        model.ema = Average(model.loss, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    return model


class Average(AveragedModel):
    """Torch's own average, which is never in the place of the weights."""

    is_in_place = False


def steps(model, num_steps):
    """Steps whose schedulers and average are driven here, so that any of torch's may stand in the model."""
    schedulers, average, losses = model.schedulers, model.ema, []
    model.schedulers, model.ema = [], None
    for _ in range(num_steps):
        if isinstance(model.optimizers[0], optim.LBFGS):
            losses.append(lbfgs_step(model))
        else:
            losses.append(model.train({"x": X}).item())
        for scheduler in schedulers:
            if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                scheduler.step(losses[-1])
            else:
                scheduler.step()
        if average is not None:
            average.update_parameters(model.loss)
    model.schedulers, model.ema = schedulers, average
    return losses


def lbfgs_step(model):
    def closure():
        model.optimizers[0].zero_grad()
        loss = model.loss.estimate({"x": X})
        loss.backward()
        return loss

    model.loss.train()
    return model.optimizers[0].step(closure).item()


def same(a, b):
    """Whether two trees are the same, bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and (a.dtype, a.device, a.shape) == (b.dtype, b.device, b.shape) and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(v, w) for v, w in zip(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    return a == b or (a != a and b != b)


def snapshot(model):
    """All that a load could change, by value."""
    state = {
        "weights": dict(model.loss.state_dict()),
        "optimizers": [o.state_dict() for o in model.optimizers],
        "schedulers": [s.state_dict() for s in model.schedulers],
        "ema": None if model.ema is None else dict(model.ema.state_dict()),
        "random": torch.get_rng_state(),
        "steps": model.step_count,
    }
    return torch.utils._pytree.tree_map(lambda v: v.clone() if isinstance(v, torch.Tensor) else v, state)


def disturbed(model):
    """The same model after another history, so that loading has something to change."""
    steps(model, 2)
    torch.manual_seed(123)
    return model


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_as_if_it_had_never_stopped(optimizer, scheduler, tmp_path):
    model = vae(optimizer, scheduler)
    steps(model, 5)
    model.save(tmp_path / "a.safetensors")
    saved = snapshot(model)
    expected = steps(model, 6)
    end = snapshot(model)

    fresh = disturbed(vae(optimizer, scheduler))
    assert not same(snapshot(fresh), saved)
    fresh.load(tmp_path / "a.safetensors")
    assert same(snapshot(fresh), saved)
    assert steps(fresh, 6) == expected
    assert same(snapshot(fresh), end)


def test_the_moving_average_goes_on(tmp_path):
    model = vae(ema=True)
    steps(model, 3)
    model.save(tmp_path / "a")
    steps(model, 3)
    fresh = disturbed(vae(ema=True))
    fresh.load(tmp_path / "a")
    steps(fresh, 3)
    assert same(snapshot(fresh), snapshot(model))


def test_several_optimisers(tmp_path):
    def build():
        model = vae("Adam")
        leaves = {d.leaf_text: d for d in model.distributions}
        model.optimizers[:] = [
            optim.SGD(leaves["p(x|z)"].parameters(), lr=0.1, momentum=0.5),
            optim.Adam([{"params": leaves["q(z|x)"].fc1.parameters(), "lr": 0.5}, {"params": leaves["q(z|x)"].loc.parameters()}]),
        ]
        return model

    model = build()
    model.loss.estimate({"x": X}).backward()
    for optimizer in model.optimizers:
        optimizer.step()
    model.save(tmp_path / "a")
    fresh = build()
    fresh.load(tmp_path / "a")
    assert same(snapshot(fresh), snapshot(model))
    with pytest.raises(CheckpointError, match=r"optimizers: 2 in the file, 1 in this model\n  SGD in the file, Adam in this model"):
        vae().load(tmp_path / "a")


# Numbers and names


class Odd(Normal):
    """p(x), with a buffer of every kind."""

    def __init__(self, fill):
        super().__init__("p(x)")
        with seeded(fill):
            self.loc_of = nn.Parameter(torch.randn(3, 2).T[0])  # not contiguous
            for dtype in (torch.float64, torch.float16, torch.bfloat16):
                self.register_buffer(f"of_{dtype}".replace(".", "_"), torch.randn(2, 2).to(dtype))
            for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool):
                self.register_buffer(f"of_{dtype}".replace(".", "_"), torch.randint(0, 2, (3,)).to(dtype))
        self.register_buffer("eight", torch.tensor([1.0, fill]).to(torch.float8_e4m3fn))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("special", torch.tensor([torch.nan, torch.inf, -0.0, 5e-45, float(fill)]))

    def forward(self):
        return {"loc": self.loc_of, "scale": torch.ones(3)}


def bits(tensor):
    return tensor.contiguous().view(-1).view(torch.uint8).tolist() if tensor.numel() else []


def test_every_dtype_keeps_its_bits(tmp_path):
    a, b = ML(Odd(1)), ML(Odd(2))
    a.save(tmp_path / "a")
    b.load(tmp_path / "a")
    ours, theirs = a.loss.state_dict(), b.loss.state_dict()
    assert {k: (v.dtype, v.shape, bits(v)) for k, v in ours.items()} == {k: (v.dtype, v.shape, bits(v)) for k, v in theirs.items()}


EXTRA = {
    "epoch": 3,
    "seed": 2**80,
    "floats": [0.1, 5e-324, -0.0, 1.7976931348623157e308, float("inf"), float("-inf"), float("nan")],
    "none": None,
    "true": True,
    "text": "θ \U0001f600 \n \x00",
    "tuple": (1, (2.0,), []),
    "by number": {0: "a", 1: {"b": 2}, "": 3},
    "counter": Counter({3: 1}),
    "tensor": torch.arange(3),
    "marked": {"tensor": "weights/x"},
}


def test_what_the_caller_keeps_comes_back(tmp_path):
    model = vae()
    model.save(tmp_path / "a", extra=EXTRA)
    found = vae().load(tmp_path / "a").extra
    assert same(found, EXTRA)
    assert [v.hex() for v in found["floats"]] == [v.hex() for v in EXTRA["floats"]]


@pytest.mark.parametrize("value", [print, {1.5: 2}, {"a": {1, 2}}, torch.ones(2, dtype=torch.complex64), torch.eye(2).to_sparse()], ids=str)
def test_what_no_file_holds_is_refused_and_nothing_is_written(value, tmp_path):
    with pytest.raises(KindError, match=r"^extra/a.* which no checkpoint holds"):
        vae().save(tmp_path / "a", extra={"a": value})
    assert not list(tmp_path.iterdir())
    with pytest.raises(KindError, match="extra must be a mapping"):
        vae().save(tmp_path / "a", extra=[1])


def test_a_tied_network_is_stored_once(tmp_path):
    def build(fill, tied=True):
        with seeded(fill):
            net = nn.Linear(2, 2)
            other = net if tied else nn.Linear(2, 2)
            p, q = Normal("p(x|z)", loc=net, scale=1.0), Normal("q(z|x)", loc=other, scale=1.0)
        return Model((NLL(p).expectation(q) + KullbackLeibler(q, Normal("p(z)", loc=0.0, scale=1.0, dim=2))).mean())

    a, b = build(1), build(2)
    x = {"x": torch.randn(4, 2)}
    a.train(x)
    a.save(tmp_path / "a")
    assert sorted(n for n in load_file(tmp_path / "a") if n.startswith("weights") and n.endswith("weight")) == [
        "weights/p(x|z).given_networks.loc.weight"
    ]
    b.load(tmp_path / "a")
    assert same(snapshot(a), snapshot(b))
    with seeded(0):
        expected = a.train(x)
    with seeded(0):
        assert b.train(x) == expected
    assert same(snapshot(a), snapshot(b))
    with pytest.raises(
        CheckpointError, match=r"q\(z\|x\)\S+loc.weight: the same as p\(x\|z\)\S+loc.weight in the file, a tensor of its own in this"
    ):
        build(1, tied=False).load(tmp_path / "a")
    a = build(1, tied=False)
    a.save(tmp_path / "b")
    with pytest.raises(
        CheckpointError, match=r"q\(z\|x\)\S+loc.weight: a tensor of its own in the file, the same as p\(x\|z\)\S+loc.weight in this"
    ):
        build(1).load(tmp_path / "b")


def test_any_reader_of_safetensors_reads_it(tmp_path):
    model = vae()
    steps(model, 2)
    path = model.save(tmp_path / "a.safetensors", extra={"epoch": 1})
    tensors = load_file(path)
    weights = {n.removeprefix("weights/"): t for n, t in tensors.items() if n.startswith("weights/")}
    assert same(weights, dict(model.loss.state_dict()))
    with safe_open(path, "pt") as file:
        texts = file.metadata()
    assert texts["formula"] == str(model.loss) == "-mean(E_q(z|x)[log p(x,z)/q(z|x)])"
    lines = texts["signature"].splitlines()
    assert {"q(z|x).fc1.weight: float32 (8, 6)", "Adam of 10 parameters"} <= {*lines}
    assert lines[0] == str(model.loss)


def test_loading_leaves_no_gradients_of_before(tmp_path):
    model = vae()
    model.save(tmp_path / "a")
    steps(model, 1)
    model.load(tmp_path / "a")
    assert all(w.grad is None for w in model.trained_parameters)


@pytest.mark.parametrize(("there", "here"), [("Adam tensor lr", "Adam"), ("Adam", "Adam tensor lr")])
def test_a_learning_rate_stays_the_tensor_or_number_that_the_model_has(there, here, tmp_path):
    model, other = vae(there, "StepLR"), vae(here, "StepLR")
    steps(model, 4)
    model.save(tmp_path / "a")
    other.load(tmp_path / "a")
    (theirs,), (ours,) = ([g["lr"] for g in m.optimizer.param_groups] for m in (model, other))
    assert (type(theirs), type(ours)) == ((torch.Tensor, float) if here == "Adam" else (float, torch.Tensor))
    assert float(ours) == pytest.approx(5e-3) == float(theirs)
    steps(other, 3)
    assert type(other.optimizer.param_groups[0]["lr"]) is type(ours)
    assert float(other.optimizer.param_groups[0]["lr"]) == pytest.approx(2.5e-3)


@pytest.mark.parametrize(("there", "here", "fused"), [("Adam", "Adam in a loop", None), ("Adam in a loop", "Adam", True)])
def test_the_way_a_step_is_run_stays_that_of_the_model(there, here, fused, tmp_path):
    model = vae(there)
    steps(model, 2)
    model.save(tmp_path / "a")
    other = vae(here)
    other.load(tmp_path / "a")
    assert [g["fused"] for g in other.optimizer.param_groups] == [fused]
    assert all(torch.isfinite(torch.tensor(steps(other, 2))))


def test_loads_where_the_model_is(device, tmp_path):
    model = vae()
    steps(model, 2)
    model.save(tmp_path / "a")
    with seeded(1):
        p, q = Decoder().to(device), Encoder(dropout=0.2).to(device)
    there = VI(p * prior().to(device), q, optimizer=optim.Adam, optimizer_params={"lr": 1e-2})
    there.load(tmp_path / "a")
    assert all(w.device.type == device.type for w in there.trained_parameters)
    there.train({"x": X.to(device)})
    random = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    there.save(tmp_path / "b")
    expected = there.train({"x": X.to(device)})
    there.load(tmp_path / "b")
    if random is not None:
        assert torch.equal(torch.cuda.get_rng_state(device), random)
    assert there.train({"x": X.to(device)}) == expected
    here = vae()
    here.load(tmp_path / "b")
    assert here.step_count == 3
    assert all(v.device.type == "cpu" for s in here.optimizer.state.values() for v in s.values())


def test_an_expanded_buffer(tmp_path):
    def build(value):
        p = Normal("p(x)", loc=nn.Parameter(torch.zeros(3)), scale=1.0)
        p.register_buffer("b", torch.tensor(value).expand(3))
        return ML(p)

    model = build(1.0)
    model.train({"x": torch.ones(2, 3)})
    model.save(tmp_path / "a")
    fresh = build(1.0)
    fresh.load(tmp_path / "a")
    assert same(snapshot(fresh), snapshot(model))
    other = build(2.0)
    before = snapshot(other)
    with pytest.raises(CheckpointError, match=r"p\(x\).b: other values in the file, and in this model it is expanded"):
        other.load(tmp_path / "a")
    assert same(snapshot(other), before)


# What is refused


def wider():
    return vae(hidden=9)


def of_a_bound():
    return VAE(Encoder(), Decoder(), prior(), optimizer_params={"lr": 1e-2})


def in_double():
    with seeded(1):
        p, q = Decoder().double(), Encoder(dropout=0.2).double()
    return VI(p * prior().double(), q, optimizer=optim.Adam, optimizer_params={"lr": 1e-2})


def one_part_trained():
    model = vae()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nobody trains the other
        return Model(model.loss, distributions=[model.q])


OTHERS = {
    "another formula": (
        of_a_bound,
        "- in the file:    -mean(E_q(z|x)[log p(x,z)/q(z|x)])\n  + in this model:  mean(-E_q(z|x)[log p(x|z)] + KL[q(z|x)||p_prior(z)])",
    ),
    "other shapes": (wider, "p(x|z).fc1.weight: (8, 2) in the file, (9, 2) in this model"),
    "another dtype": (in_double, "p(x|z).fc1.weight: float32 in the file, float64 in this model"),
    "another optimiser": (lambda: vae("SGD"), "Adam in the file, SGD in this model"),
    "other trained parameters": (
        one_part_trained,
        "Adam: trains 10 tensors in the file, 6 tensors in this model, first p(x|z).fc1.weight for",
    ),
    "a scheduler": (lambda: vae(scheduler="StepLR"), "schedulers: 0 in the file, 1 in this model"),
    "a moving average": (lambda: vae(ema=True), "the moving average of the weights: only in this model"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_model_is_refused_and_left_as_it_is(other, tmp_path):
    build, message = OTHERS[other]
    model = vae()
    steps(model, 2)
    model.save(tmp_path / "a")
    fresh = build()
    before = snapshot(fresh)
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        fresh.load(tmp_path / "a")
    assert str(caught.value).startswith(f"{tmp_path / 'a'} is of another model. Nothing was loaded.")
    assert "strict=False" in str(caught.value)
    assert same(snapshot(fresh), before)


def test_what_fits_is_loaded_and_the_rest_is_listed(tmp_path):
    model = vae()
    steps(model, 2)
    model.save(tmp_path / "a", extra={"epoch": 1})
    fresh = wider()
    before = snapshot(fresh)
    found = fresh.load(tmp_path / "a", strict=False)
    ours, theirs = dict(fresh.loss.state_dict()), dict(model.loss.state_dict())
    fitting = [n for n in ours if ours[n].shape == theirs[n].shape]
    assert [n for n in fitting if "prior" not in n] == ["p(x|z).fc2.bias", "q(z|x).loc.bias", "q(z|x).scale.bias"]
    assert all(same(ours[n], theirs[n] if n in fitting else before["weights"][n]) for n in ours)
    assert [line.split(":")[0] for line in found.left] == [*[n for n in ours if n not in fitting], "Adam"]
    assert (found.extra, found.step_count) == ({"epoch": 1}, 2)
    assert str(found).splitlines()[:4] == [
        str(tmp_path / "a"),
        "  formula:  -mean(E_q(z|x)[log p(x,z)/q(z|x)])",
        "  steps:    2",
        "  left: p(x|z).fc1.weight: (8, 2) in the file, (9, 2) in this model",
    ]


def test_weights_are_taken_over_by_another_formula(tmp_path):
    model = vae()
    steps(model, 2)
    model.save(tmp_path / "a")
    with seeded(5):
        classifier = Model(NLL(Label(name="q")).mean() + KullbackLeibler(Encoder(), prior()).mean())
    found = classifier.load(tmp_path / "a", strict=False)
    assert same(classifier.loss.state_dict()["q(z|x).fc1.weight"], model.loss.state_dict()["q(z|x).fc1.weight"])
    assert "q(y|x).fc.weight: only in this model" in found.left
    assert "p(x|z).fc1.weight: only in the file" in found.left


def test_a_parameter_without_a_shape(tmp_path):
    p, x = Normal("p(y|x)", loc=nn.LazyLinear(2), scale=1.0), {"x": torch.zeros(3, 4), "y": torch.zeros(3, 2)}
    model = ML(p)
    with pytest.raises(ParameterError, match=r"weight has no shape yet. Evaluate mean\(-log p\(y\|x\)\) once"):
        model.save(tmp_path / "a")
    model.train(x)
    model.save(tmp_path / "a")


# Files from anywhere


def rewritten(path, change):
    """The same file with another state or other texts, as anybody can write it."""
    with safe_open(path, "pt") as file:
        texts = file.metadata()
    tensors = load_file(path)
    state = json.loads(texts["state"])
    changed = change(state, texts, tensors)
    texts["state"] = changed if isinstance(changed, str) else json.dumps(state)
    save_file(tensors, path, texts)


def setting(*keys, to):
    def change(state, texts, tensors):
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = to

    return change


def texts(**changed):
    return lambda state, texts, tensors: texts.update(changed)


def tensor(name, value):
    return lambda state, texts, tensors: tensors.update({name: value})


def adam(key, value):
    """A group of Adam with another entry."""

    def change(state, texts, tensors):
        (_, _), (_, groups) = state["optimizers"][0]["state"]["dict"]
        groups[0]["dict"] = [[k, value if k == key else v] for k, v in groups[0]["dict"]]

    return change


RANDOM = torch.zeros(10, dtype=torch.uint8)
HOSTILE = {
    "another format": (
        texts(format="pixyz 2", version="9.9"),
        "has the format 'pixyz 2', of version 9.9; this version, .*, reads 'pixyz 1'",
    ),
    "weights of another library": (texts(format="pt"), "holds tensors, but no formula"),
    "no JSON": (lambda *_: "{", "its state is no JSON"),
    "a huge number": (lambda *_: '{"step_count": ' + "9" * 10**5 + "}", "its state is no JSON"),
    "nested": (lambda *_: "[" * 10**6 + "]" * 10**6, "nested too deeply"),
    "nested less": (
        lambda state, *_: json.dumps({**state, "extra": 0}).replace(
            '"extra": 0', '"extra": {"dict": [["a", ' + "[" * 900 + "]" * 900 + "]]}"
        ),
        "nested too deeply",
    ),
    "a list for a state": (lambda *_: "[1]", "its state has not the entries"),
    "no steps": (lambda state, *_: state.pop("step_count") and None, "its state has not the entries"),
    "a float of steps": (setting("step_count", to=1.5), "step_count is a float, not a int"),
    "true steps": (setting("step_count", to=True), "step_count is a bool"),
    "negative steps": (setting("step_count", to=-1), "step_count is negative"),
    "tied to nothing": (setting("tied", to={"a": "b"}), "tied to none"),
    "tied to a list": (setting("tied", to={"a": []}), "tied to none"),
    "a number of optimisers": (setting("optimizers", to=3), "optimizers is a int, not a list"),
    "optimisers that are numbers": (setting("optimizers", to=[3]), "has no class or no state"),
    "an optimiser of no class": (setting("optimizers", 0, "class", to=[]), "has no class or no state"),
    "trains a number": (setting("optimizers", 0, "trains", to=3), "Adam: trains  tensors in the file"),
    "trains numbers": (setting("optimizers", 0, "trains", to=[3]), "Adam: trains"),
    "a state that is a text": (setting("optimizers", 0, "state", to="random"), "Adam: its state in the file does not fit"),
    "a state that is a list": (setting("optimizers", 0, "state", to=[1]), "Adam: its state in the file does not fit"),
    "an unknown mark": (setting("optimizers", 0, "state", to={"pickle": "gASV"}), "where a state is expected"),
    "two marks": (setting("optimizers", 0, "state", to={"dict": [], "tuple": []}), "where a state is expected"),
    "pairs of one": (setting("optimizers", 0, "state", to={"dict": [[1]]}), "where a state is expected"),
    "a list for a key": (setting("optimizers", 0, "state", to={"dict": [[[], 1]]}), "where a state is expected"),
    "a tensor that is not there": (setting("optimizers", 0, "state", to={"tensor": "x"}), "the tensor 'x' is not in it"),
    "a learning rate that is a text": (adam("lr", "fast"), "Adam: its state in the file does not fit"),
    "three betas": (adam("betas", {"tuple": [0.1, 0.1, 0.1]}), "Adam: its state in the file does not fit"),
    "betas that are texts": (adam("betas", {"tuple": ["a", "b"]}), "Adam: its state in the file does not fit"),
    "a momentum of another shape": (tensor("optimizers/0/state/3/exp_avg", torch.zeros(7)), "Adam: its state in the file does not fit"),
    "a scheduler's own method": (
        setting("schedulers", 0, "state", "dict", 0, to=["get_lr", "x"]),
        "StepLR: its state in the file does not fit",
    ),
    "a moving average of another shape": (tensor("ema/n_averaged", torch.zeros(3)), "the moving average of the weights: its state"),
    "a moving average that is a number": (setting("ema", to=1), "the moving average of the weights: its state"),
    "random states that are short": (tensor("random/cpu", RANDOM), "its random state is none of torch's"),
    "random states that are zeros": (tensor("random/cpu", torch.zeros(5056, dtype=torch.uint8)), "its random state is none of torch's"),
    "random states of no kind": (setting("random", to={"dict": [["cpu", 1]]}), "its random state is none of torch's"),
    "no random states": (setting("random", to={"dict": []}), "its random state is none of torch's"),
    "a list for extra": (setting("extra", to=[1]), "extra is a list|extra is a list, not a dict"),
    "a weight too many": (tensor("weights/\x1b[2J", torch.zeros(1)), r"\?\[2J: only in the file"),
}


def whole_file():
    model = vae(scheduler="StepLR", ema=True)
    steps(model, 2)
    with tempfile.TemporaryDirectory() as folder:
        return model.save(Path(folder) / "a").read_bytes()


@pytest.fixture(scope="module")
def saved():
    return whole_file()


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_file_is_an_error_and_changes_nothing(fault, saved, tmp_path):
    change, message = HOSTILE[fault]
    path = tmp_path / "a.safetensors"
    path.write_bytes(saved)
    rewritten(path, change)
    model = disturbed(vae(scheduler="StepLR", ema=True))
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=message) as caught:
        model.load(path)
    assert str(path) in str(caught.value)
    assert "Nothing was loaded" in str(caught.value)
    assert str(caught.value).replace("\n", "").isprintable()
    assert same(snapshot(model), before)


@pytest.mark.parametrize("content", [b"", b"x", b"\x80\x04." * 50, b"PK\x03\x04" * 99, b"\xff" * 99, (2**40).to_bytes(8, "little") + b"{}"])
def test_what_is_no_checkpoint(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CheckpointError, match="is no checkpoint, or it is cut off"):
        vae().load(tmp_path / "a")


def test_a_file_that_is_cut_off_anywhere(saved, tmp_path):
    model = disturbed(vae(scheduler="StepLR", ema=True))
    before = snapshot(model)
    for end in [*range(0, 64, 8), *range(64, len(saved), len(saved) // 60), len(saved) - 1]:
        (tmp_path / "a").write_bytes(saved[:end])
        with pytest.raises(CheckpointError, match="cut off"):
            model.load(tmp_path / "a")
    assert same(snapshot(model), before)


def test_a_header_with_other_bytes_loads_or_is_an_error_that_changes_nothing(saved, tmp_path):
    model = disturbed(vae(scheduler="StepLR", ema=True))
    before = snapshot(model)
    size = int.from_bytes(saved[:8], "little")
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for _ in range(150):
        place, byte = (int(torch.randint(n, (), generator=generator)) for n in (8 + size, 256))
        (tmp_path / "a").write_bytes(saved[:place] + bytes([byte]) + saved[place + 1 :])
        try:
            model.load(tmp_path / "a")
        except CheckpointError:
            refused += 1
        else:  # a learning rate of another digit is a learning rate
            model = disturbed(vae(scheduler="StepLR", ema=True))
            before = snapshot(model)
        assert same(snapshot(model), before)
    assert refused > 50


@pytest.mark.parametrize("owner", ["optimizer", "scheduler", "ema"])
def test_a_state_that_its_owner_does_not_take_is_taken_back(owner, saved, tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(saved)
    model = disturbed(vae(scheduler="StepLR", ema=True))
    before = snapshot(model)
    kind = {"optimizer": optim.Adam, "scheduler": lr_scheduler.StepLR, "ema": AveragedModel}[owner]
    original, calls = kind.load_state_dict, []

    def takes_it_and_fails(self, state):
        original(self, state)
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("not this one")

    monkeypatch.setattr(kind, "load_state_dict", takes_it_and_fails)
    with pytest.raises(CheckpointError, match=r"is damaged: .* does not take its state, not this one\. Nothing was loaded"):
        model.load(tmp_path / "a")
    assert same(snapshot(model), before)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        vae().load(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint .*step_\{step\} yet"):
        vae().load(tmp_path / "none" / "step_{step}")
    with pytest.raises(OSError):
        vae().load(tmp_path)


# A series


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_of_a_series_are_kept(tmp_path):
    model, series = vae(), tmp_path / "runs" / "step_{step:03d}.safetensors"
    for _ in range(5):
        steps(model, 1)
        assert model.save(series, keep=2) == tmp_path / "runs" / f"step_{model.step_count:03d}.safetensors"
    assert files(tmp_path / "runs") == ["step_004.safetensors", "step_005.safetensors"]
    assert vae().load(series).step_count == 5
    early = vae()
    steps(early, 1)
    early.save(series, keep=1)  # a run that began anew does not lose what it has just saved, nor the other run
    assert files(tmp_path / "runs") == ["step_001.safetensors", "step_004.safetensors", "step_005.safetensors"]


def test_the_greatest_number_is_the_newest(tmp_path):
    for step in (9, 10, 100):
        model = vae()
        model.step_count = step
        model.save(tmp_path / "a{step}")
    (tmp_path / "a1000.bak").write_bytes(b"")
    (tmp_path / "ab2000").write_bytes(b"")
    assert vae().load(tmp_path / "a{step}").step_count == 100
    assert vae().load(tmp_path / "a9").step_count == 9


@pytest.mark.parametrize(
    ("name", "keep", "message"),
    [
        (
            "a.safetensors",
            3,
            r"keep=3 keeps the last 3 of numbered files, but .*a.safetensors has no \{step\} in its name. Write '.*a_\{step\}.safetensors'",
        ),
        ("a{step}", 0, "keep must be a positive integer; got 0"),
        ("a{step}", True, "keep must be a positive integer; got True"),
        ("a{epoch}", None, r"may have one field, \{step\}"),
        ("a{step}{step}", None, r"may have one field, \{step\}"),
        ("a{step:.2f}", None, r"may have one field, \{step\}"),
        ("a{step", None, "is not to be read"),
    ],
)
def test_names_that_are_no_series(name, keep, message, tmp_path):
    with pytest.raises(ParameterError, match=message):
        vae().save(tmp_path / name, keep=keep)
    assert not list(tmp_path.iterdir())


# Accidents while writing


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_previous_checkpoint(call, tmp_path, monkeypatch):
    model = vae()
    path = model.save(tmp_path / "a")
    before = path.read_bytes()
    steps(model, 1)
    calls = []

    def full(*args):
        calls.append(args)
        if call == "write" and len(calls) < 4:
            return original(args[0], bytes(args[1])[:50])  # a write may be short
        raise OSError(28, "No space left on device")

    original = getattr(os, call)
    monkeypatch.setattr(_atomic.os, call, full)
    with pytest.raises(
        OSError, match=r"No space left on device\. The file was not written, and what stood there before is as it was: '.*a'"
    ):
        model.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert files(tmp_path) == ["a"]


def test_a_file_that_may_not_grow_leaves_the_previous_checkpoint(tmp_path):
    """The same, by the operating system."""
    program = """
        import resource, sys
        import torch
        from pixyz.distributions import Normal
        from pixyz.models import ML
        model = ML(Normal("p(x|z)", loc=torch.nn.Linear(99, 99), scale=1.0))
        model.save(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))
        model.step_count = 7
        try:
            model.save(sys.argv[1])
        except OSError as error:
            print(error)
        print(model.load(sys.argv[1]).step_count)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), tmp_path / "a"], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\[Errno 27\] File too large\. The file was not written, .*\n0\n", done.stdout)
    assert files(tmp_path) == ["a"]


KILLS = """
    import os, signal, sys, time
    import torch
    from pixyz.distributions import Normal
    from pixyz.models import ML
    torch.set_num_threads(1)  # the threads of a pool are not there after a fork
    path = sys.argv[1]
    for kill in range(8):
        model = ML(Normal("p(x|z)", loc=torch.nn.Linear(1000, 1000), scale=1.0))
        ours, theirs = os.pipe()
        child = os.fork()
        while not child:
            model.step_count += 1
            with torch.no_grad():
                for w in model.trained_parameters:
                    w.fill_(model.step_count)
            model.save(path)
            os.write(theirs, b".")
        os.close(theirs)
        saved = 0
        while saved < 3:
            saved += len(os.read(ours, 1)) or sys.exit("the child is gone")
        time.sleep(0.002 * kill)  # somewhere in the next save, or the one after
        os.kill(child, signal.SIGKILL)
        while more := os.read(ours, 99):
            saved += len(more)
        os.waitpid(child, 0)
        found = model.load(path).step_count
        whole = all([bool((w == found).all()) for w in model.trained_parameters])
        left = len(os.listdir(os.path.dirname(path)))
        print(found in (saved, saved + 1), whole, left, flush=True)
    model.save(path)
    print(os.listdir(os.path.dirname(path)))
"""


def test_a_process_that_is_killed_while_saving_leaves_a_whole_checkpoint(tmp_path):
    """Linux only: the processes are forked, so that torch is imported once."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLS), tmp_path / "a"], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    *kills, last = done.stdout.splitlines()
    assert len(kills) == 8
    assert all(line.startswith("True True") for line in kills), done.stdout
    assert any(line.endswith(" 2") for line in kills), "no kill came in the middle of a save"
    assert last == "['a']"  # what the killed ones had begun is gone


def test_the_unfinished_files_of_other_machines_and_living_processes_stay(tmp_path):
    node = _atomic.platform.node()
    names = [".b.partial-elsewhere-1", f".b.partial-{node}-{os.getppid()}", "partial", ".partial-x"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, timeout=200)
    (tmp_path / f".b.partial-{node}-{int(done.stdout)}").write_bytes(b"")
    vae().save(tmp_path / "a")
    assert files(tmp_path) == sorted(["a", *names])
