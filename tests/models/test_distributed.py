"""Several processes: data parallel and sharded training, against one process with the whole batch."""

import os

import pytest
import torch
import torch.nn.functional as F
from children import result_of, run_group
from torch import nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict, set_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from pixyz.core import LogProb
from pixyz.distributions import Bernoulli, Categorical, Deterministic, MixtureModel, Normal
from pixyz.losses import ELBO, NLL, KullbackLeibler
from pixyz.models import Model

PROCESSES, STEPS, BATCH = 2, 20, 8


def mixture():
    """A mixture of normals by maximum likelihood: a loss that draws nothing."""
    torch.manual_seed(0)
    weights = Categorical("p(k)", logits=nn.Parameter(torch.zeros(3)))
    parts = [Normal(loc=nn.Parameter(torch.randn(2)), scale=nn.Parameter(torch.ones(2)), name=f"p_{i}") for i in range(3)]
    return NLL(MixtureModel(parts, weights)).mean(), {"x": torch.randn(STEPS, BATCH, 2)}


def autoencoder():
    """A VAE whose noise is a value, and z computed from it, so that processes draw what one process draws."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4))

    def heads(x):
        loc, scale = encoder(x).chunk(2, -1)
        return {"loc": loc, "scale": F.softplus(scale) + 0.1}

    class Encoder(Normal):
        def __init__(self):
            super().__init__(var=["z"], cond_var=["x"], name="q")
            self.net = encoder

        def forward(self, x):
            return heads(x)

    class Reparametrised(Deterministic):
        def __init__(self):
            super().__init__(var=["z"], cond_var=["x", "e"], name="g")
            self.net = encoder

        def forward(self, x, e):
            h = heads(x)
            return {"z": h["loc"] + h["scale"] * e}

    q, p = Encoder(), Bernoulli("p(x|z)", logits=nn.Linear(2, 5))
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    bound = LogProb(p).expectation(Reparametrised()) - KullbackLeibler(q, prior)
    return -bound.mean(), {"x": torch.rand(STEPS, BATCH, 5).round(), "e": torch.randn(STEPS, BATCH, 2)}


MODELS = {"mixture": mixture, "autoencoder": autoencoder}


def train(module, loss, data, share=slice(None)):
    """Plain steps of gradient descent on a share of every batch."""
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    for t in range(STEPS):
        optimizer.zero_grad()
        module({v: d[t][share] for v, d in data.items()}).backward()
        optimizer.step()
    return optimizer


def share_of(rank):
    return slice(rank * BATCH // PROCESSES, (rank + 1) * BATCH // PROCESSES)


def data_parallel(rank, folder):
    found = {}
    for name, make in MODELS.items():
        loss, data = make()
        train(DistributedDataParallel(loss), loss, data, share_of(rank))
        found[name] = loss.state_dict()
    if rank == 0:
        torch.save(found, f"{folder}/weights.pt")


def vae():
    """An ordinary VAE, that draws."""
    torch.manual_seed(0)
    p = Bernoulli("p(x|z)", logits=nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 6)))
    q = Normal("q(z|x)", loc=nn.Linear(6, 2), scale=0.5)
    pattern = torch.tensor([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
    return -ELBO(p * Normal("p(z)", loc=0.0, scale=1.0, dim=2), q).mean(), {"x": pattern.repeat(STEPS, BATCH // 2, 1)}


def sharded(rank, folder):
    loss, data = vae()
    for leaf in loss.children():
        if any(True for _ in leaf.parameters()):
            fully_shard(leaf)
    fully_shard(loss)
    assert all(isinstance(w, DTensor) for w in loss.parameters())
    torch.manual_seed(rank)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    values = []
    for t in range(STEPS * 5):
        optimizer.zero_grad()
        value = loss({v: d[t % STEPS][share_of(rank)] for v, d in data.items()})
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert sum(values[-10:]) < 0.8 * sum(values[:10])
    dcp.save(
        {"loss": get_model_state_dict(loss), "optimizer": get_optimizer_state_dict(loss, optimizer)}, checkpoint_id=f"{folder}/sharded"
    )
    whole = {k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in loss.state_dict().items()}
    if rank == 0:
        torch.save(whole, f"{folder}/weights.pt")


def in_a_group(rank, port, work, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(PROCESSES))
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    work(rank, folder)
    torch.distributed.destroy_process_group()


def on_two_processes(work, folder):
    run_group(in_a_group, PROCESSES, work, str(folder))
    return torch.load(f"{folder}/weights.pt")


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


def test_data_parallel_training_is_that_of_the_whole_batch(tmp_path):
    found = on_two_processes(data_parallel, tmp_path)
    for name, make in MODELS.items():
        loss, data = make()
        start = {k: v.clone() for k, v in loss.state_dict().items()}
        train(loss, loss, data)
        assert any(not torch.equal(start[k], w) for k, w in loss.state_dict().items())
        for key, weight in loss.state_dict().items():
            torch.testing.assert_close(found[name][key], weight, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # which is what is meant here
def test_sharded_training_and_its_checkpoint_in_one_process(tmp_path):
    whole = on_two_processes(sharded, tmp_path)
    loss, _ = vae()
    state = {"loss": get_model_state_dict(loss)}
    dcp.load(state, checkpoint_id=tmp_path / "sharded", no_dist=True)
    set_model_state_dict(loss, state["loss"])
    assert loss.state_dict().keys() == whole.keys()
    for key, weight in loss.state_dict().items():
        assert torch.equal(weight, whole[key]), key


def build():
    loss, _ = mixture()
    return Model(loss, optimizer=torch.optim.SGD, optimizer_params={"lr": 0.1})


def fit(model, **options):
    torch.manual_seed(1)
    x = torch.randn(32, 2)
    return model.fit({"x": x}, epochs=3, validation={"x": x[:10]}, progress=False, **options)


def fit_and_resume(folder, strategy):
    """What the main process of a program does, which Lightning runs on two processes."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    model = build()
    options = {
        "accelerator": "cpu",
        "devices": PROCESSES,
        "strategy": strategy,
        "save": f"{folder}/a_{{step}}",
        "save_every": 3,
        "keep": None,
    }
    history = fit(model, batch_size=4, **options)
    assert model.step_count == 12
    resumed = build()
    fit(resumed, batch_size=4, resume=f"{folder}/a_6", **options)
    for a, b in zip(model.trained_parameters, resumed.trained_parameters, strict=True):
        assert torch.equal(a, b)
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        torch.save((model.loss.state_dict(), history.train, history.validation), f"{folder}/found.pt")


def fit_as_a_rank(rank, port, folder):
    """With the environment that Lightning gives each process that it starts, or a cluster does: then it starts none itself."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), NODE_RANK="0", LOCAL_RANK=str(rank), WORLD_SIZE=str(PROCESSES))
    fit_and_resume(folder, "ddp")


STRATEGIES = {
    "ddp": lambda folder: run_group(fit_as_a_rank, PROCESSES, folder),
    "ddp_fork": lambda folder: result_of(fit_and_resume, folder, "ddp_fork"),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fit_on_two_processes_is_fit_with_the_whole_batch(strategy, tmp_path):
    STRATEGIES[strategy](str(tmp_path))
    weights, train_losses, validation = torch.load(tmp_path / "found.pt")
    model = build()
    history = fit(model, batch_size=8)
    for name, weight in model.loss.state_dict().items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-10, atol=1e-10)
    assert train_losses == pytest.approx(history.train, abs=1e-10)
    assert validation == pytest.approx(history.validation, abs=1e-10)
