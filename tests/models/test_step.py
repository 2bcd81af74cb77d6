"""One step: compiled, fused and masked ones against plain ones; what is not finite; memory."""

import copy
import ctypes
import gc
import inspect
import statistics
import sys
from itertools import pairwise

import pytest
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import ExponentialLR
from zoo import Decoder, Encoder, Label, binary, prior

import pixyz.models._finite
from pixyz.core import NonFiniteLossError, Parameter, seeded
from pixyz.distributions import Normal
from pixyz.losses import ELBO, NLL
from pixyz.models import ML, VAE, VI, Model

EAGER = {"backend": "eager"}  # traces as every backend does, without a compiler

FUSED = {"Adam": optim.Adam, "AdamW": optim.AdamW, "SGD": optim.SGD, "Adagrad": optim.Adagrad}
COMPILED = {"RMSprop": optim.RMSprop, "NAdam": optim.NAdam, "Adamax": optim.Adamax, "Adadelta": optim.Adadelta}
OTHERS = {"RAdam": optim.RAdam, "ASGD": optim.ASGD, "Rprop": optim.Rprop}


X, Y = binary(), torch.eye(3)[[0, 1, 2, 0, 1]]


def plainly(options):
    """The options of a step as plain as torch can take it."""
    plain = {k: v for k, v in options.items() if k != "compile"}
    if "foreach" in inspect.signature(options["optimizer"]).parameters:
        plain["optimizer_params"] = {**plain.get("optimizer_params", {}), "foreach": False}
    return plain


def two_bounds(**options):
    """A bound's model made with the options, and one of copies that takes its steps as plainly as torch can."""
    p, q = Decoder(), Encoder()
    p2, q2 = copy.deepcopy(p), copy.deepcopy(q)
    z = prior().to(p.fc1.weight)
    return VI(p * z, q, **options), VI(p2 * z, q2, **plainly(options)), {"x": X.to(p.fc1.weight)}


def two_classifiers(**options):
    """The same of a model of two tensors, which is traced in a fraction of the time."""
    f = Label()
    f2 = copy.deepcopy(f)
    return ML(f, **options), ML(f2, **plainly(options)), {"x": X.to(f.fc.weight), "y": Y.to(f.fc.weight)}


def assert_same_weights(a, b, atol):
    for v, w in zip(a.trained_parameters, b.trained_parameters, strict=True):
        torch.testing.assert_close(v, w, rtol=0, atol=atol)


# A fused step is not compiled, so that compiling says the same of each of them; of the others each is a graph of its own.
STEPS = [
    *[(kind, False, two_bounds) for kind in (*FUSED, *COMPILED)],
    ("Adam", EAGER, two_bounds),
    *[(kind, EAGER, two_classifiers) for kind in COMPILED],
]


@pytest.mark.parametrize(("kind", "compile", "two_of"), STEPS, ids=[f"{kind}-{'compile' if c else 'eager'}" for kind, c, _ in STEPS])
def test_a_fast_step_equals_the_plain_one(kind, compile, two_of):
    torch.set_default_dtype(torch.float64)
    make = {**FUSED, **COMPILED}[kind]
    options = {"optimizer": make, "optimizer_params": {"lr": 1e-2}, "scheduler": ExponentialLR, "scheduler_params": {"gamma": 0.9}}
    fast, plain, values = two_of(compile=compile, ema=0.9, clip_grad_norm=1.0, **options)
    plain.clip_grad_norm = 1.0
    for i in range(12):
        with seeded(i):
            a = fast.train(values)
        with seeded(i):
            b = plain.train(values)
        assert a.item() == pytest.approx(b.item(), abs=1e-10)
    assert_same_weights(fast, plain, 1e-10)
    assert bool(fast.optimizer.param_groups[0].get("fused")) == (kind in FUSED)
    assert not plain.optimizer.param_groups[0].get("fused")


def test_a_schedule_of_learning_rates_is_one_graph():
    """Of the step: one graph when the state is made, one afterwards."""
    counted = []

    def backend(graph, inputs):
        counted.append(graph)
        return graph.forward

    f = Label()
    model = ML(f, optimizer=optim.RMSprop, scheduler=ExponentialLR, scheduler_params={"gamma": 0.9}, compile={"backend": backend})
    values = {"x": binary(), "y": torch.eye(3)[[0, 1, 2, 0, 1]]}
    for _ in range(3):
        model.train(values)
    before = len(counted)
    for _ in range(12):
        model.train(values)
    assert len(counted) == before
    assert float(model.optimizer.param_groups[0]["lr"]) == pytest.approx(1e-2 * 0.9**15)


@pytest.mark.parametrize("kind", [optim.Adam, optim.RMSprop], ids=["fused", "compiled"])
@pytest.mark.parametrize("compile", [False, EAGER], ids=["eager", "compile"])
def test_a_scheduler_may_be_made_outside(kind, compile):
    model = ML(Label(), optimizer=kind, optimizer_params={"lr": 0.1}, compile=compile)
    scheduler = ExponentialLR(model.optimizer, gamma=0.5)
    for _ in range(2):
        model.train({"x": binary(), "y": torch.eye(3)[[0, 1, 2, 0, 1]]})
        scheduler.step()
    assert float(model.optimizer.param_groups[0]["lr"]) == pytest.approx(0.025)


def test_what_the_user_says_of_the_optimiser_rules():
    model = ML(Label(), optimizer_params={"foreach": True}, compile=EAGER)
    assert not model.optimizer.param_groups[0]["fused"]


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adagrad, optim.SparseAdam])
def test_gradients_may_be_sparse(kind):
    table = nn.Embedding(4, 1, sparse=True)
    model = ML(Normal("p(x|k)", loc=table, scale=1.0), optimizer=kind, optimizer_params={"lr": 0.1})
    before = table.weight.detach().clone()
    model.train({"x": torch.full((3, 1), 9.0), "k": torch.tensor([0, 1, 1])})
    assert table.weight.grad.is_sparse
    assert (table.weight.detach() > before).squeeze(1).tolist() == [True, True, False, False]
    with pytest.raises(NonFiniteLossError, match="nan"):
        model.train({"x": torch.full((3, 1), torch.nan), "k": torch.tensor([0, 1, 1])})


def test_an_optimiser_of_ones_own_is_not_compiled():
    class Own(optim.Optimizer):
        def __init__(self, weights):
            super().__init__(weights, {})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for w in group["params"]:
                    w -= 0.1 * w.grad
                    torch._dynamo.graph_break()

    fast, plain, values = two_classifiers(optimizer=Own, compile=EAGER)
    for model in (fast, plain):
        model.train(values)
    assert_same_weights(fast, plain, 1e-6)


def test_a_compiled_model_says_so():
    assert str(ML(Label(), compile=EAGER)).endswith("\n  compiled:   the loss and the step")


def test_a_gradient_that_is_not_finite_is_named_and_not_stepped():
    class Root(Normal):
        """Its mean is 0 at the start, where the root has no derivative."""

        def __init__(self):
            super().__init__(var=["x"], cond_var=["z"])
            self.w = nn.Parameter(torch.zeros(2))

        def forward(self, z):
            return {"loc": z * self.w.abs().sqrt(), "scale": torch.ones_like(z)}

    p = Root()
    model = Model(NLL(p).mean(), accumulate=2)
    values = {"x": torch.ones(3, 2), "z": torch.ones(3, 2)}
    model.train(values)
    with pytest.raises(
        NonFiniteLossError, match=r"^The loss is finite, but its gradient with respect to p\(x\|z\)\.w is nan\. The optimiser has"
    ):
        model.train(values)
    assert torch.equal(p.w, torch.zeros(2))
    with torch.no_grad():
        p.w.fill_(1.0)
    model.train(values)
    model.train(values)
    assert model.step_count == 1
    assert p.w.isfinite().all()


def weighted_bound(**options):
    p, q = Decoder(), Encoder()
    return Model((Parameter("beta") * -ELBO(p * prior(), q)).mean(), **options)


def weighted_classifier(**options):
    return Model((Parameter("beta") * NLL(Label())).mean(), **options)


def given(model, beta):
    return {**{v: {"x": X, "y": Y}[v] for v in model.loss.input_var if v != "beta"}, "beta": beta}


def state_of(model):
    """All that a step changes."""
    return copy.deepcopy([[w.detach() for w in model.trained_parameters], [*model.optimizer.state.values()]])


MASKED = [
    *[(kind, False, weighted_bound) for kind in (*FUSED, *COMPILED, *OTHERS)],
    ("Adam", EAGER, weighted_bound),
    *[(kind, EAGER, weighted_classifier) for kind in (*COMPILED, *OTHERS)],
]


@pytest.mark.parametrize(("kind", "compile", "build"), MASKED, ids=[f"{kind}-{'compile' if c else 'eager'}" for kind, c, _ in MASKED])
def test_a_step_that_is_not_finite_changes_nothing_on_the_device(kind, compile, build):
    make = {**FUSED, **COMPILED, **OTHERS}[kind]
    params = {"momentum": 0.9} if kind == "SGD" else {}
    model = build(optimizer=make, optimizer_params={"lr": 1e-2, **params}, compile=compile, validate="deferred")
    for _ in range(3):
        model.train(given(model, 1.0))
    before = state_of(model)
    model.train(given(model, float("nan")))
    torch.testing.assert_close(state_of(model), before, rtol=0, atol=0)
    with pytest.raises(NonFiniteLossError, match=r"^beta is nan, so mean\(.*\) is not finite\. The weights are those before this step"):
        model.train(given(model, 1.0))
    torch.testing.assert_close(state_of(model), before, rtol=0, atol=0)
    model.train(given(model, 1.0))
    model.check()
    assert not torch.equal(before[0][0], model.trained_parameters[0])


def test_a_loss_that_is_not_finite_is_left_out_where_its_gradient_is_finite():
    model = Model(
        (NLL(Label()) + Parameter("c")).mean(), optimizer=optim.SGD, optimizer_params={"lr": 0.1, "momentum": 0.9}, validate="deferred"
    )
    model.train({"x": X, "y": Y, "c": 0.0})
    before = state_of(model)
    model.train({"x": X, "y": Y, "c": float("inf")})
    torch.testing.assert_close(state_of(model), before, rtol=0, atol=0)
    with pytest.raises(NonFiniteLossError, match="^c is infinite"):
        model.check()


class Clock:
    """An event that is there when it is told, or waited for."""

    def __init__(self):
        self.there = self.waited = False

    def query(self):
        return self.there

    def synchronize(self):
        self.there = self.waited = True


@pytest.fixture
def clocks(monkeypatch):
    """The events of the flags that are on their way to the host, in their order."""
    found = []

    def send(flags):
        found.append(Clock())
        return flags, found[-1]

    monkeypatch.setattr(pixyz.models._finite, "_send", send)
    return found


@pytest.mark.parametrize("read", [Model.check, lambda model: model.test(given(model, 1.0))], ids=["check", "test"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_first_step_is_left_out_as_well(clocks, read, accumulate):
    model = weighted_bound(
        optimizer=optim.SGD, optimizer_params={"lr": 0.1, "momentum": 0.9, "fused": True}, accumulate=accumulate, validate="deferred"
    )
    before = state_of(model)
    for i in range(accumulate):
        model.train(given(model, 1.0 if i else float("inf")))
    torch.testing.assert_close(state_of(model), before, rtol=0, atol=0)
    assert not any(clock.waited for clock in clocks)
    with pytest.raises(NonFiniteLossError, match="is not finite"):
        read(model)
    read(model)


@pytest.mark.parametrize("call", [0, 1])
def test_a_bad_loss_in_any_call_of_a_step_leaves_it_out(clocks, call):
    """Its gradient is finite, so that the gradients of the step do not tell."""
    loss = (NLL(Label()) + Parameter("c")).mean()
    model = Model(loss, optimizer=optim.SGD, optimizer_params={"lr": 0.1, "momentum": 0.9}, accumulate=2, validate="deferred")
    for _ in range(2):
        model.train({"x": X, "y": Y, "c": 0.0})
    before = state_of(model)
    for number in range(2):
        model.train({"x": X, "y": Y, "c": float("inf") if number == call else 0.0})
    torch.testing.assert_close(state_of(model), before, rtol=0, atol=0)
    with pytest.raises(NonFiniteLossError, match="^c is infinite"):
        model.check()


def test_steps_after_a_bad_one_are_left_out_until_the_host_knows(clocks):
    model = weighted_bound(optimizer_params={"fused": True}, validate="deferred")
    model.train(given(model, 1.0))
    before = state_of(model)
    model.train(given(model, float("nan")))
    model.train(given(model, 1.0))
    assert [clock.waited for clock in clocks] == [True, False, False]
    torch.testing.assert_close(state_of(model), before, rtol=0, atol=0)
    with pytest.raises(NonFiniteLossError, match="^beta is nan"):
        model.train(given(model, 1.0))
    torch.testing.assert_close(state_of(model), before, rtol=0, atol=0)
    for _ in range(4):
        model.train(given(model, 1.0))
    assert [clock.waited for clock in clocks[-4:]] == [True, True, False, False]
    model.check()


def test_the_weights_of_the_step_before_are_kept():
    p, q = Decoder(), Encoder()
    model = VAE(q, p, prior(), ema=0.9)
    x = binary()
    for _ in range(20):
        model.train({"x": x})
    before = copy.deepcopy((model.loss.state_dict(), model.optimizer.state_dict(), model.ema.state_dict()))
    with pytest.raises(NonFiniteLossError):
        model.train({"x": x * float("nan")})
    torch.testing.assert_close((model.loss.state_dict(), model.optimizer.state_dict(), model.ema.state_dict()), before, rtol=0, atol=0)
    assert model.step_count == 20


class Allocated(ctypes.Structure):
    """What `mallinfo2` returns."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "in_use", "fordblks", "keepcost")
    ]


def allocated(mallinfo2):
    """How many blocks Python has allocated, and how many bytes the C library."""
    gc.collect()
    found = mallinfo2()
    return sys.getallocatedblocks(), found.in_use + found.hblkhd


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the allocated bytes are counted by glibc")
def test_steps_leave_nothing_allocated():
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Allocated
    p = Normal(var=["x"], cond_var=["z"], loc=nn.Linear(2, 2), scale=1.0)
    q = Normal(var=["z"], cond_var=["x"], loc=nn.Linear(2, 2), scale=1.0, name="q")
    model = VI(p * prior(), q, optimizer=optim.SGD, optimizer_params={"lr": 1e-3}, ema=0.99)
    counts = []
    gc.collect()
    gc.freeze()  # what was there before is not looked through again and again
    for i in range(601):
        model.train({"x": torch.zeros(2, 2)})
        if i and i % 100 == 0:
            counts.append(allocated(mallinfo2))
    gc.unfreeze()
    # The median of the growth in a hundred steps: once in a while something of the past is freed, or a cache grows.
    blocks, size = (statistics.median(b - a for a, b in pairwise(column)) for column in zip(*counts, strict=True))
    assert blocks < 50  # half an object a step
    assert size < 100 * 16  # the least that malloc hands out
