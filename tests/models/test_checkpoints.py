"""Checkpoints: saved and loaded, training goes on as if it had never stopped, and every number keeps its bits."""

import json
from collections import Counter

import pytest
import torch
from checkpointed import OPTIMIZERS, SCHEDULERS, X, disturbed, same, snapshot, steps, vae
from torch import nn, optim
from zoo import Decoder, Encoder, prior

from pixyz.core import CheckpointError, KindError, seeded
from pixyz.distributions import Normal
from pixyz.losses import NLL, KullbackLeibler
from pixyz.models import ML, VI, Model

safetensors = pytest.importorskip("safetensors", reason="checkpoints are read by safetensors")
load_file = pytest.importorskip("safetensors.torch").load_file

WITH_EVERY_SCHEDULER = ("Adam", "Adam tensor lr", "SGD momentum")
WITH_EVERY_OPTIMIZER = ("none", "OneCycleLR", "ReduceLROnPlateau")
PAIRS = [(o, s) for o in OPTIMIZERS for s in SCHEDULERS if o in WITH_EVERY_SCHEDULER or s in WITH_EVERY_OPTIMIZER]


@pytest.mark.gpu
@pytest.mark.parametrize(("optimizer", "scheduler"), PAIRS)
def test_training_goes_on_as_if_it_had_never_stopped(optimizer, scheduler, tmp_path, device):
    model = vae(optimizer, scheduler, device=device)
    steps(model, 5)
    model.save(tmp_path / "a.safetensors")
    saved = snapshot(model)
    expected = steps(model, 6)
    end = snapshot(model)

    fresh = disturbed(vae(optimizer, scheduler, device=device))
    assert not same(snapshot(fresh), saved)
    fresh.load(tmp_path / "a.safetensors")
    assert same(snapshot(fresh), saved)
    assert steps(fresh, 6) == expected
    assert same(snapshot(fresh), end)


@pytest.mark.parametrize("length", range(8))
def test_tensors_begin_at_a_multiple_of_eight_bytes(length, tmp_path):
    """As the format asks, whatever the texts are: who maps the file into memory reads them where they are."""
    model = ML(Normal("p(x)", loc=nn.Parameter(torch.zeros(1)), scale=1.0))
    content = model.save(tmp_path / "a", extra={"note": "n" * length}).read_bytes()
    header = int.from_bytes(content[:8], "little")
    assert header % 8 == 0
    assert not content[header : 8 + header].isspace()


@pytest.mark.gpu
def test_the_moving_average_goes_on(tmp_path, device):
    model = vae(ema=True, device=device)
    steps(model, 3)
    model.save(tmp_path / "a")
    steps(model, 3)
    fresh = disturbed(vae(ema=True, device=device))
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
        return {"loc": self.loc_of, "scale": torch.ones_like(self.loc_of)}


def bits(tensor):
    return tensor.cpu().contiguous().view(-1).view(torch.uint8).tolist() if tensor.numel() else []


@pytest.mark.gpu
def test_every_dtype_keeps_its_bits(tmp_path, device):
    a, b = ML(Odd(1).to(device)), ML(Odd(2).to(device))
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
    with pytest.raises(KindError, match="^Two tensors would be called extra/a/b; a checkpoint needs keys without '/'"):
        vae().save(tmp_path / "a", extra={"a/b": torch.zeros(1), "a": {"b": torch.zeros(1)}})
    assert not list(tmp_path.iterdir())
    with pytest.raises(KindError, match="extra must be a mapping"):
        vae().save(tmp_path / "a", extra=[1])


class Counting(nn.Linear):
    """A network whose state has a number."""

    def get_extra_state(self):
        return 3

    def set_extra_state(self, state):
        pass


def test_a_state_that_is_no_tensor_is_refused(tmp_path):
    model = ML(Normal("p(x|z)", loc=Counting(2, 2), scale=1.0))
    with pytest.raises(KindError, match=r"loc\._extra_state is a int; a checkpoint holds tensors\. Leave get_extra_state out of"):
        model.save(tmp_path / "a")


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
    with safetensors.safe_open(path, "pt") as file:
        texts = file.metadata()
    assert texts["formula"] == str(model.loss) == "-mean(E_q(z|x)[log p(x,z)/q(z|x)])"
    lines = texts["signature"].splitlines()
    assert {"q(z|x).fc1.weight: float32 (8, 6)", "Adam of 10 parameters"} <= {*lines}
    assert lines[0] == str(model.loss)


@pytest.mark.parametrize("length", range(1, 9))
def test_every_tensor_is_aligned_in_the_file(length, tmp_path):
    """The header's length is a multiple of 8, whatever the names are, and the larger numbers come first."""
    path = vae().save(tmp_path / "a", extra={"k" * length: 1})
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + size])
    assert size % 8 == 0
    assert size < len(json.dumps(header, ensure_ascii=False).encode()) + 8
    numbers = {"F64": 8, "I64": 8, "F32": 4, "U8": 1, "BOOL": 1}
    assert all(t["data_offsets"][0] % numbers[t["dtype"]] == 0 for name, t in header.items() if name != "__metadata__")


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


@pytest.mark.gpu
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
